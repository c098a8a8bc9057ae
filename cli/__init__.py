"""The ``whyadam`` command: one file per subcommand, argument parsing and printing only.

Nothing heavy is imported here or at the top of a subcommand's file, so that ``--help`` answers at once.
"""

from __future__ import annotations

import sys

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
    """Run the command; a user error ends in one line and exit code 2, a failing disk or machine in 1."""
    from ..errors import UserError, printable
    from ..memory import keep_freed_memory

    keep_freed_memory()
    try:
        app()
    except UserError as error:
        print(f"whyadam: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"whyadam: {printable(str(error))}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
