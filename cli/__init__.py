"""The ``whyadam`` command: one file per subcommand, argument parsing and printing only.

Nothing heavy is imported here or at the top of a subcommand's file, so that ``--help`` answers at once.
"""

from __future__ import annotations

import sys
import traceback
from typing import Annotated

import typer

from . import best, diagnose, figure, hessian, listing, noise, report, reproduce, sweep, train, validate, verify

app = typer.Typer(
    name="whyadam",
    help="Why do adaptive methods beat SGD on attention models? Train, measure, draw, and see which claims hold.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
VERBOSE = ("-v", "--verbose")


@app.callback()
def _options(
    verbose: Annotated[
        bool, typer.Option(*VERBOSE, help="Show the traceback of an error; anywhere in a line.")
    ] = False,
) -> None:
    """Options of every command; ``main`` takes ``-v`` wherever it stands."""


app.command("train")(train.train)
app.command("sweep")(sweep.sweep)
app.command("best")(best.best)
app.command("noise")(noise.noise)
app.command("hessian")(hessian.hessian)
app.command("diagnose")(diagnose.diagnose)
app.command("reproduce")(reproduce.reproduce)
app.command("verify")(verify.verify)
app.command("report")(report.report)
app.command("validate")(validate.validate)
app.command("list")(listing.list_names)
app.add_typer(figure.app, name="figure")


def main() -> None:
    """Run the command; an error ends in one line and exit code 2 if it is the user's, else 1; ``-v`` shows where."""
    from ..memory import keep_freed_memory
    from ..user_code import describe_failure, user_code

    keep_freed_memory()
    arguments = [argument for argument in sys.argv[1:] if argument not in VERBOSE]
    try:
        with user_code():
            app(arguments)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if len(arguments) < len(sys.argv) - 1:
            traceback.print_exc()
        line, code = describe_failure(error)
        print(f"whyadam: {line}", file=sys.stderr)
        sys.exit(code)
