"""Tokens per second of our training loop, a loop written by hand and the Trainer of transformers: `make bench`.

All train the quick GPT2-nano and BERT-nano with the same loss, batches and optimizer, in turns, each in a process of
its own. Ours logs as `whyadam train` does; what it spends on evaluating and saving is left out, as the others do
neither. Exits with 1 if ours is slower than it should be.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from benching import Clock, Ratio, record
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from whyadam.configs.load import load_experiment
from whyadam.data.batches import BatchOrder
from whyadam.memory import keep_freed_memory
from whyadam.optimizers import build_optimizer
from whyadam.tasks.problem import Problem, build_problem
from whyadam.tasks.settings import Batch
from whyadam.training.checkpoints import Checkpoints
from whyadam.training.devices import choose_device, to_device
from whyadam.training.interruption import Interruption
from whyadam.training.loop import train
from whyadam.training.metrics import MetricsFile
from whyadam.training.observer import Observer
from whyadam.training.progress import Progress
from whyadam.training.recorder import Recorder
from whyadam.training.run_folder import RunFolder
from whyadam.training.state import TrainingState

CONFIGS = Path(__file__).parents[1] / "configs" / "quick"


class Loops:
    """The same steps of one config in three loops; each gives the seconds that it took."""

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
        """What every loop trains on."""
        return Batches(self.problem, self.experiment.training.batch_size, self.steps)

    def tokens(self) -> int:
        """In all steps together."""
        return sum(self.problem.task.tokens(batch) for batch in self.batches())

    def bare(self) -> float:
        """What anyone would write by hand."""
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
            checkpoints = Checkpoints(folder.checkpoints)
            with (
                MetricsFile(folder.metrics, keep_until=None) as metrics,
                Progress("ours", self.steps) as progress,
                Interruption() as interruption,
            ):
                recorder = TimedRecorder(folder, metrics, progress, len(self.problem.train))
                recorder.clock = self.clock
                start = self.clock.seconds()
                train(
                    experiment,
                    self.problem,
                    state,
                    Observer(experiment, self.problem, checkpoints, recorder, [], interruption),
                    interruption,
                )
                return self.clock.seconds() - start - recorder.spent_measuring

    def trainer(self) -> float:
        """Hugging Face's."""
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
    """The batches of a run's first steps, made when they are asked for."""

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
    """A recorder that knows what evaluating and saving cost on the bench's own clock."""

    clock: Clock
    spent_measuring = 0.0

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Time spent in this block is not training time."""
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
    """Times training alone, without what the Trainer does before the first step."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.seconds = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start."""
        self.seconds = -self._clock.seconds()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Stop."""
        self.seconds += self._clock.seconds()


class LoopInItsProcess:
    """One of the loops, in a process that is set up as its users have it: `whyadam` keeps freed memory at hand."""

    _loops: ClassVar[Loops]

    def __init__(self, name: str, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._name = name
        self._pool = context.Pool(1, initializer=self._begin, initargs=(name.startswith("ours"), *arguments))

    def seconds(self) -> float:
        """Of all steps, once more."""
        return float(self._pool.apply(self._run, (self._name,)))

    def describe(self) -> tuple[int, str]:
        """Tokens in all steps together, and the clock."""
        described: tuple[int, str] = self._pool.apply(self._describe)
        return described

    @classmethod
    def _begin(cls, is_whyadam: bool, threads: int, *arguments: Any) -> None:
        if is_whyadam:
            keep_freed_memory()
        torch.set_num_threads(threads)
        cls._loops = Loops(*arguments)

    @classmethod
    def _run(cls, name: str) -> float:
        loops = cls._loops
        run = {"bare": loops.bare, "Trainer": loops.trainer, "ours": loops.ours}
        return run[name]() if name in run else loops.ours(compiled=True)

    @classmethod
    def _describe(cls) -> tuple[int, str]:
        return cls._loops.tokens(), cls._loops.clock.name


def measure(config: str, steps: int, rounds: int, device: torch.device, *, compiled: bool) -> int:
    """Print one table and record the ratios; an exit code."""
    names = ["bare", "ours", "Trainer"] + ["ours, compiled"] * compiled
    threads = torch.get_num_threads()
    loops = {name: LoopInItsProcess(name, threads, config, steps, device) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds + 1):
        for name, loop in loops.items():
            seconds[name].append(loop.seconds())
    tokens, clock = loops["bare"].describe()
    speeds = {name: tokens / statistics.median(values[1:]) for name, values in seconds.items()}
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
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    endings = [
        measure(config, arguments.steps, arguments.rounds, device, compiled=not arguments.no_compile)
        for config in ("gpt2_nano_kjv.yaml", "bert_nano_kjv.yaml")
    ]
    return max(endings)


if __name__ == "__main__":
    sys.exit(main())
