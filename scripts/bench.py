"""All benchmarks one after another, and their ratios in a table in docs/benchmarks.md: `make bench`.

Needs an otherwise idle machine and three quarters of an hour; an interrupted run continues where it stopped. Arguments
select benchmarks by name, and the page then has only these. The bench_*.py files import their clock, medians and the
recording of ratios from here.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import torch

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "docs" / "benchmarks.md"
BENCHES = ("optimizers", "training", "noise", "sweep", "hessian")
BEGIN, END = "<!-- written by make bench: begin -->\n", "<!-- written by make bench: end -->\n"
ROWS = "WHYADAM_BENCH_ROWS"
"""Environment variable: a CSV file to which ``record`` appends."""


@dataclass(frozen=True)
class Ratio:
    """One line of the table: a measurement over its baseline, both from the same run.

    Attributes:
        what: what was measured, and against what.
        ratio: measurement over baseline.
        asked: upper or lower limit, as ``≤ 0.95``; empty if there is none.
        how: number of repetitions, clock and threads.
    """

    what: str
    ratio: float
    asked: str
    how: str

    @property
    def holds(self) -> bool:
        """Whether the ratio is within its limit."""
        if not self.asked:
            return True
        sign, limit = self.asked.split()
        return self.ratio <= float(limit) if sign == "≤" else self.ratio >= float(limit)


def record(*ratios: Ratio) -> int:
    """Print ratios and append them to the file that the environment names; an exit code, 1 if one misses its limit."""
    for ratio in ratios:
        asked = f", asked {ratio.asked}{'' if ratio.holds else ': missed'}" if ratio.asked else ""
        print(f"{ratio.what}: {ratio.ratio:.3f}{asked} ({ratio.how})", flush=True)
    if path := os.environ.get(ROWS):
        with Path(path).open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, [field.name for field in fields(Ratio)]).writerows(map(asdict, ratios))
    return int(not all(ratio.holds for ratio in ratios))


class Clock:
    """Processor time on one CPU thread, since other programs disturb it less; wall time otherwise."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        alone = device.type == "cpu" and torch.get_num_threads() == 1
        self._read = time.process_time if alone else time.perf_counter
        self.name = "processor time" if alone else "wall time"

    def seconds(self) -> float:
        """Seconds since an arbitrary moment, after all queued work of the device is done."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return self._read()


def medians(work: Mapping[str, Callable[[], object]], rounds: int, clock: Clock) -> dict[str, float]:
    """Median seconds of each function over interleaved rounds, after one warm-up round."""

    def seconds_of(run: Callable[[], object]) -> float:
        start = clock.seconds()
        run()
        return clock.seconds() - start

    return median_results({name: partial(seconds_of, run) for name, run in work.items()}, rounds)


def median_results(work: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Median result of each function over interleaved rounds, after one warm-up round."""
    results = [{name: run() for name, run in work.items()} for _ in range(rounds + 1)]
    return {name: statistics.median(result[name] for result in results[1:]) for name in work}


def run_with_threads(command: list[str], threads: Iterable[int], **environment: str) -> int:
    """Run a benchmark in a process for each number of threads; 1 if one of them failed."""
    environments = [os.environ | environment | {"OMP_NUM_THREADS": str(number)} for number in threads]
    endings = [subprocess.run(command, env=each, check=False).returncode for each in environments]
    return int(any(endings))


def threads_in_words(device: torch.device) -> str:
    """``GPU``, ``1 thread`` or ``2 threads``."""
    threads = torch.get_num_threads()
    return "GPU" if device.type == "cuda" else "1 thread" if threads == 1 else f"{threads} threads"


def machine() -> str:
    """Processor, cores, memory, GPU and versions in one line."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = f"{names[0]} ({platform.machine()})" if names else platform.machine()
    gibibytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = [f"{processor}, {os.cpu_count()} cores, {gibibytes:.0f} GiB"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    capability = torch.backends.cpu.get_cpu_capability()
    parts.append(f"{platform.system()}, Python {platform.python_version()}, torch {torch.__version__} ({capability})")
    return "; ".join(parts)


def run(bench: str, rows: Path) -> None:
    """Run a benchmark; ``rows`` exists once it has ended.

    Raises:
        CalledProcessError: it ended without recording a ratio.
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


def recorded(path: Path) -> list[Ratio]:
    """The ratios that ``record`` has appended to a file."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, [field.name for field in fields(Ratio)]))
    return [Ratio(row["what"], float(row["ratio"]), row["asked"], row["how"]) for row in rows]


def table(ratios: list[Ratio]) -> str:
    """The ratios as a Markdown table."""
    lines = ["| measured / baseline | ratio | asked | | how |", "|---|---|---|---|---|"]
    for ratio in ratios:
        verdict = ("holds" if ratio.holds else "**missed**") if ratio.asked else ""
        lines.append(f"| {ratio.what} | {ratio.ratio:.3f} | {ratio.asked} | {verdict} | {ratio.how} |")
    return "\n".join(lines) + "\n"


def write(ratios: list[Ratio]) -> None:
    """Replace the part of the page between its marks by the table and the machine."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    text = f"\n{datetime.date.today():%B %Y}; {machine()}.\n\n{table(ratios)}\n"
    PAGE.write_text(before + BEGIN + text + END + after, encoding="utf-8")


def main() -> int:
    """Run what is missing, print the table, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("benches", nargs="*", choices=[[], *BENCHES], help="all of them by default")
    chosen = parser.parse_args().benches or list(BENCHES)
    rows = {bench: FOLDER.parent / "build" / "bench" / f"{bench}.csv" for bench in chosen}
    for bench, path in rows.items():
        if not path.exists():
            run(bench, path)
    ratios = [ratio for path in rows.values() for ratio in recorded(path)]
    print(f"\n{machine()}\n\n{table(ratios)}")
    write(ratios)
    print(f"written to {PAGE}")
    for path in rows.values():
        path.unlink()
    return int(not all(ratio.holds for ratio in ratios))


if __name__ == "__main__":
    sys.exit(main())
