"""Trains with every rule on two processes, each on its half of every batch: torchrun two_processes.py WEIGHTS."""

from __future__ import annotations

import sys
from typing import Any

import torch
from conftest import RULES, classification_loss, make_batches, make_network
from torch import distributed, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel


def copied() -> tuple[nn.Module, nn.Module]:
    """A network, and what is called in its place: DistributedDataParallel."""
    model = make_network()
    return model, DistributedDataParallel(model)


def sharded() -> tuple[nn.Module, nn.Module]:
    """A network whose layers are cut among the processes; three outputs make the pieces of the last one unequal."""
    model = make_network()
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    for layer in (model[0], model[2], model):
        fully_shard(layer, mesh=mesh)
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    return model, model


def train(make: Any, model: nn.Module, called: nn.Module) -> dict[str, Any]:
    """Weights, the optimizer's state by name and what it tells of its last step; all of it whole.

    Half-way the state is saved whole and loaded into a new optimizer.
    """
    optimizer, options = make(model.parameters(), weight_decay=0.1), StateDictOptions(full_state_dict=True)
    for number, batch in enumerate(make_batches()):
        half = {name: tensor.chunk(2)[distributed.get_rank()] for name, tensor in batch.items()}
        optimizer.zero_grad()
        if number == 3:
            saved = get_optimizer_state_dict(model, optimizer, options=options)
            # Torch cannot load the whole state of an optimizer that has none.
            if any(saved["state"].values()):
                optimizer = make(model.parameters())
                set_optimizer_state_dict(model, optimizer, saved, options=options)
        classification_loss(called, half).backward()
        optimizer.step()
    told = {name: value for name, value in optimizer.telemetry().items() if value is not None}
    weights, state = get_state_dict(model, optimizer, options=options)
    return {"weights": weights, "state": state["state"], "told": told}


if __name__ == "__main__":
    distributed.init_process_group("gloo")
    trained = {
        way: {name: train(make, *prepare()) for name, make in RULES.items()}
        for way, prepare in (("copied", copied), ("sharded", sharded))
    }
    if distributed.get_rank() == 0:
        torch.save(trained, sys.argv[1])
    distributed.destroy_process_group()
