"""The cost model of docs/scale.md: what the page says is what the script computes, and counts that others have made."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from whyadam.configs.load import load_experiment
from whyadam.models.base import Head

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cost_model", ROOT / "scripts" / "cost_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_has_the_table(script: ModuleType) -> None:
    """A table that is older than a config, a model or the script."""
    costs = [script.cost_of(path) for path in script.configs()]
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    assert "\n".join(script.table(costs, script.machine_of([]))) in page


def test_the_rule_for_text_agrees_with_a_count(script: ModuleType) -> None:
    """Six operations a parameter and token, and those of the attention, against torch's count of a real pass."""
    path = ROOT / "configs" / "paper" / "gpt2_nano.yaml"
    model = load_experiment(path, ["model.attention=eager"]).model.build(Head("causal_lm", 65))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.zeros(1, 256, dtype=torch.int64)).logits.sum().backward()
    cost = script.cost_of(path)
    # The rule counts the positions' embedding, 1 % of the parameters, as if it were a product.
    assert counter.get_total_flops() == pytest.approx(cost.operations / cost.batch_size, rel=0.02)


def test_a_pass_of_resnet50_has_the_operations_that_torchvision_gives(script: ModuleType) -> None:
    """4.1 billion multiplications, as torchvision gives them for its variant."""
    model = script.build(load_experiment(ROOT / "configs" / "paper" / "resnet50_imagenet.yaml"))
    assert script.forward_operations(model, 224) == pytest.approx(2 * 4.1e9, rel=0.01)


def test_time_is_computing_and_sending(script: ModuleType) -> None:
    """A second of computing on 1 GPU; on 8 an eighth of it, and 7/4 of the gradients' bytes over the link."""
    machine = script.Machine({"fp32": 2e12}, 0.5, inside=100e9, between=10e9)
    cost = script.Cost("c", "fp32", int(1e9), 3600, 64, None, 1e12)
    assert cost.hours(machine, 1) == pytest.approx(1)
    assert cost.hours(machine, 8) == pytest.approx(1 / 8 + 7 / 4 * 4 / 100)
    assert cost.efficiency(machine, 16) == pytest.approx(1 / 16 / (1 / 16 + 15 / 8 * 4 / 10))
