"""The cost of the configs for large machines, computed and not timed: the table of docs/scale.md.

It counts a config's parameters, without a download, and the floating-point operations of a step: for text 6 per
parameter and token plus 12 per layer, token, earlier token and attention dimension; for images three times the count of
torch's FlopCounterMode for a forward pass. Time is operations over (peak x utilisation), on several GPUs plus the
all-reduce of the gradients, which the training loop does after the backward pass.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from whyadam.configs.load import load_experiment
from whyadam.configs.schema import Experiment
from whyadam.models.base import Head
from whyadam.training.schedules import number_of_steps

CONFIGS = Path(__file__).parents[1] / "configs"

VOCABULARIES = {"google-bert/bert-base-uncased": 30_522, "openai-community/gpt2": 50_257, "tinyshakespeare.txt": 65}
"""Vocabulary sizes that the configs do not state."""

EXAMPLES = {"squad": 87_599, "imagenet": 1_281_167, "cifar10": 50_000}
"""Training examples of the data sets that configs use by epochs."""

CLASSES = {"imagenet": 1000, "cifar10": 10}
IMAGE_SIZES = {"cifar10": 32}

GPUS_PER_MACHINE = 8
BYTES_PER_GRADIENT = 4
BILLION = 1e9
NOT_APPLICABLE = "-"


@dataclass(frozen=True)
class Machine:
    """GPUs and what connects them.

    Attributes:
        peak: floating-point operations per second and GPU, by the config's precision.
        utilisation: the share of the peak that training reaches.
        inside: bytes per second that a GPU sends to others of its machine.
        between: bytes per second that a GPU sends to other machines.
    """

    peak: dict[str, float]
    utilisation: float
    inside: float
    between: float


@dataclass(frozen=True)
class Cost:
    """The cost of a run.

    Attributes:
        config: its file.
        precision: of the forward pass.
        parameters: trained ones.
        steps: of the run.
        batch_size: examples per step.
        tokens: per step; None for images.
        operations: per step.
    """

    config: str
    precision: str
    parameters: int
    steps: int
    batch_size: int
    tokens: int | None
    operations: float

    def efficiency(self, machine: Machine, gpus: int) -> float:
        """Time on one GPU over ``gpus`` times the time on ``gpus`` GPUs, with a ring all-reduce of the gradients."""
        if gpus == 1:
            return 1.0
        link = machine.inside if gpus <= GPUS_PER_MACHINE else machine.between
        sent = 2 * (gpus - 1) / gpus * BYTES_PER_GRADIENT * self.parameters
        computing = self._seconds_per_step(machine) / gpus
        return computing / (computing + sent / link)

    def hours(self, machine: Machine, gpus: int) -> float:
        """Hours of the whole run without evaluation and measurements."""
        return self.steps * self._seconds_per_step(machine) / gpus / self.efficiency(machine, gpus) / 3600

    def _seconds_per_step(self, machine: Machine) -> float:
        return self.operations / (machine.peak[self.precision] * machine.utilisation)


def configs() -> list[Path]:
    """The configs for large machines."""
    return [path for folder in ("paper", "gpu") for path in sorted((CONFIGS / folder).glob("*.yaml"))]


def cost_of(path: Path) -> Cost:
    """The cost of a config that trains on text, questions or images."""
    experiment = load_experiment(path)
    training = experiment.training
    assert training.batch_size != "full"
    model = build(experiment)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    length = getattr(experiment.data, "block_size", None) or getattr(experiment.task, "max_length", None)
    if length is None:
        tokens, operations = None, training.batch_size * 3.0 * forward_operations(model, image_size(experiment))
    else:
        tokens = training.batch_size * length
        attention = 12 * experiment.model.n_layer * experiment.model.n_embd * length  # type: ignore[union-attr]
        operations = float(tokens * (6 * parameters + attention))
    return Cost(
        config=f"{path.parent.name}/{path.stem}",
        precision=training.precision,
        parameters=parameters,
        steps=number_of_steps(training, EXAMPLES.get(data_name(experiment), 0)),
        batch_size=training.batch_size,
        tokens=tokens,
        operations=operations,
    )


def build(experiment: Experiment) -> nn.Module:
    """The model on the meta device; a pretrained one without its weights."""
    settings = experiment.model
    if getattr(settings, "pretrained", None) is not None:
        settings = settings.model_copy(update={"pretrained": None})
    name, data = data_name(experiment), experiment.data
    if name in CLASSES:
        outputs, size = CLASSES[name], image_size(experiment)
    else:
        known = getattr(data, "tokenizer_name", None) or getattr(data, "path", None)
        outputs, size = VOCABULARIES.get(str(known)) or data.vocab_size, None  # type: ignore[union-attr]
    with torch.device("meta"):
        return settings.build(Head(experiment.task.name, outputs, image_size=size)).train()


def data_name(experiment: Experiment) -> str:
    """The name of the data set: the folder's name for ``image_folder``."""
    data = experiment.data
    return str(data.path) if data.name == "image_folder" else data.name  # type: ignore[union-attr]


def image_size(experiment: Experiment) -> int:
    """Height and width of the images in pixels."""
    return IMAGE_SIZES.get(data_name(experiment)) or experiment.data.image_size  # type: ignore[union-attr]


def forward_operations(model: nn.Module, size: int) -> int:
    """Operations of a forward pass per image, products and sums counted each; run on two images for BatchNorm."""
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(2, 3, size, size, device="meta"))
    return counter.get_total_flops() // 2


def table(costs: list[Cost], machine: Machine) -> Iterator[str]:
    """The lines of the table in Markdown."""
    yield (
        "| config | parameters (M) | steps | examples a step | tokens a step | TFLOP a step | EFLOP in all "
        "| hours, 1 GPU | hours, 8 GPUs | hours, 64 GPUs |"
    )
    yield "|---|" + "---:|" * 9
    for cost in costs:
        hours = [rounded(cost.hours(machine, 1))]
        for gpus in (8, 64):
            share = cost.efficiency(machine, gpus)
            hours.append(
                f"{rounded(cost.hours(machine, gpus))} ({share:.0%})" if cost.batch_size >= gpus else NOT_APPLICABLE
            )
        cells = [
            f"`{cost.config}`",
            f"{cost.parameters / 1e6:,.1f}",
            f"{cost.steps:,}",
            f"{cost.batch_size:,}",
            NOT_APPLICABLE if cost.tokens is None else f"{cost.tokens:,}",
            rounded(cost.operations / 1e12),
            rounded(cost.steps * cost.operations / 1e18),
            *hours,
        ]
        yield f"| {' | '.join(cells)} |"


def rounded(number: float) -> str:
    """Two significant digits, or a whole number from 100 on."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.2g}"


def machine_of(arguments: list[str] | None = None) -> Machine:
    """The machine that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default, words in (
        ("--peak-bf16", 989, "TFLOP/s of a GPU in bfloat16; 989 is NVIDIA's figure for an H200, without sparsity"),
        ("--peak-fp32", 67, "TFLOP/s of a GPU in float32, likewise"),
        ("--utilisation", 0.35, "share of the peak that training reaches: an assumption"),
        ("--inside", 450, "GB/s that a GPU sends to others of its machine, likewise (NVLink)"),
        ("--between", 50, "GB/s that a GPU sends to other machines (400 Gbit/s)"),
    ):
        parser.add_argument(option, type=float, default=default, help=f"{words}; default {default}")
    given = parser.parse_args(arguments)
    peak = {"bf16": given.peak_bf16 * 1e12, "fp32": given.peak_fp32 * 1e12}
    return Machine(peak, given.utilisation, given.inside * BILLION, given.between * BILLION)


def main() -> None:
    """Print the table."""
    machine = machine_of()
    print("\n".join(table([cost_of(path) for path in configs()], machine)))


if __name__ == "__main__":
    main()
