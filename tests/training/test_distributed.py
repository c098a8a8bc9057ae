"""Two processes that train one model together end in the losses of one process."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import yaml
from torch import nn
from whyadam.configs.load import parse_experiment
from whyadam.configs.schema import Experiment
from whyadam.errors import UserError
from whyadam.tasks.base import Task
from whyadam.tasks.problem import Problem
from whyadam.training.checkpoint import Checkpoints
from whyadam.training.distributed import SINGLE, Ranks, convert_sync_batch_norm, process_group, synchronize_batch_norm
from whyadam.training.run import run_experiment
from whyadam.training.run_folder import RunFolder

Train = Callable[[Experiment, Path, int], list[int | None]]
Compare = Callable[[RunFolder, RunFolder], None]
StartRanks = Callable[[Callable[[], int], int], list[BaseProcess]]
ExitCodes = Callable[[list[BaseProcess]], list[int | None]]


def test_a_language_model_with_uneven_shares(
    gpt2: dict[str, Any], tmp_path: Path, train_together: Train, assert_same_losses: Compare
) -> None:
    """Catches means of means: three sequences in micro-batches of two on one rank, two on the other."""
    gpt2["training"] |= {"micro_batch_size": 2, "clip_grad_norm": 0.5}
    experiment = parse_experiment(gpt2, "test")
    alone = run_experiment(experiment, tmp_path / "alone").folder
    assert train_together(experiment, tmp_path / "together", 2) == [0, 0]
    together = RunFolder.of(experiment, tmp_path / "together")
    assert_same_losses(alone, together)
    assert together.read_status()["processes"] == 2


def test_more_processes_than_divide_the_batch(
    mlp_config: dict[str, Any], tmp_path: Path, train_together: Train, assert_same_losses: Compare
) -> None:
    """Three ranks, 16 images; noise on the gradient is the same on every rank, else their weights would part."""
    mlp_config["training"] |= {"log_every": 1, "inject_noise": {"law": {"name": "gaussian"}, "scale": 0.5}}
    experiment = parse_experiment(mlp_config, "test")
    alone = run_experiment(experiment, tmp_path / "alone").folder
    assert train_together(experiment, tmp_path / "together", 3) == [0, 0, 0]
    assert_same_losses(alone, RunFolder.of(experiment, tmp_path / "together"))


@pytest.mark.parametrize(("first", "second"), [(1, 2), (2, 1)])
def test_a_signal_to_one_process_stops_all_and_another_number_goes_on(
    first: int,
    second: int,
    gpt2: dict[str, Any],
    tmp_path: Path,
    train_until_cut: Callable[..., RunFolder],
    train_together: Train,
    assert_same_losses: Compare,
) -> None:
    """Catches anything of a checkpoint that belongs to a number of processes, and ranks that stop at unlike steps."""
    experiment = parse_experiment(gpt2, "test")
    alone = run_experiment(experiment, tmp_path / "alone").folder
    where = {"step": 4, "rank": first - 1, "number": signal.SIGTERM}
    cut = train_until_cut(experiment, tmp_path / "cut", **where, exit_codes=[143] * first)
    assert (cut.read_status()["state"], cut.read_status()["step"]) == ("interrupted", 5)
    assert train_together(experiment, tmp_path / "cut", second) == [0] * second
    assert cut.read_status()["state"] == "done"
    assert_same_losses(alone, cut)


def test_a_lost_process_ends_the_run_and_the_same_line_goes_on(
    gpt2: dict[str, Any],
    tmp_path: Path,
    train_until_cut: Callable[..., RunFolder],
    train_together: Train,
    assert_same_losses: Compare,
) -> None:
    experiment = parse_experiment(gpt2, "test")
    alone = run_experiment(experiment, tmp_path / "alone").folder
    where = {"step": 4, "rank": 1, "number": signal.SIGKILL}
    cut = train_until_cut(experiment, tmp_path / "cut", **where, exit_codes=[1, -signal.SIGKILL])
    assert cut.read_status()["state"] == "failed"
    assert "another process of this run is lost" in cut.read_status()["error"]
    assert train_together(experiment, tmp_path / "cut", 2) == [0, 0]
    assert_same_losses(alone, cut)


def test_all_diverge_together(mlp_config: dict[str, Any], tmp_path: Path, train_together: Train) -> None:
    """The evaluation, which rank 0 does alone, is what finds it; the other must not wait for the next step."""
    mlp_config["optimizer"]["lr"] = 1e30
    mlp_config["training"] |= {"eval_every": 1}
    experiment = parse_experiment(mlp_config, "test")
    assert train_together(experiment, tmp_path, 2) == [0, 0]
    assert RunFolder.of(experiment, tmp_path).read_status()["state"] == "diverged"


def test_a_folder_in_use_is_refused_by_all(
    mlp_config: dict[str, Any], tmp_path: Path, start_ranks: StartRanks, exit_codes: ExitCodes
) -> None:
    experiment = parse_experiment(mlp_config, "test")

    def is_refused() -> int:
        with pytest.raises(UserError, match="another process is at work"):
            run_experiment(experiment, tmp_path)
        return 0

    with RunFolder.of(experiment, tmp_path).lock():
        assert exit_codes(start_ranks(is_refused, 2)) == [0, 0]


def test_an_error_of_an_unknown_kind_keeps_its_words(start_ranks: StartRanks, exit_codes: ExitCodes) -> None:
    """Whichever rank it comes from."""

    class LocalError(Exception):
        """Known to one process only."""

    def is_raised() -> int:
        try:
            with process_group() as ranks, ranks.propagate_errors():
                if ranks.rank == 1:
                    raise LocalError("no such file on one machine")
        except (LocalError, RuntimeError) as error:
            return 7 if "no such file on one machine" in str(error) else 8
        return 0

    assert exit_codes(start_ranks(is_raised, 2)) == [7, 7]


def test_a_batch_too_small_to_share_is_refused() -> None:
    with pytest.raises(UserError, match=r"training.batch_size: 2 examples cannot be split over 3 processes"):
        Ranks(rank=1, size=3).share(2)


def test_a_single_gpu_or_too_few_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match=r"training.device: cuda:1 is one device for 3 processes"):
        Ranks(rank=1, size=3, local_rank=1).device("cuda:1")
    with pytest.raises(UserError, match=r"torchrun --nproc-per-node: 2 GPUs here"):
        Ranks(rank=2, size=3, local_rank=2).device("auto")
    assert Ranks(rank=2, size=3, local_rank=2).device("cpu") == torch.device("cpu")


@pytest.fixture
def normalised() -> nn.Sequential:
    """A network with BatchNorm."""
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_batch_norm_is_refused_where_its_statistics_cannot_be_shared(
    normalised: nn.Module, mlp_config: dict[str, Any]
) -> None:
    settings = parse_experiment(mlp_config, "test").training
    problem = Problem(normalised, cast("Task", None))
    assert synchronize_batch_norm(problem, settings, 16, SINGLE) is problem
    with pytest.raises(UserError, match="between GPUs only"):
        synchronize_batch_norm(problem, settings, 16, Ranks(rank=0, size=2))


def test_the_model_with_synchronized_batch_norm_trains_the_given_one(normalised: nn.Module) -> None:
    """Its gradients and running statistics are those of the model, which keeps its own kind of BatchNorm."""
    synchronized = convert_sync_batch_norm(normalised)
    synchronized(torch.randn(8, 3)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in normalised.parameters())
    kinds = [type(cast("nn.Sequential", model)[1]) for model in (normalised, synchronized)]
    assert kinds == [nn.BatchNorm1d, nn.SyncBatchNorm]
    torch.testing.assert_close(normalised.state_dict(), synchronized.state_dict(), rtol=0, atol=0)
    assert normalised.state_dict()["1.num_batches_tracked"] == 1


@pytest.mark.slow
def test_torchrun_stopped_by_sigterm_and_started_again(
    gpt2: dict[str, Any], tmp_path: Path, assert_same_losses: Compare
) -> None:
    """The command itself, as a cluster uses it; torchrun passes the signal on and waits."""
    gpt2["training"] |= {"steps": 400, "log_every": 20, "checkpoint_every": 20}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(gpt2))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    line = [*launcher, "-m", "whyadam.cli", "train", str(config), "--out", str(tmp_path / "cut")]
    experiment = parse_experiment(gpt2, "test")
    alone = run_experiment(experiment, tmp_path / "alone").folder
    cut = RunFolder.of(experiment, tmp_path / "cut")

    process = subprocess.Popen(line)
    deadline = time.monotonic() + 120
    while not Checkpoints(cut.checkpoints).steps() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.terminate()
    assert process.wait(timeout=60) != 0
    assert cut.read_status()["state"] == "interrupted"
    assert cut.read_status()["step"] == Checkpoints(cut.checkpoints).steps()[-1] < 400

    finished = subprocess.run(line, capture_output=True, text=True, check=True)
    assert finished.stdout.count("done at step 400") == 1
    assert_same_losses(alone, cut)
