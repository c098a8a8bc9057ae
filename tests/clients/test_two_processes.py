"""Our rules on two processes: copies (DistributedDataParallel) and shards (fully_shard) against one process alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ``two_processes.py`` leaves."""
    file = tmp_path_factory.mktemp("two") / "trained.pt"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*launch, Path(__file__).with_name("two_processes.py"), file], check=True, timeout=500)
    return torch.load(file)


@pytest.mark.parametrize("way", ["copied", "sharded"])
def test_two_processes_are_one(way, trained, rules, network, batches, by_hand, loss_of) -> None:
    """Norms of one shard instead of all would clip less; the telemetry and the saved state are of the whole, too."""
    for name, make in rules.items():
        model = network()
        optimizer = make(model.parameters(), weight_decay=0.1)
        by_hand(model, optimizer, batches[:-1])
        loss_of(model, batches[-1]).backward()
        optimizer.step()
        told = {key: value for key, value in optimizer.telemetry().items() if value is not None}
        state = {key: optimizer.state[parameter] for key, parameter in model.named_parameters()}
        expected = {"weights": dict(model.state_dict()), "state": state, "told": told}
        found = trained[way][name]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
