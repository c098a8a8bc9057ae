"""All benchmarks, one after another, and their ratios in one table in docs/benchmarks.md: `make bench`.

On a machine that is otherwise idle; it takes three quarters of an hour. Interrupted, it goes on where it was. Names of
benchmarks do some of them only; the page then has these alone.
"""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
from pathlib import Path

from benching import ROWS, Ratio, machine, recorded

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "docs" / "benchmarks.md"
BENCHES = ("optimizers", "training", "noise", "sweep", "hessian")
BEGIN, END = "<!-- written by make bench: begin -->\n", "<!-- written by make bench: end -->\n"


def run(bench: str, rows: Path) -> None:
    """Do a benchmark, which prints more than its ratios; ``rows`` is there once it has ended.

    Raises:
        CalledProcessError: it ended without any ratio.
    """
    print(f"\n== {bench}", flush=True)
    rows.parent.mkdir(parents=True, exist_ok=True)
    unfinished = rows.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    command = [sys.executable, str(FOLDER / f"bench_{bench}.py")]
    ended = subprocess.run(command, env=os.environ | {ROWS: str(unfinished)}, check=False)
    if not unfinished.exists():
        raise subprocess.CalledProcessError(ended.returncode or 1, command)
    unfinished.replace(rows)


def table(ratios: list[Ratio]) -> str:
    """A Markdown table."""
    lines = ["| measured / baseline | ratio | asked | | how |", "|---|---|---|---|---|"]
    for ratio in ratios:
        verdict = ("holds" if ratio.holds else "**missed**") if ratio.asked else ""
        lines.append(f"| {ratio.what} | {ratio.ratio:.3f} | {ratio.asked} | {verdict} | {ratio.how} |")
    return "\n".join(lines) + "\n"


def write(ratios: list[Ratio]) -> None:
    """Put the table and the machine into the page, between its marks."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    text = f"\n{datetime.date.today():%B %Y}; {machine()}.\n\n{table(ratios)}\n"
    PAGE.write_text(before + BEGIN + text + END + after, encoding="utf-8")


def main() -> int:
    """Run what is missing, print the table, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("benches", nargs="*", choices=[[], *BENCHES], help="all of them by default")
    chosen = parser.parse_args().benches or list(BENCHES)
    for bench in chosen:
        if not rows_of(bench).exists():
            run(bench, rows_of(bench))
    ratios = [ratio for bench in chosen for ratio in recorded(rows_of(bench))]
    print(f"\n{machine()}\n\n{table(ratios)}")
    write(ratios)
    print(f"written to {PAGE}")
    for bench in chosen:
        rows_of(bench).unlink()
    return int(not all(ratio.holds for ratio in ratios))


def rows_of(bench: str) -> Path:
    """Where the ratios of a benchmark lie until all have ended."""
    return FOLDER.parent / "build" / "bench" / f"{bench}.csv"


if __name__ == "__main__":
    sys.exit(main())
