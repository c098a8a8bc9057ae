"""The spectra of a model's blocks, from the loss to the quadrature."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from whyadam.hessian import (
    RELATIVE,
    Effort,
    HessianOperator,
    Spectrum,
    block_spectra,
    exact_spectrum,
    js_distance,
    measure_blocks,
    partition,
    select_blocks,
)
from whyadam.hessian.slq import draw_probes
from whyadam.seeds import derive_seed

SLQ = Effort(steps=12, probes=3, exact=False)


def equal(a: Spectrum, b: Spectrum) -> bool:
    return torch.equal(a.nodes, b.nodes) and torch.equal(a.weights, b.weights) and a.size == b.size


def test_small_blocks_are_exact(case: Any, loss: Any) -> None:
    """Every block of these models is smaller than 100 × 10 products: the eigenvalues are those of the dense Hessian."""
    spectra = block_spectra(case.model, loss, case.batches)
    dense, start = case.dense(), 0
    for name, parameter in case.model.named_parameters():
        rows = slice(start, start := start + parameter.numel())
        if name in spectra:
            expected = torch.linalg.eigvalsh(dense[rows, rows])
            torch.testing.assert_close(spectra[name].nodes[0], expected, rtol=0, atol=1e-8)
            assert spectra[name].exact
    assert list(spectra) == [block.name for block in partition(case.model)]


def test_published_scheme_has_a_row_a_probe(case_named: Any, loss: Any) -> None:
    case = case_named("mlp")
    spectra = dict(measure_blocks(case.model, loss, case.batches, partition(case.model, "weights"), SLQ))
    assert {name: list(spectrum.nodes.shape) for name, spectrum in spectra.items()} == {
        "1.weight": [3, 12],
        "3.weight": [3, 7],  # softmax does not feel one of its three classes: rank 6, and zero
    }


@pytest.mark.parametrize("tolerance", [None, 0.1])
def test_quadrature_of_a_block_has_its_curvature_along_the_probes(
    case_named: Any, loss: Any, tolerance: float | None
) -> None:
    """Σ w λ = vᵀHv of every probe: vectors of another block, or of another order, would miss it."""
    case = case_named("gpt2")
    (block,) = select_blocks(case.model, "*h.1.attn.c_attn.weight.key")
    effort = Effort(steps=4, probes=3, tolerance=tolerance, exact=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # four steps are too few for the tolerance
        spectrum = dict(measure_blocks(case.model, loss, case.batches, [block], effort, seed=5))[block.name]
    probes = draw_probes(16, derive_seed(5, f"block {block.name}"), range(3))
    products = HessianOperator(case.model, loss, case.batches, block).matmat(probes)
    torch.testing.assert_close(spectrum.moments(1), (probes * products).sum(1) / (probes**2).sum(1))


def test_tolerance_gives_the_density_with_fewer_products(case_named: Any, loss: Any) -> None:
    case = case_named("mlp")
    (block,) = select_blocks(case.model, "1.weight")
    operator = HessianOperator(case.model, loss, case.batches, block)
    effort = Effort(tolerance=0.05, probes=16, exact=False)
    spectrum = dict(measure_blocks(case.model, loss, case.batches, [block], effort))[block.name]
    assert js_distance(spectrum, exact_spectrum(operator.matmat, operator.size), sigma=RELATIVE) < 0.05
    assert spectrum.probes == 8


def test_seed_decides_and_other_blocks_do_not(case_named: Any, loss: Any) -> None:
    """Probes drawn one after another would change with the selection, and a resumed measurement with them."""
    case = case_named("mlp")

    def measure(globs: str, seed: int) -> dict[str, Spectrum]:
        return dict(measure_blocks(case.model, loss, case.batches, select_blocks(case.model, globs), SLQ, seed=seed))

    everything, alone, other = measure("default", 1), measure("3.weight", 1), measure("3.weight", 2)
    assert equal(everything["3.weight"], alone["3.weight"])
    assert not torch.equal(other["3.weight"].weights, alone["3.weight"].weights)
    assert not torch.equal(everything["1.bias"].weights[0], everything["3.bias"].weights[0])


class Interrupted(Exception):  # noqa: N818 - stands for a signal, which is no error
    pass


class Store(MutableMapping[str, Spectrum]):
    """Keeps spectra, and stops the measurement after so many of them."""

    def __init__(self, lives: int) -> None:
        self.kept: dict[str, Spectrum] = {}
        self.lives = lives

    def __getitem__(self, name: str) -> Spectrum:
        return self.kept[name]

    def __setitem__(self, name: str, spectrum: Spectrum) -> None:
        self.kept[name] = spectrum
        self.lives -= 1
        if self.lives == 0:
            raise Interrupted

    def __delitem__(self, name: str) -> None:
        del self.kept[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.kept)

    def __len__(self) -> int:
        return len(self.kept)


@pytest.mark.parametrize("effort", [SLQ, Effort(steps=12, tolerance=0.1, exact=False), Effort()])
@pytest.mark.parametrize("lives", [1, 2, 3])
def test_interrupted_measurement_goes_on_where_it_was(case_named: Any, loss: Any, effort: Effort, lives: int) -> None:
    """The result equals an uninterrupted one, and nothing is computed twice."""
    case = case_named("mlp")
    blocks = partition(case.model, "weights")
    whole = dict(measure_blocks(case.model, loss, case.batches, blocks, effort))
    store = Store(lives)
    writes = len(blocks) * (effort.probes if effort is SLQ else 1)
    with pytest.raises(Interrupted) if lives <= writes else pytest.raises(StopIteration):
        measurement = measure_blocks(case.model, loss, case.batches, blocks, effort, cache=store)
        while True:
            next(measurement)
    store.lives = 1000
    resumed = dict(measure_blocks(case.model, loss, case.batches, blocks, effort, cache=store))
    assert 1000 - store.lives == max(0, writes - lives)
    assert all(equal(resumed[name], whole[name]) for name in whole)


def test_finished_blocks_do_not_call_the_model(case_named: Any, loss: Any) -> None:
    case = case_named("mlp")
    whole = block_spectra(case.model, loss, case.batches)

    def never(model: nn.Module, batch: Any) -> tuple[Tensor, int]:
        raise AssertionError("the loss was evaluated")

    again = dict(measure_blocks(case.model, never, [None], partition(case.model), Effort(), cache=dict(whole)))
    assert list(again) == list(whole)


def test_batches_may_be_an_iterator(case_named: Any, loss: Any) -> None:
    """Read once, a generator is empty for the second block."""
    case = case_named("mlp")
    expected = block_spectra(case.model, loss, case.batches)
    found = block_spectra(case.model, loss, iter(case.batches))
    assert all(equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("effort", "size", "products"),
    [(Effort(), 50, 1000), (Effort(tolerance=0.02), 1000, 250), (Effort(tolerance=0.02), 10**6, 50)],
)
def test_expected_products(effort: Effort, size: int, products: int) -> None:
    assert effort.products(size) == products


@pytest.mark.parametrize("values", [{"steps": 0}, {"probes": 0}, {"tolerance": 0.0}, {"tolerance": 1.0}])
def test_impossible_effort_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be (at least 1|a distance)"):
        Effort(**values)
