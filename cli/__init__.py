"""The ``whyadam`` command: a file per subcommand that parses arguments and prints; add a new one to the list below.

Heavy imports stay inside the functions of the subcommands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import sys
from typing import Annotated

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
) -> None:
    """Options of the command itself."""


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
    """Run the command; an error of the user ends in one line and exit code 2, an error of the system in 1."""
    from ..errors import UserError, printable
    from ..memory import keep_freed_memory

    keep_freed_memory()
    try:
        app()
    except (UserError, OSError) as error:
        print(f"whyadam: {printable(str(error))}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UserError) else 1)
    except KeyboardInterrupt:
        sys.exit(130)
