"""Tokens per second of our training loop, a loop written by hand and the Trainer of transformers: `make bench`.

All train the quick GPT2-nano and BERT-nano with the same loss, batches and optimizer, interleaved, each in its own
process. Our loop logs as `whyadam train` does; its time for evaluation and checkpoints is subtracted, since the others
do neither. Exits with 1 if our loop misses its limit.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import torch
from bench import Clock, Ratio, median_results, record
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from whyadam.configs.load import load_experiment
from whyadam.data.batches import BatchOrder
from whyadam.memory import keep_freed_memory
from whyadam.optimizers import build_optimizer
from whyadam.progress import Progress
from whyadam.tasks.base import Batch
from whyadam.tasks.problem import Problem, build_problem
from whyadam.training.checkpoint import Checkpoints, TrainingState
from whyadam.training.devices import choose_device, to_device
from whyadam.training.loop import train
from whyadam.training.metrics import MetricsFile
from whyadam.training.monitor import Monitor, Recorder
from whyadam.training.run_folder import RunFolder
from whyadam.training.signals import Interruption

CONFIGS = Path(__file__).parents[1] / "configs" / "quick"
STEPS = {"gpt2_nano_kjv.yaml": 20, "bert_nano_kjv.yaml": 80}
"""Of a round of about five seconds, so that the one-time setup of a loop hardly counts."""


class Loops:
    """The same steps of one config in three loops; each method returns its seconds."""

    def __init__(self, config: str, steps: int, device: torch.device) -> None:
        settings = {"steps": steps, "eval_every": steps, "checkpoint_every": steps, "eval_examples": 1}
        changes = [f"training.{key}={value}" for key, value in settings.items()]
        self.experiment = load_experiment(CONFIGS / config, [*changes, "schedule.warmup_steps=0"])
        self.steps, self.device, self.clock = steps, device, Clock(device)
        experiment = self.experiment
        self.problem = build_problem(experiment.model, experiment.data, experiment.task, experiment.seed, device)
        self.problem.model.train()
        self.optimizer = build_optimizer(experiment.optimizer, self.problem.model.named_parameters())

    def batches(self) -> Batches:
        """The batches that every loop trains on."""
        return Batches(self.problem, self.experiment.training.batch_size, self.steps)

    def clock_name(self) -> str:
        """What is measured: processor time or wall time."""
        return self.clock.name

    def tokens(self) -> int:
        """Tokens of all steps together."""
        return sum(self.problem.task.tokens(batch) for batch in self.batches())

    def bare(self) -> float:
        """The loop that one writes by hand."""
        start = self.clock.seconds()
        for batch in self.batches():
            self.optimizer.zero_grad(set_to_none=True)
            loss, count = self.problem.loss(self.problem.model, to_device(batch, self.device))
            (loss / count).backward()
            self.optimizer.step()
        return self.clock.seconds() - start

    def ours(self, *, compiled: bool = False) -> float:
        """The loop of `whyadam train`."""
        training = self.experiment.training.model_copy(update={"compile": compiled})
        experiment = self.experiment.model_copy(update={"training": training})
        state = TrainingState(self.problem.model, self.optimizer)
        with tempfile.TemporaryDirectory() as name:
            folder = RunFolder(Path(name))
            with (
                MetricsFile(folder.metrics, keep_until=None) as metrics,
                Progress("ours", self.steps) as progress,
                Interruption() as interruption,
            ):
                recorder = TimedRecorder(folder, metrics, progress, len(self.problem.train))
                recorder.clock = self.clock
                checkpoints = Checkpoints(folder.checkpoints)
                monitor = Monitor(experiment, self.problem, checkpoints, recorder, [], interruption)
                start = self.clock.seconds()
                train(experiment, self.problem, state, monitor, interruption)
                return self.clock.seconds() - start - recorder.spent_measuring

    def ours_compiled(self) -> float:
        """The same with torch.compile."""
        return self.ours(compiled=True)

    def trainer(self) -> float:
        """The Trainer of transformers."""
        with tempfile.TemporaryDirectory() as name:
            arguments = TrainingArguments(
                output_dir=name,
                max_steps=self.steps,
                per_device_train_batch_size=1,
                logging_steps=self.experiment.training.log_every,
                save_strategy="no",
                report_to="none",
                max_grad_norm=0.0,
                remove_unused_columns=False,
                disable_tqdm=True,
                use_cpu=self.device.type == "cpu",
            )
            schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 1.0)
            timer = Timer(self.clock)
            trainer = SameLoss(
                self.problem.model,
                arguments,
                data_collator=lambda batches: batches[0],
                train_dataset=self.batches(),
                optimizers=(self.optimizer, schedule),
                callbacks=[timer],
            )
            trainer.problem = self.problem
            trainer.remove_callback(PrinterCallback)
            trainer.train()
            return timer.seconds


class Batches(Dataset[Batch]):
    """The batches of a run's first steps, made on request."""

    def __init__(self, problem: Problem, batch_size: Any, steps: int) -> None:
        self._examples = problem.train
        self._order = BatchOrder(len(problem.train), batch_size, seed=0)
        self._steps = steps

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Batch:
        if step >= self._steps:
            raise IndexError(step)
        return self._examples.batch(self._order.keys(step))


class TimedRecorder(Recorder):
    """A recorder that adds up the time of evaluation and checkpoints on the benchmark's clock."""

    clock: Clock
    spent_measuring = 0.0

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Count the time in this block as measuring."""
        start = self.clock.seconds()
        with super().measuring():
            yield
        self.spent_measuring += self.clock.seconds() - start


class SameLoss(Trainer):
    """A Trainer that minimises the problem's loss, so that only the loops differ."""

    problem: Problem

    def compute_loss(self, model: Any, inputs: Batch, *_: Any, **__: Any) -> torch.Tensor:
        """The mean loss of a batch."""
        loss, count = self.problem.loss(model, inputs)
        return loss / count


class Timer(TrainerCallback):
    """Times training without the Trainer's setup before the first step."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.seconds = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start."""
        self.seconds = -self._clock.seconds()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Stop."""
        self.seconds += self._clock.seconds()


def loops_in_own_process(is_whyadam: bool, *arguments: Any) -> Pool:
    """A process with its own ``Loops``, set up as its users have it: `whyadam` keeps freed memory."""
    # Torch reads this on import, which in the new process comes before the initializer.
    os.environ["THP_MEM_ALLOC_ENABLE"] = str(int(is_whyadam))
    return multiprocessing.get_context("spawn").Pool(1, _begin, (is_whyadam, torch.get_num_threads(), *arguments))


def _begin(is_whyadam: bool, threads: int, *arguments: Any) -> None:
    global _loops
    if is_whyadam:
        keep_freed_memory()
    torch.set_num_threads(threads)
    _loops = Loops(*arguments)


def _call(method: str) -> Any:
    return getattr(_loops, method)()


LOOPS = {"bare": "bare", "ours": "ours", "Trainer": "trainer", "ours, compiled": "ours_compiled"}
"""Names in the tables, and methods of ``Loops``."""


def measure(config: str, steps: int, rounds: int, device: torch.device, *, compiled: bool) -> int:
    """Print one table and record the ratios; an exit code."""
    methods = {name: method for name, method in LOOPS.items() if compiled or name != "ours, compiled"}
    pools = {name: loops_in_own_process(name.startswith("ours"), config, steps, device) for name in methods}
    work = {name: partial(pools[name].apply, _call, (method,)) for name, method in methods.items()}
    seconds = median_results(work, rounds)
    tokens, clock = (pools["bare"].apply(_call, (method,)) for method in ("tokens", "clock_name"))
    for pool in pools.values():
        pool.terminate()
    threads = torch.get_num_threads()
    speeds = {name: tokens / taken for name, taken in seconds.items()}
    how = f"median of {rounds} rounds of {steps} steps, a process each, {clock}, {threads} thread(s)"
    print(f"\n{config}: {how}\n| loop | tokens per second |\n|---|---|")
    for name, speed in speeds.items():
        print(f"| {name} | {speed:,.0f} |")
    name = config.removesuffix("_kjv.yaml")
    wanted = [("ours", "bare", "≥ 0.98"), ("ours", "Trainer", "≥ 1.0"), ("ours, compiled", "bare", "≥ 1.2")]
    return record(
        *(
            Ratio(f"tokens per second, {name}: {fast} / {slow}", speeds[fast] / speeds[slow], asked, how)
            for fast, slow, asked in wanted
            if fast in speeds
        )
    )


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, help="of a round; about five seconds by default")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    arguments = parser.parse_args()
    device, compiled = choose_device(arguments.device), not arguments.no_compile
    return max(
        measure(config, arguments.steps or steps, arguments.rounds, device, compiled=compiled)
        for config, steps in STEPS.items()
    )


if __name__ == "__main__":
    sys.exit(main())
