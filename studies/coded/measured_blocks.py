"""Blockwise Hessian spectra of two small networks at their initialisation, measured on the way of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...data.kjv import KJV
from ...data.mnist5k import MNIST5k
from ...data.settings import DataSettings
from ...hessian import block_spectra
from ...models.gpt2 import GPT2Nano
from ...models.resnet import ResNet18
from ...models.settings import ModelSettings
from ...tasks.causal_lm import CausalLM
from ...tasks.classification import Classification
from ...tasks.problem import build_problem
from ...tasks.settings import TaskSettings
from ..csv_tables import Row


@dataclass(frozen=True)
class Network:
    """A network whose spectrum is measured in seconds.

    Attributes:
        model: with its ``data`` and ``task``.
        blocks: names of parameters.
        examples: over which the loss is the mean.
    """

    model: ModelSettings
    data: DataSettings
    task: TaskSettings
    blocks: Sequence[str]
    examples: int


LAYER = "transformer.h.0"

NETWORKS = {
    "transformer": Network(
        GPT2Nano(n_layer=1, n_embd=32, n_head=2, dropout=0.0, attention="eager"),
        KJV(tokenizer="char", block_size=32),
        CausalLM(),
        (
            "transformer.wte.weight",
            *(f"{LAYER}.attn.c_attn.weight.{part}" for part in ("query", "key", "value")),
            f"{LAYER}.attn.c_proj.weight",
            f"{LAYER}.mlp.c_fc.weight",
        ),
        examples=16,
    ),
    "cnn": Network(
        ResNet18(layers=(1, 1, 1, 1), stem="small"),
        MNIST5k(),
        Classification(),
        ("conv1.weight", *(f"layer{stage}.0.conv1.weight" for stage in range(1, 5)), "fc.weight"),
        examples=8,
    ),
}
"""A GPT2 with one layer on the embedded text, and a ResNet with four residual blocks on digits."""


def measure_nodes(name: str, steps: int, seed: int) -> list[Row]:
    """The rows of a nodes.csv, by stochastic Lanczos quadrature with one probe a block.

    Args:
        name: of ``NETWORKS``.
        steps: of Lanczos, which is the number of nodes.
        seed: of the network, the examples and the probes.
    """
    network = NETWORKS[name]
    problem = build_problem(network.model, network.data, network.task, seed)
    batch = problem.train.batch([(0, index) for index in range(network.examples)])
    problem.model.eval()
    spectra = block_spectra(problem.model, problem.loss, [batch], network.blocks, steps=steps, probes=1, seed=seed)
    return [
        {"block": block, "size": spectrum.size, "probe": 0, "node": node, "weight": weight}
        for block, spectrum in spectra.items()
        for node, weight in zip(spectrum.nodes[0].tolist(), spectrum.weights[0].tolist(), strict=True)
    ]
