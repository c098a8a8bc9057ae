"""A measurement over several attempts and processes: the same bytes, and nothing computed twice."""

from __future__ import annotations

import os
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from whyadam.configs.load import parse_experiment
from whyadam.errors import UserError
from whyadam.hessian.measure import fixed_batches, measure_hessian
from whyadam.hessian.record import HessianRecord
from whyadam.hessian.settings import HessianSettings
from whyadam.tasks.problem import build_problem

PUBLISHED = HessianSettings(tolerance=None, steps=3, probes=3, adam=True)
"""A few products a block: no block of the network is small enough to be computed exactly."""


def contents(record: HessianRecord) -> dict[str, bytes]:
    return {
        str(path.relative_to(record.folder)): path.read_bytes() for path in record.folder.rglob("*") if path.is_file()
    }


@pytest.fixture
def quadratures(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What is left until a probe's quadrature is interrupted, and how many there were: ``[left, done]``."""
    # The package's attribute of this name is the function.
    spectra = import_module("whyadam.hessian.block_spectra")
    counts, real = [10_000, 0], spectra.probe_quadrature

    def counted(*arguments: Any, **options: Any) -> tuple[Tensor, Tensor]:
        if counts[0] == 0:
            raise KeyboardInterrupt
        counts[:] = counts[0] - 1, counts[1] + 1
        return real(*arguments, **options)

    monkeypatch.setattr(spectra, "probe_quadrature", counted)
    return counts


def test_an_interrupted_measurement_goes_on_to_the_same_bytes(
    network: nn.Module, batches: list[dict[str, Tensor]], loss: Any, tmp_path: Path, quadratures: list[int]
) -> None:
    """The interruption comes within a block; the probes that were finished are not computed again."""
    whole, cut = HessianRecord(tmp_path / "whole"), HessianRecord(tmp_path / "cut")
    measure_hessian(network, loss, batches, PUBLISHED, whole)
    probes = quadratures[1]
    assert probes == 12
    quadratures[0] = 5
    with pytest.raises(KeyboardInterrupt):
        measure_hessian(network, loss, batches, PUBLISHED, cut)
    assert cut.steps() == []
    quadratures[:] = 10_000, 0
    measure_hessian(network, loss, batches, PUBLISHED, cut)
    assert quadratures[1] == probes - 5
    assert contents(cut) == contents(whole)


@pytest.mark.parametrize("change", ["weights", "batches", "effort", "seed"])
def test_finished_work_on_something_else_is_not_taken_over(
    change: str, network: nn.Module, batches: list[dict[str, Tensor]], loss: Any, tmp_path: Path, quadratures: list[int]
) -> None:
    cut, fresh = HessianRecord(tmp_path / "cut"), HessianRecord(tmp_path / "fresh")
    quadratures[0] = 5
    with pytest.raises(KeyboardInterrupt):
        measure_hessian(network, loss, batches, PUBLISHED, cut)
    quadratures[0] = 10_000
    settings, seed = PUBLISHED, 0
    if change == "weights":
        with torch.no_grad():
            network[3].bias[0] += 1e-9
    elif change == "batches":
        batches[1]["y"][0] = (batches[1]["y"][0] + 1) % 3
    elif change == "effort":
        settings = PUBLISHED.model_copy(update={"steps": 2})
    else:
        seed = 1
    for record in (cut, fresh):
        measure_hessian(network, loss, batches, settings, record, seed=seed)
    assert contents(cut) == contents(fresh)


def test_what_is_measured_already_is_left_alone(
    network: nn.Module, batches: list[dict[str, Tensor]], loss: Any, tmp_path: Path, quadratures: list[int]
) -> None:
    record = HessianRecord(tmp_path)
    measure_hessian(network, loss, batches, PUBLISHED, record)
    quadratures[:] = 0, 0
    measure_hessian(network, loss, batches, PUBLISHED.model_copy(update={"every": 5, "processes": 3}), record)
    with pytest.raises(KeyboardInterrupt):
        measure_hessian(network, loss, batches, PUBLISHED.model_copy(update={"blocks": "default"}), record)


def test_processes_change_no_byte(gpt2_config: dict[str, Any], tmp_path: Path) -> None:
    """Each builds the model anew: its weights, its batches and Adam's preconditioner must be those that were sent."""
    experiment = parse_experiment(gpt2_config, "test")
    parts = (experiment.model, experiment.data, experiment.task, experiment.seed)
    problem = build_problem(*parts)
    with torch.no_grad():
        for parameter in problem.model.parameters():
            parameter.mul_(1.5)
    settings = HessianSettings(batch_size=2, tolerance=None, steps=3, probes=2, adam=True)
    batches = fixed_batches(problem.train, settings, 0)
    records = []
    for processes in (1, 2):
        records.append(HessianRecord(tmp_path / str(processes)))
        chosen = settings.model_copy(update={"processes": processes, "blocks": "*h.1.attn*weight*"})
        build = partial(build_problem, *parts)
        measure_hessian(problem.model, problem.loss, batches, chosen, records[-1], build=build)
    assert contents(records[0]) == contents(records[1])


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (partial(os._exit, 1), "hessian.processes: a process died"),
        (partial(int, "three\nlines"), r"the curvature of 0\.weight: ValueError: invalid literal"),
    ],
)
def test_a_process_that_fails_is_said_in_one_line(
    build: Any, expected: str, network: nn.Module, batches: list[dict[str, Tensor]], loss: Any, tmp_path: Path
) -> None:
    """Killed for want of memory, say, or not able to build the model."""
    with pytest.raises(UserError, match=expected) as caught:
        measure_hessian(network, loss, batches, HessianSettings(processes=2), HessianRecord(tmp_path), build=build)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("batch_norm", ["calibrated", "batch"])
def test_batch_norm_is_the_same_in_other_processes(mlp_config: dict[str, Any], tmp_path: Path, batch_norm: Any) -> None:
    """Running statistics come with the weights; those of the batch must be switched on in each process."""
    model = {"name": "vgg16", "layers": [1, 1, 1, 1, 1], "head": "small", "batch_norm": True}
    experiment = parse_experiment(mlp_config | {"model": model}, "test")
    parts = (experiment.model, experiment.data, experiment.task, experiment.seed)
    problem = build_problem(*parts)
    settings = HessianSettings(batch_size=4, tolerance=None, steps=2, probes=2, batch_norm=batch_norm)
    batches = fixed_batches(problem.train, settings, 0)
    records = [HessianRecord(tmp_path / str(processes)) for processes in (1, 2)]
    for processes, record in zip((1, 2), records, strict=True):
        chosen = settings.model_copy(update={"processes": processes, "blocks": ("classifier*", "features.1.*")})
        measure_hessian(problem.model, problem.loss, batches, chosen, record, build=partial(build_problem, *parts))
    assert contents(records[0]) == contents(records[1])
    assert records[0].how(0)["batch_norm"] == batch_norm
