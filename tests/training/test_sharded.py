"""Processes that each hold a shard of the model train as one process that holds all of it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from whyadam.configs.load import ConfigError, identity, parse_experiment
from whyadam.configs.schema import Experiment
from whyadam.hessian.record import HessianRecord
from whyadam.noise.record import NoiseRecord
from whyadam.optimizers import build_optimizer
from whyadam.tasks.problem import build_problem
from whyadam.training.checkpoint import Checkpoints, TrainingState, load_checkpoint
from whyadam.training.distributed import Replicated, process_group
from whyadam.training.fsdp import Sharded, fsdp_units
from whyadam.training.noise_meter import measure_run
from whyadam.training.run import run_experiment
from whyadam.training.run_folder import RunFolder
from whyadam.training.step import take_step

Train = Callable[[Experiment, Path, int], list[int | None]]
Compare = Callable[[RunFolder, RunFolder], None]
StartRanks = Callable[[Callable[[], int], int], list[BaseProcess]]
ExitCodes = Callable[[list[BaseProcess]], list[int | None]]

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.1},
    "adam": {"lr": 1e-3},
    "adamw": {"lr": 1e-3, "foreach": True, "no_weight_decay": ["*.bias"]},
    "gclip": {"lr": 0.1, "clip": 1.0, "momentum": 0.9, "fused": True},
    "cclip": {"lr": 0.1, "clip": 1e-3, "momentum": 0.9, "foreach": True},
    "acclip": {"lr": 1.0, "fused": True},
    "acclip_rms": {"lr": 1e-3},
    "signum": {"lr": 1e-3},
    "normalized_sgd": {"lr": 0.1},
}


def sharded(config: dict[str, Any]) -> Experiment:
    return parse_experiment(config | {"training": config["training"] | {"shard": True}}, "test")


@pytest.fixture
def small(mlp_config: dict[str, Any]) -> dict[str, Any]:
    """Of 4 rows, three processes hold 2, 2 and none."""
    mlp_config["model"]["hidden"] = [4]
    mlp_config["optimizer"] = {"name": "adam", "lr": 1e-2}
    mlp_config["training"] |= {"log_every": 1}
    return mlp_config


def test_a_language_model_whose_embedding_is_tied(
    gpt2: dict[str, Any], tmp_path: Path, train_together: Train, assert_same_losses: Compare
) -> None:
    """Catches averaged gradients, a clipping norm of one shard, and a rank that waits for passes of another.

    Of five sequences one at a time, the third process has a pass less than the others; no vocabulary divides by three.
    """
    gpt2["optimizer"] = {"name": "gclip", "lr": 0.1, "clip": 0.3, "momentum": 0.9}
    gpt2["training"] |= {"micro_batch_size": 1, "clip_grad_norm": 0.5}
    alone = run_experiment(parse_experiment(gpt2, "test"), tmp_path / "alone").folder
    experiment = sharded(gpt2)
    assert train_together(experiment, tmp_path / "together", 3) == [0, 0, 0]
    assert_same_losses(alone, RunFolder.of(experiment, tmp_path / "together"))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_optimizer(
    optimizer: str, gpt2: dict[str, Any], tmp_path: Path, train_together: Train, assert_same_losses: Compare
) -> None:
    """In all three ways to apply a rule; norms and clipped shares are those of the whole model."""
    gpt2["optimizer"] = {"name": optimizer} | OPTIMIZERS[optimizer]
    alone = run_experiment(parse_experiment(gpt2, "test"), tmp_path / "alone").folder
    experiment = sharded(gpt2)
    assert train_together(experiment, tmp_path / "together", 2) == [0, 0]
    assert_same_losses(alone, RunFolder.of(experiment, tmp_path / "together"))


@pytest.mark.slow
def test_with_activation_checkpointing(
    gpt2: dict[str, Any], tmp_path: Path, train_together: Train, assert_same_losses: Compare
) -> None:
    """A block's weights are fetched a third time, to compute it again."""
    gpt2["training"] |= {"activation_checkpointing": True}
    alone = run_experiment(parse_experiment(gpt2, "test"), tmp_path / "alone").folder
    experiment = sharded(gpt2)
    assert train_together(experiment, tmp_path / "together", 2) == [0, 0]
    assert_same_losses(alone, RunFolder.of(experiment, tmp_path / "together"))


def test_each_process_holds_its_share(small: dict[str, Any], start_ranks: StartRanks, exit_codes: ExitCodes) -> None:
    """Catches whole tensors that live on behind a view: the memory is counted, not only the elements."""
    small["model"]["hidden"] = [64, 64, 64]
    experiment = sharded(small)

    def bytes_of(tensors: list[Tensor]) -> int:
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors)

    def is_a_share() -> int:
        with process_group() as ranks:
            problem = build_problem(experiment.model, experiment.data, experiment.task, experiment.seed)
            whole = sum(parameter.numel() for parameter in problem.model.parameters())
            optimizer = build_optimizer(experiment.optimizer, problem.model.named_parameters())
            settings = experiment.training
            batches = [problem.train.batch([(0, 0)])]
            take_step(Replicated(problem), optimizer, batches, settings)
            layout = Sharded(problem, TrainingState(problem.model, optimizer), settings, 16, ranks)
            take_step(layout, optimizer, batches, settings)
            weights = [cast("DTensor", weight).to_local() for weight in layout.problem.model.parameters()]
            moments = [
                state[name].to_local() for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")
            ]
            assert bytes_of(list(problem.model.parameters())) == 0
            assert bytes_of(weights) == 4 * whole // 2
            assert bytes_of(moments) == 2 * 4 * whole // 2
        return 0

    assert exit_codes(start_ranks(is_a_share, 2)) == [0, 0]


@pytest.mark.parametrize(("first", "second"), [(3, 1), pytest.param(1, 3, marks=pytest.mark.slow)])
def test_a_run_goes_on_in_another_layout(
    first: int,
    second: int,
    small: dict[str, Any],
    tmp_path: Path,
    train_until_cut: Callable[..., RunFolder],
    train_together: Train,
    assert_same_losses: Compare,
) -> None:
    """Catches shards in a checkpoint, and moments that are lost or mixed up on the way there or back."""
    alone = run_experiment(parse_experiment(small, "test"), tmp_path / "alone").folder
    experiment = sharded(small)
    where = {"step": 3, "rank": first - 1, "number": signal.SIGTERM}
    cut = train_until_cut(experiment, tmp_path / "cut", **where, exit_codes=[143] * first)
    assert cut.read_status()["step"] == 4
    assert train_together(experiment, tmp_path / "cut", second) == [0] * second
    assert_same_losses(alone, cut)


@pytest.mark.slow
def test_a_sharded_run_goes_on_with_whole_copies(
    gpt2: dict[str, Any],
    tmp_path: Path,
    train_until_cut: Callable[..., RunFolder],
    train_together: Train,
    assert_same_losses: Compare,
) -> None:
    alone = run_experiment(parse_experiment(gpt2, "test"), tmp_path / "alone").folder
    where = {"step": 4, "rank": 0, "number": signal.SIGTERM}
    cut = train_until_cut(sharded(gpt2), tmp_path / "cut", **where, exit_codes=[143] * 2)
    assert train_together(parse_experiment(gpt2, "test"), tmp_path / "cut", 3) == [0] * 3
    assert_same_losses(alone, cut)


@pytest.mark.slow
def test_a_lost_process_ends_the_run_and_the_same_line_goes_on(
    gpt2: dict[str, Any],
    tmp_path: Path,
    train_until_cut: Callable[..., RunFolder],
    train_together: Train,
    assert_same_losses: Compare,
) -> None:
    alone = run_experiment(parse_experiment(gpt2, "test"), tmp_path / "alone").folder
    experiment = sharded(gpt2)
    where = {"step": 4, "rank": 1, "number": signal.SIGKILL}
    cut = train_until_cut(experiment, tmp_path / "cut", **where, exit_codes=[1, -signal.SIGKILL])
    assert cut.read_status()["state"] == "failed"
    assert train_together(experiment, tmp_path / "cut", 2) == [0, 0]
    assert_same_losses(alone, cut)


def test_noise_and_curvature_are_those_of_the_whole_model(
    small: dict[str, Any], tmp_path: Path, train_together: Train
) -> None:
    """Measured on the way, with Adam's own moments; and afterwards, from the checkpoint, to the bit."""
    small["training"] |= {"keep_checkpoints": [2]}
    small["noise"] = {"at": [2], "batches": 8, "reference": 4}
    small["hessian"] = {"at": [2], "blocks": "default", "adam": True, "tolerance": None, "steps": 3, "probes": 2}
    alone = run_experiment(parse_experiment(small, "test"), tmp_path / "alone").folder
    experiment = sharded(small)
    assert train_together(experiment, tmp_path / "together", 2) == [0, 0]
    together = RunFolder.of(experiment, tmp_path / "together")
    curvature = [HessianRecord(folder.path) for folder in (alone, together)]
    assert curvature[1].how(2)["adam_source"] == "moments"
    for adam in (False, True):
        one, other = (record.spectra(2, adam=adam) for record in curvature)
        for block in one:
            torch.testing.assert_close(one[block].nodes, other[block].nodes, rtol=1e-3, atol=1e-4)
    norms = [NoiseRecord(folder.path).samples(2)["batch_norms"] for folder in (alone, together)]
    np.testing.assert_allclose(norms[0], norms[1], rtol=1e-4)
    list(measure_run(experiment, together, [2]))
    np.testing.assert_array_equal(NoiseRecord(together.path).samples(2)["batch_norms"], norms[1])


def test_alone_it_does_nothing(small: dict[str, Any], tmp_path: Path) -> None:
    """Neither to the run's name nor to a bit of its weights."""
    plain = run_experiment(parse_experiment(small, "test"), tmp_path / "plain").folder
    again = run_experiment(sharded(small), tmp_path / "again").folder
    assert plain.path.name == again.path.name
    one, other = (load_checkpoint(Checkpoints(folder.checkpoints).path(6)) for folder in (plain, again))
    torch.testing.assert_close(one["model"], other["model"], rtol=0, atol=0)
    assert identity(sharded(small)) == identity(parse_experiment(small, "test"))


@pytest.mark.parametrize(
    ("key", "value"), [("compile", True), ("inject_noise", {"law": {"name": "gaussian"}, "scale": 1.0})]
)
def test_what_does_not_go_with_it_is_refused_at_once(key: str, value: object, small: dict[str, Any]) -> None:
    small["training"] |= {key: value}
    with pytest.raises(ConfigError, match=rf"training\.shard: goes without training\.{key}"):
        sharded(small)


def test_the_weights_of_a_block_are_fetched_together(gpt2: dict[str, Any]) -> None:
    experiment = parse_experiment(gpt2, "test")
    model = build_problem(experiment.model, experiment.data, experiment.task, experiment.seed).model
    assert fsdp_units(model) == list(model.transformer.h)  # type: ignore[union-attr, arg-type]


def test_a_block_that_shares_weights_is_fetched_with_the_rest() -> None:
    """Else torch would train one of the two uses alone, or refuse the model."""
    model = nn.Module()
    model.body = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 2))
    model.head = nn.Linear(2, 2)
    model.head.weight = cast("nn.Linear", model.body[2]).weight
    assert fsdp_units(model) == [model.body[0], model.body[1]]
