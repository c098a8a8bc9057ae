"""Runs over several processes, and how they are compared with those of one."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from whyadam.configs.schema import Experiment
from whyadam.training import loop
from whyadam.training.checkpoint import Checkpoints, load_checkpoint
from whyadam.training.distributed import Replicated
from whyadam.training.metrics import read_metrics
from whyadam.training.run import run_experiment
from whyadam.training.run_folder import RunFolder
from whyadam.training.step import StepResult

EXACT = ("step", "split", "examples", "tokens", "lr")
TO_ROUNDING = ("loss", "perplexity", "grad_norm", "update_norm", "accuracy")

Ranks = list[BaseProcess]


def _start_ranks(action: Callable[[], int], ranks: int) -> Ranks:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def become(rank: int) -> None:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}
        # Children of a fork skip what would end the whole pytest again.
        try:
            code = action()
        except BaseException as error:
            print(f"rank {rank}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            code = 1
        os._exit(code)

    context = multiprocessing.get_context("fork")
    children: Ranks = [context.Process(target=become, args=(rank,)) for rank in range(ranks)]
    for child in children:
        child.start()
    return children


def _exit_codes(children: Ranks) -> list[int | None]:
    for child in children:
        child.join(timeout=120)
    return [child.exitcode for child in children]


@pytest.fixture
def start_ranks() -> Callable[[Callable[[], int], int], Ranks]:
    """Processes as torchrun starts them, whose exit code is what an action returns; forked, torch is there already."""
    return _start_ranks


@pytest.fixture
def exit_codes() -> Callable[[Ranks], list[int | None]]:
    """Exit codes by rank, once all have ended."""
    return _exit_codes


@pytest.fixture
def train_together() -> Callable[[Experiment, Path, int], list[int | None]]:
    """Trains an experiment in so many processes; exit codes by rank."""

    def train(experiment: Experiment, out: Path, ranks: int) -> list[int | None]:
        return _exit_codes(_start_ranks(lambda: run_experiment(experiment, out).exit_code, ranks))

    return train


@pytest.fixture
def train_until_cut(
    interfere: Callable[..., None], monkeypatch: pytest.MonkeyPatch, train_together: Callable[..., list[int | None]]
) -> Callable[..., RunFolder]:
    """Trains in so many processes until a signal reaches one of them, to these exit codes; gives the run folder."""

    def train(
        experiment: Experiment, out: Path, *, step: int, rank: int, number: int, exit_codes: list[int]
    ) -> RunFolder:
        interfere(step=step, rank=rank, number=number)
        assert train_together(experiment, out, len(exit_codes)) == exit_codes
        monkeypatch.undo()
        return RunFolder.of(experiment, out)

    return train


@pytest.fixture
def assert_same_losses() -> Callable[[RunFolder, RunFolder], None]:
    """Every number of every row to 1e-5, counts exactly, and all tensors of the last checkpoint.

    A coordinate at the very edge of a clipping rule may fall to either side.
    """

    def compare(one: RunFolder, other: RunFolder) -> None:
        rows, others = read_metrics(one.metrics), read_metrics(other.metrics)
        assert len(rows) == len(others) > 2
        for row, same in zip(rows, others, strict=True):
            assert [row[key] for key in EXACT] == [same[key] for key in EXACT]
            for keys, tolerance in ((TO_ROUNDING, {"rel": 1e-5}), (("clip_fraction",), {"abs": 5e-3})):
                numbers = {key: float(row[key]) for key in keys if row[key]}
                assert {key: float(same[key]) for key in keys if same[key]} == pytest.approx(numbers, **tolerance)
        last = int(rows[-1]["step"])
        states = [load_checkpoint(Checkpoints(run.checkpoints).path(last)) for run in (one, other)]
        torch.testing.assert_close(states[0]["model"], states[1]["model"], rtol=1e-4, atol=1e-5)
        remembered = [state["optimizer"]["state"] for state in states]
        torch.testing.assert_close(remembered[0], remembered[1], rtol=1e-3, atol=1e-5)

    return compare


@pytest.fixture
def gpt2(gpt2_config: dict[str, Any]) -> dict[str, Any]:
    """Without dropout, which each rank draws for itself; five sequences a step are no even share for two."""
    gpt2_config["model"]["dropout"] = 0.0
    gpt2_config["optimizer"] = {"name": "sgd", "lr": 0.1, "momentum": 0.9}
    gpt2_config["training"] |= {"batch_size": 5, "log_every": 1, "checkpoint_every": 3}
    return gpt2_config


@pytest.fixture
def interfere(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sends one rank a signal before it takes a step, until ``monkeypatch.undo()``.

    Where there are several ranks it gets two, as from torchrun and the scheduler of a cluster.
    """

    def before(step: int, rank: int, number: int) -> None:
        def interfered(layout: Replicated, *arguments: Any, **named: Any) -> StepResult:
            if next(steps) == step and layout.ranks.rank == rank:
                os.kill(os.getpid(), number)
                if layout.ranks.size > 1:
                    os.kill(os.getpid(), number)
            return take_step(layout, *arguments, **named)

        take_step, steps = loop.take_step, itertools.count()
        monkeypatch.setattr(loop, "take_step", interfered)

    return before
