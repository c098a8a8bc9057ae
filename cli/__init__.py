"""The ``whyadam`` command: a file per subcommand that parses arguments and prints; add a new one to the list below.

Heavy imports stay inside the functions of the subcommands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import sys
import traceback
import warnings
from typing import Annotated, Any

import typer

from . import best, configs, diagnose, figure, hessian, noise, report, reproduce, sweep, train, verify

app = typer.Typer(
    name="whyadam",
    help="Why do adaptive methods beat SGD on attention models? Train, measure, draw, and see which claims hold.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
VERBOSE = ("-v", "--verbose")


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"whyadam {version('whyadam')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
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
app.command("validate")(configs.validate)
app.command("show")(configs.show)
app.command("path")(configs.path)
app.command("list")(configs.list_names)
app.add_typer(figure.app, name="figure")


def main() -> None:
    """Run the command; an error ends in one line and exit code 2 if it is the user's, else 1; ``-v`` shows where."""
    from ..errors import describe_failure, user_code
    from ..memory import keep_freed_memory

    keep_freed_memory()
    format_as_python = warnings.formatwarning

    def format_warning(message: Warning | str, category: type[Warning], *place: Any) -> str:
        is_for_users = issubclass(category, UserWarning)
        return f"warning: {message}\n" if is_for_users else format_as_python(message, category, *place)

    warnings.formatwarning = format_warning  # type: ignore[assignment]
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
