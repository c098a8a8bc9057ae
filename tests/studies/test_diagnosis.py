"""Diagnosis of an untrained network: what is counted, measured, compared and said."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from whyadam.configs.load import parse_experiment
from whyadam.errors import UserError
from whyadam.hessian.operators import HessianOperator
from whyadam.studies.diagnosis.measuring import (
    TAILS,
    LabelCounts,
    diagnose,
    find_labels,
    make_plan,
    twice_differentiable,
)
from whyadam.studies.diagnosis.report import Networks, compare, read_networks, uncertainty
from whyadam.studies.diagnosis.subject import Subject, subject_of_config
from whyadam.studies.quantities import QUANTITIES
from whyadam.studies.summary import SummaryRow, write_summary
from whyadam.training.hessian_meter import measure_run as measure_hessian
from whyadam.training.noise_meter import measure_run as measure_noise
from whyadam.training.run_folder import RunFolder


def count(*batches: Any) -> LabelCounts:
    counts = LabelCounts()
    assert list(counts.track(batches)) == list(batches), "the batches must pass unchanged"
    return counts


def test_imbalance_of_known_frequencies() -> None:
    """A wrong half, or the entropy in another unit."""
    labels = torch.repeat_interleave(torch.arange(5), torch.tensor([8, 1, 4, 2, 1]))
    imbalance = count({"labels": labels[:7]}, {"labels": labels[7:]}).imbalance()
    assert imbalance is not None
    assert (imbalance.labels, imbalance.classes) == (16, 5)
    assert imbalance.rarest_half == pytest.approx(4 / 5), "8 of 16 labels belong to the four rarer classes"
    assert imbalance.relative_entropy == pytest.approx((0.5 + 0.25 * 2 + 0.125 * 3 + 2 * 0.0625 * 4) / math.log2(5))


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_balanced_classes_have_full_entropy_and_an_even_half(classes: int) -> None:
    """A class on the boundary that is counted whole: an odd number of classes would look imbalanced."""
    imbalance = count({"labels": torch.arange(classes).repeat(4)}).imbalance()
    assert imbalance is not None
    assert imbalance.relative_entropy == pytest.approx(1)
    assert imbalance.rarest_half == pytest.approx(0.5)


def test_where_labels_are_found_and_where_nobody_knows() -> None:
    """Pixels, masks or padding counted as labels."""
    labels = torch.tensor([0, 1, -100])
    assert find_labels({"input_ids": torch.tensor([5, 6]), "labels": labels}) is labels
    assert find_labels((torch.rand(3), labels)) is labels
    assert find_labels(labels) is labels
    for unknown in ({"input_ids": labels}, (labels, torch.rand(3)), torch.rand(3), [], "text", None):
        assert find_labels(unknown) is None
    imbalance = count([torch.rand(3), labels]).imbalance()
    assert imbalance is not None
    assert imbalance.labels == 2, "a negative label is none"
    assert count(torch.tensor([3, 3])).imbalance() is None, "one class has no imbalance"


def test_a_config_gets_the_numbers_of_a_run_that_measures_at_step_0(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    """Other seeds, batches, smoothing or blocks than the study: its networks could not be compared with."""
    mlp_config["model"]["hidden"] = [8]
    mlp_config["noise"] = {"batches": 8, "reference": 16}
    mlp_config["hessian"] = {"batch_size": 8, "tolerance": None, "steps": 6, "probes": 3}
    experiment = parse_experiment(mlp_config, "test")
    folder = RunFolder.of(experiment, tmp_path)
    list(measure_noise(experiment, folder, [0]))
    list(measure_hessian(experiment, folder, [0]))
    subject = subject_of_config(experiment, "test")
    diagnosis = diagnose(subject, make_plan(subject, batches=8, probes=3, steps=6, blocks=16))
    recorded = {name: QUANTITIES[name].readings.args[0](folder.path) for name in diagnosis.values}  # type: ignore[attr-defined]
    assert diagnosis.values == pytest.approx(recorded, rel=1e-6)
    assert diagnosis.values.keys() == {*TAILS, "js0", "js0_absolute", "scale_free_js0", "gradient_heterogeneity"}
    floor = QUANTITIES["js0_floor"].readings.args[0](folder.path)  # type: ignore[attr-defined]
    assert diagnosis.distances["js0"].noise_floor == pytest.approx(floor, rel=1e-6)
    assert diagnosis.imbalance is not None
    assert diagnosis.imbalance.classes == 10


def linear_loss(model: nn.Module, batch: Tensor) -> tuple[Tensor, Tensor]:
    return model(batch).tanh().square().sum(), torch.tensor(len(batch))


def subject_of(model: nn.Module) -> Subject:
    def batches(number: int) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(number)
        return (torch.randn(4, 6, generator=generator) for _ in range(number))

    return Subject(
        "small", "--model small", model, linear_loss, batches, lambda n: ([b] for b in batches(n)), [*batches(1)], 0
    )


def small_network() -> nn.Module:
    layers = [nn.Linear(6, 6, bias=False) for _ in range(4)]
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.Tanh())))


def test_the_plan_counts_the_products_that_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cost that is stated and not true: blocks of 36 that are computed exactly, and with 2 probes of 4 steps."""
    computed = []
    products = HessianOperator.matmat
    monkeypatch.setattr(
        HessianOperator, "matmat", lambda self, vectors: computed.append(len(vectors)) or products(self, vectors)
    )
    torch.manual_seed(0)
    subject = subject_of(small_network())
    for probes, steps, expected in [(2, 4, 3 * 8), (4, 20, 3 * 36)]:
        computed.clear()
        plan = make_plan(subject, batches=8, probes=probes, steps=steps, blocks=3)
        assert [block.name for block in plan.blocks] == ["0.weight", "4.weight", "6.weight"]
        assert plan.products == expected
        assert plan.gradients == 24
        diagnose(subject, plan)
        assert sum(computed) == expected


def test_nothing_is_left_behind_in_model_and_random_stream() -> None:
    """A diagnosis in a notebook that changes the training after it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 6)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    subject = subject_of(model)
    diagnose(subject, make_plan(subject, batches=8, probes=2, steps=2, blocks=["*.weight"]))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(module.training for module in model.modules())


def test_noise_without_any_is_said() -> None:
    """The same batch again and again, as a loader in a test gives it, ends in a traceback of the tail report."""
    subject = subject_of(small_network())
    (batch,) = subject.curvature
    same = Subject(
        "same", "--model same", subject.model, linear_loss, lambda n: [batch] * n, lambda n: [[batch]] * n, [batch], 0
    )
    with pytest.raises(UserError, match="--model same: the gradients of all batches are the same"):
        diagnose(same, make_plan(same, batches=8, probes=2, steps=2, blocks=2))


def networks(gaps: list[float], values: list[float]) -> Networks:
    def by_name(numbers: list[float]) -> dict[str, list[float]]:
        return {f"net{place}": [number - 0.01, number + 0.01] for place, number in enumerate(numbers)}

    return Networks("blocks_and_gap", "quick", {"gap": by_name(gaps), "js0": by_name(values)})


GAPS = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


def test_a_measure_that_predicts_is_said_to() -> None:
    """A sign the wrong way round, or a place counted from the other end."""
    (rising,) = compare({"js0": 0.32}, networks(GAPS, GAPS))
    assert rising.predicts
    assert (rising.below, rising.networks) == (4, 8)
    assert "above 4 of 8 networks; networks with a larger value had a larger gap" in rising.sentence()
    (falling,) = compare({"js0": 0.32}, networks(GAPS, GAPS[::-1]))
    assert "networks with a larger value had a smaller gap: rank correlation with the gap -1.00" in falling.sentence()
    (outside,) = compare({"js0": 0.9}, networks(GAPS, GAPS))
    assert outside.sentence().endswith("Yours lies outside their range (0 to 0.7), where nothing is known.")


def test_a_measure_that_does_not_predict_is_said_not_to() -> None:
    """A weak correlation of eight networks sold as a prediction."""
    (comparison,) = compare({"js0": 0.32}, networks(GAPS, [0.3, 0.1, 0.6, 0.2, 0.7, 0.0, 0.5, 0.4]))
    assert comparison.correlation is not None
    assert comparison.correlation.value > 0.1, "there is a correlation"
    assert "it did not predict the gap" in comparison.sentence()
    assert comparison.sentence().endswith("and the interval includes 0.")


@pytest.mark.parametrize(("gaps", "values"), [(GAPS[:4], GAPS[:4]), (GAPS, [0.5] * 8)])
def test_no_correlation_of_few_networks_or_equal_ones(gaps: list[float], values: list[float]) -> None:
    """Not a number in a table, or a perfect correlation of four points."""
    (comparison,) = compare({"js0": 0.32}, networks(gaps, values))
    assert comparison.correlation is None
    assert not comparison.predicts
    assert "nothing is known of what it means" in comparison.sentence()


def test_diverged_and_unmeasured_networks_take_no_part() -> None:
    """An infinite gap as the largest of all."""
    found = networks([*GAPS, math.inf], [*GAPS, -1.0])
    (comparison, unknown) = compare({"js0": 0.32, "norm_tail0": 1.0}, found)
    assert comparison.networks == 8
    assert unknown.sentence() == "the study has no network with this measure."
    assert "trained 8 networks" in uncertainty(found, 2)[0]


def test_networks_come_from_a_summary(tmp_path: Path) -> None:
    """Seeds mixed up between networks, or a summary of another study taken for this one."""
    values = [("a", "gap", 0, 0.1), ("a", "gap", 1, 0.2), ("b", "gap", 0, 0.3), ("a", "js0", 0, 1.0)]
    rows = [
        SummaryRow(
            study="own",
            scale="quick",
            subject=subject,
            quantity=quantity,
            seed=seed,
            value=value,
            at_edge=(subject == "b") if quantity == "gap" else None,
        )
        for subject, quantity, seed, value in values
    ]
    path = tmp_path / "summary.csv"
    write_summary(path, rows)
    found = read_networks(path)
    assert (found.study, found.gap) == ("own", {"a": [0.1, 0.2], "b": [0.3]})
    assert found.measured("js0") == {"a": [1.0]}
    assert uncertainty(found, 1)[1].startswith("For b the best rate lay at the edge of what was tried")
    write_summary(path, rows[-1:])
    with pytest.raises(UserError, match="has no quantity gap"):
        read_networks(path)


def test_hard_sigmoid_has_a_second_derivative_inside() -> None:
    """Another function in place of the hard sigmoid, or torch's own, which cannot be differentiated twice."""
    values = torch.tensor([-5.0, -2.9, -1.0, 0.5, 2.9, 5.0], dtype=torch.float64, requires_grad=True)
    layer = nn.Hardsigmoid(inplace=True)

    def cubed(values: Tensor) -> Tensor:
        return layer(values * 1.0) ** 3

    expected = cubed(values)
    with twice_differentiable(layer):
        assert torch.equal(cubed(values), expected)
        assert torch.autograd.gradcheck(cubed, values)
        assert torch.autograd.gradgradcheck(cubed, values)
