"""What a config asks for after the last step is refused before training, also where only the data says which it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from whyadam.configs.load import parse_experiment
from whyadam.errors import UserError
from whyadam.training import loop
from whyadam.training.run import run_experiment

EPOCH = {"steps": None, "epochs": 1, "batch_size": 1000}
"""Four steps: mnist5k trains on 4,000 images."""


@pytest.mark.parametrize(("length", "last"), [({}, 6), (EPOCH, 4)], ids=["steps", "epochs"])
@pytest.mark.parametrize(
    ("section", "keys"),
    [
        ("noise", {"at": [0, 7], "batches": 8}),
        ("hessian", {"at": ["100%", 7], "tolerance": None, "steps": 2, "probes": 1}),
        ("training", {"keep_checkpoints": [2, 7]}),
        ("schedule", {"warmup_steps": 7}),
    ],
)
def test_what_comes_after_the_end_is_refused_by_its_key(
    length: dict[str, Any],
    last: int,
    section: str,
    keys: dict[str, Any],
    mlp_config: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "take_step", None)
    config = mlp_config | {"training": mlp_config["training"] | length}
    config[section] = config.get(section, {}) | keys
    with pytest.raises(UserError) as refusal:
        run_experiment(parse_experiment(config, "test"), tmp_path)
    key = {"schedule": "warmup_steps", "training": "keep_checkpoints"}.get(section, "at")
    assert f"{section}.{key}: 7 is " in str(refusal.value)
    assert str(last) in str(refusal.value)


def test_the_last_step_itself_is_fine(mlp_config: dict[str, Any], tmp_path: Path) -> None:
    mlp_config["training"] |= EPOCH | {"keep_checkpoints": [0, 4], "checkpoint_every": 2}
    mlp_config["schedule"] = {"name": "linear", "warmup_steps": 4}
    result = run_experiment(parse_experiment(mlp_config, "test"), tmp_path)
    assert result.state == "done"
    assert (result.folder.checkpoints / "step_000000.pt").exists()
