"""A signal in the middle of an evaluation or a measurement ends the run there, and going on loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from whyadam.configs.load import parse_experiment
from whyadam.hessian.slq import Lanczos
from whyadam.noise import measure
from whyadam.training import monitor as evaluation
from whyadam.training.checkpoint import Checkpoints
from whyadam.training.distributed import Ranks
from whyadam.training.noise_meter import NoiseMeter
from whyadam.training.run import run_experiment
from whyadam.training.run_folder import RunFolder
from whyadam.training.signals import Interrupted, Interruption

PLACES = {
    "evaluation": (evaluation, "to_device"),
    "gradient noise": (NoiseMeter, "_loss"),
    "noise statistics": (measure, "measure_tail"),
    "curvature": (Lanczos, "step"),
}
"""What is called again and again while something is measured."""


@pytest.fixture
def config(mlp_config: dict[str, Any]) -> dict[str, Any]:
    """Measures at the beginning, in the middle where no checkpoint is due, and at the end."""
    mlp_config["model"]["hidden"] = [4]
    mlp_config["training"] |= {"eval_every": 3, "eval_examples": 256, "checkpoint_every": 3, "keep_checkpoints": [0]}
    mlp_config["noise"] = {"at": [0, 4, 6], "batches": 8, "reference": 2}
    mlp_config["hessian"] = {"at": [0, 4, 6], "tolerance": None, "steps": 3, "probes": 2, "adam": True}
    return mlp_config


def contents(folder: RunFolder) -> dict[str, Any]:
    """Every file of a run that holds results, without wall-clock times."""
    found: dict[str, Any] = {}
    for path in sorted(folder.path.rglob("*")):
        name = str(path.relative_to(folder.path))
        if name == "metrics.csv":
            found[name] = [line.rpartition(",")[0] for line in path.read_text().splitlines()]
        elif path.suffix == ".pt":
            found[name] = repr(torch.load(path, weights_only=True))
        elif path.is_file() and name not in ("status.json", ".lock"):
            found[name] = path.read_bytes()
    return found


def count_calls(patch: pytest.MonkeyPatch, place: str, act: Callable[[int], None]) -> None:
    """Before each call at the place, act on its number."""
    owner, name = PLACES[place]
    inner, calls = getattr(owner, name), 0

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        act(calls)
        return inner(*arguments, **named)

    patch.setattr(owner, name, counted)


@pytest.mark.parametrize(
    "share", [0.5, pytest.param(0.1, marks=pytest.mark.slow), pytest.param(0.95, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("place", PLACES)
def test_it_stops_there_and_goes_on_to_the_same_bytes(
    place: str, share: float, config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the beginning, in the middle and at the end of the run; what was measured before is not measured again."""
    experiment = parse_experiment(config, "test")
    calls: list[int] = []
    with monkeypatch.context() as patch:
        count_calls(patch, place, calls.append)
        whole = run_experiment(experiment, tmp_path / "whole").folder
    number, seen = max(2, round(share * len(calls))), []

    def stop(call: int) -> None:
        seen.append(call)
        if call == number:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        count_calls(patch, place, stop)
        result = run_experiment(experiment, tmp_path / "cut")
    assert (result.state, result.exit_code, len(seen)) == ("interrupted", 143, number)
    status = result.folder.read_status()
    assert status["state"] == "interrupted"
    assert status["step"] == 0 or Checkpoints(result.folder.checkpoints).steps()[-1] == status["step"]
    assert run_experiment(experiment, tmp_path / "cut").state == "done"
    assert contents(result.folder) == contents(whole)


def test_a_signal_during_a_step_puts_off_what_would_come_after_it(
    config: dict[str, Any], tmp_path: Path, interfere: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint is written at once; evaluation and measurements of the step come when the run goes on."""
    experiment = parse_experiment(config, "test")
    whole = run_experiment(experiment, tmp_path / "whole").folder
    interfere(step=3, rank=0, number=signal.SIGINT)
    result = run_experiment(experiment, tmp_path / "cut")
    monkeypatch.undo()
    assert (result.exit_code, result.folder.read_status()["step"]) == (130, 4)
    assert not (result.folder.path / "hessian" / "step_000004").exists()
    assert run_experiment(experiment, tmp_path / "cut").state == "done"
    assert contents(result.folder) == contents(whole)


def test_all_processes_stop_in_the_middle_of_a_measurement(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_ranks: Any, exit_codes: Any
) -> None:
    """The first one measures; the others wait for it and must hear why it stops."""
    experiment = parse_experiment(config, "test")

    def run_and_stop() -> int:
        count_calls(monkeypatch, "gradient noise", lambda call: os.kill(os.getpid(), signal.SIGTERM))
        return run_experiment(experiment, tmp_path).exit_code

    assert exit_codes(start_ranks(run_and_stop, 2)) == [143, 143]
    assert RunFolder.of(experiment, tmp_path).read_status()["state"] == "interrupted"


def test_an_error_that_a_signal_has_caused_is_none() -> None:
    """The same signal may first have ended a process that was of help."""
    interruption = Interruption()

    def lose_helper() -> None:
        with interruption.interruptible():
            interruption.signal = signal.SIGTERM
            raise ConnectionError("a process died")

    for _ in range(2):
        with pytest.raises(Interrupted) as stop:
            lose_helper()
        assert stop.value.signal == signal.SIGTERM


def test_the_others_receive_error_the_signal_as_one(start_ranks: Any, exit_codes: Any) -> None:
    def hear() -> int:
        from whyadam.training.distributed import process_group

        with process_group() as ranks:
            try:
                stop_first(ranks)
            except Interrupted as stop:
                return stop.signal
        return 0

    def stop_first(ranks: Ranks) -> None:
        with ranks.propagate_errors():
            if ranks.is_first:
                raise Interrupted(signal.SIGTERM)

    assert exit_codes(start_ranks(hear, 2)) == [signal.SIGTERM] * 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["noise", "hessian"])
def test_the_command_stops_within_two_seconds(kind: str, config: dict[str, Any], tmp_path: Path) -> None:
    """A measurement that takes half a minute and more, stopped after one or two seconds of it."""
    config["noise"] = {"at": [4], "batches": 20000} if kind == "noise" else None
    long = {"at": [4], "blocks": "full", "batches": 4, "batch_size": 512, "tolerance": None, "steps": 1000}
    config["hessian"] = long if kind == "hessian" else None
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    folder = RunFolder.of(parse_experiment(config, "test"), tmp_path)
    process = subprocess.Popen([sys.executable, "-m", "whyadam.cli", "train", str(file), "--out", str(tmp_path)])
    deadline = time.monotonic() + 120
    while 4 not in Checkpoints(folder.checkpoints).steps() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(1.5)
    process.terminate()
    start = time.monotonic()
    while folder.read_status()["state"] != "interrupted" and time.monotonic() < start + 60:
        time.sleep(0.01)
    seconds = time.monotonic() - start
    print(f"{kind}: the last word was written {seconds:.2f} s after the signal")
    # What Python takes to end, a second on an idle machine, is not ours.
    assert process.wait(timeout=60) == 143
    assert seconds < 2
    assert folder.read_status()["step"] == 4
