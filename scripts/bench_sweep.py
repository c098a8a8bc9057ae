"""Overhead of a sweep over its training, on an otherwise idle machine: `make bench`.

The seconds of `whyadam sweep` over many short GPT2-nano runs, over the seconds of their training and evaluation one
after another in one process with one thread, divided by the number of jobs. Exits with 1 if the ratio misses its limit.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from bench import Ratio, record
from whyadam.studies.sweeps.plan import Sweep, plan
from whyadam.training.run import run_experiment

CONFIG = Path(__file__).parents[1] / "configs" / "quick" / "demo.yaml"
RATES = (1e-4, 3e-4, 1e-3, 3e-3)


def seconds_of_sweep(sweep: Sweep, jobs: int, out: Path) -> float:
    """Wall-clock time of the command."""
    steps = sweep.set["training.steps"]
    command = [sys.executable, "-m", "whyadam.cli", "sweep", sweep.config, "-s", f"training.steps={steps}"]
    command += ["--grid", f"optimizer.lr={','.join(map(str, RATES))}", "--seeds", ",".join(map(str, sweep.seeds or ()))]
    start = time.perf_counter()
    subprocess.run([*command, "--jobs", str(jobs), "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def seconds_of_training(sweep: Sweep, out: Path) -> float:
    """Training and evaluation of the same runs in this process, one after another, after a warm-up run."""
    torch.set_num_threads(1)
    trials = plan(sweep)
    run_experiment(trials[0].experiment, out / "warm")
    for trial in trials:
        run_experiment(trial.experiment, out)
    return seconds_in_folders(sweep, out)


def seconds_in_folders(sweep: Sweep, out: Path) -> float:
    """Training and measuring time that the finished runs report."""
    statuses = [trial.folder(out).read_status() for trial in plan(sweep)]
    return sum(status["seconds_training"] + status["seconds_measuring"] for status in statuses)


def main() -> int:
    """Print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=24, help=f"a multiple of {len(RATES)}")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    sweep = Sweep(
        config=str(CONFIG),
        set={"training.steps": arguments.steps},
        seeds=tuple(range(arguments.runs // len(RATES))),
        grid={"optimizer.lr": RATES},
    )
    jobs = arguments.jobs
    with tempfile.TemporaryDirectory() as folder:
        alone, together = Path(folder) / "alone", Path(folder) / "together"
        training = seconds_of_training(sweep, alone)
        swept = seconds_of_sweep(sweep, jobs, together)
        beside_others = seconds_in_folders(sweep, together)
    print(f"training on one thread, undisturbed: {training:.1f} s; in the sweep: {beside_others:.1f} s")
    what = f"sweep with {jobs} jobs / training alone on one thread / {jobs}"
    how = f"{arguments.runs} runs of {arguments.steps} steps, once, {swept:.0f} s, wall time"
    waste = "the same / training within the sweep, where the runs share caches and memory"
    return record(
        Ratio(what, jobs * swept / training, "≤ 1.05", how), Ratio(waste, jobs * swept / beside_others, "", how)
    )


if __name__ == "__main__":
    sys.exit(main())
