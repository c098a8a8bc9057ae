"""What the benchmarks share: taking turns, medians, and one table of ratios."""

from __future__ import annotations

import csv
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch

ROWS = "WHYADAM_BENCH_ROWS"
"""Environment variable: a CSV file to which ``record`` appends."""


@dataclass(frozen=True)
class Ratio:
    """One line of the table: how something compares with its baseline, measured in the same run.

    Attributes:
        what: what was measured, and against what.
        ratio: the one over the other.
        asked: what it should be at most or at least, as ``≤ 0.95``; empty where nothing is asked.
        how: how often, with which clock, on how many threads.
    """

    what: str
    ratio: float
    asked: str
    how: str

    @property
    def holds(self) -> bool:
        """Whether the ratio is what is asked."""
        if not self.asked:
            return True
        sign, limit = self.asked.split()
        return self.ratio <= float(limit) if sign == "≤" else self.ratio >= float(limit)


def record(*ratios: Ratio) -> int:
    """Print ratios, and append them to the file that the environment names.

    Returns:
        An exit code: 0 if all of them are what is asked, else 1.
    """
    for ratio in ratios:
        asked = f", asked {ratio.asked}{'' if ratio.holds else ': missed'}" if ratio.asked else ""
        print(f"{ratio.what}: {ratio.ratio:.3f}{asked} ({ratio.how})", flush=True)
    if path := os.environ.get(ROWS):
        with Path(path).open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, [field.name for field in fields(Ratio)]).writerows(map(asdict, ratios))
    return int(not all(ratio.holds for ratio in ratios))


def recorded(path: Path) -> list[Ratio]:
    """What ``record`` has appended to a file."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, [field.name for field in fields(Ratio)]))
    return [Ratio(row["what"], float(row["ratio"]), row["asked"], row["how"]) for row in rows]


class Clock:
    """Processor time where there is one thread, which other programs disturb less; wall time elsewhere."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        alone = device.type == "cpu" and torch.get_num_threads() == 1
        self._read = time.process_time if alone else time.perf_counter
        self.name = "processor time" if alone else "wall time"

    def seconds(self) -> float:
        """Since some moment, all work that was given to the device done."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return self._read()


def medians(work: Mapping[str, Callable[[], object]], rounds: int, clock: Clock) -> dict[str, float]:
    """Seconds of each piece of work, the median over rounds in which they take turns, after one to warm up."""
    durations: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds + 1):
        for name, run in work.items():
            start = clock.seconds()
            run()
            durations[name].append(clock.seconds() - start)
    return {name: statistics.median(values[1:]) for name, values in durations.items()}


def machine() -> str:
    """Processor, cores, memory, GPU and versions, in one line."""
    parts = [f"{processor()}, {os.cpu_count()} cores, {memory_gibibytes():.0f} GiB"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    capability = torch.backends.cpu.get_cpu_capability()
    parts.append(f"{platform.system()}, Python {platform.python_version()}, torch {torch.__version__} ({capability})")
    return "; ".join(parts)


def processor() -> str:
    """Its name, where the system tells."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text(encoding="utf-8").splitlines() if described.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({platform.machine()})" if names else platform.machine()


def memory_gibibytes() -> float:
    """Of the whole machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
