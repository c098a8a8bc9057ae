"""The same training steps in three loops: one written by hand, ours, and that of transformers' Trainer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from benching import Clock
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from whyadam.configs.load import load_experiment
from whyadam.data.batches import BatchOrder
from whyadam.optimizers import build_optimizer
from whyadam.progress import Progress
from whyadam.tasks.base import Batch
from whyadam.tasks.problem import Problem, build_problem
from whyadam.training.checkpoint import Checkpoints, TrainingState
from whyadam.training.devices import to_device
from whyadam.training.loop import train
from whyadam.training.metrics import MetricsFile
from whyadam.training.monitor import Monitor, Recorder
from whyadam.training.run_folder import RunFolder
from whyadam.training.signals import Interruption

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
                    Monitor(experiment, self.problem, checkpoints, recorder, [], interruption),
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
