"""A saved optimizer goes on where it stood: in a new process, as a copy, and through a pickle."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch


def test_a_new_process_goes_on_to_the_same_bits(rules, network, batches, by_hand, tmp_path) -> None:
    """Catches anything that is kept outside of the state: a count, a cache, a threshold."""
    saved, whole = {}, {}
    for name, make in rules.items():
        model = network()
        optimizer = make(model.parameters(), weight_decay=0.1)
        by_hand(model, optimizer, batches[:3])
        saved[name] = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        whole[name] = by_hand(model, optimizer, batches[3:]).state_dict()
    files = tmp_path / "saved.pt", tmp_path / "continued.pt"
    torch.save({"rules": saved, "batches": batches[3:]}, files[0])
    subprocess.run([sys.executable, Path(__file__).with_name("continued.py"), *files], check=True)
    torch.testing.assert_close(torch.load(files[1]), whole, rtol=0, atol=0)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_goes_on_by_itself(duplicate, make, network, batches, by_hand, assert_same_weights) -> None:
    """Model and optimizer copied together, as federated and meta-learning code does."""
    model = network()
    optimizer = make(model.parameters())
    by_hand(model, optimizer, batches[:3])
    other, its_optimizer = duplicate((model, optimizer))
    by_hand(model, optimizer, batches[3:])
    assert not torch.equal(model[0].weight, other[0].weight)
    assert_same_weights(by_hand(other, its_optimizer, batches[3:]), model)
