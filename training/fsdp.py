"""Ranks of which each holds a shard of the model and of the optimizer's state: torch's FSDP2."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import ceil
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from ..configs.schema import Training
from ..errors import UserError
from ..models.modules import has_batch_norm
from ..tasks.problem import Problem
from .checkpoint import TrainingState
from .distributed import Ranks, Replicated, twin_of

OptimizerState = dict[str, Any]
"""What an optimizer remembers of a parameter, by name."""


class Sharded(Replicated):
    """Every rank holds some rows of each parameter, and of all that the optimizer remembers of it.

    A twin of the model is trained: the weights of a block are fetched from the other ranks when they are needed, and
    dropped again. Its parameters are DTensors, and the optimizer works on them. The model itself is empty, but for the
    moments at which rank 0 needs it whole.
    """

    def __init__(
        self, problem: Problem, state: TrainingState, settings: Training, batch_size: int, ranks: Ranks
    ) -> None:
        """Move this rank's rows to its device and drop the rest.

        Args:
            problem: its model is whole, in main memory, and the same on every rank.
            state: of the run, with the optimizer over the parameters of that model.
            settings: the ``training`` section.
            batch_size: examples a step, over all ranks.
            ranks: those that train together.

        Raises:
            UserError: the model cannot be sharded.
        """
        if has_batch_norm(problem.model):
            raise UserError("training.shard: a model with BatchNorm is trained whole; leave it out")
        device = ranks.device(settings.device)
        twin = twin_of(problem.model)
        _shard(twin, init_device_mesh(device.type, (ranks.size,)))
        super().__init__(replace(problem, model=twin), ranks)
        self.fewest_passes = ceil(ceil(batch_size / ranks.size) / (settings.micro_batch_size or batch_size))
        shards = cast("Iterator[DTensor]", twin.parameters())
        self._shards = dict(zip(problem.model.parameters(), shards, strict=True))
        self._optimizer = state.optimizer
        self._own_state: dict[Any, OptimizerState] = {
            shard: {name: _cut(value, shard) for name, value in state.optimizer.state[parameter].items()}
            for parameter, shard in self._shards.items()
            if parameter in state.optimizer.state
        }
        self._let_go()
        state.losses = [loss.to(device) for loss in state.losses]

    def add_up(self, loss: Tensor) -> list[nn.Parameter]:
        """Sum the loss over the ranks, in place; FSDP2 has summed the gradients."""
        self.ranks.sum([loss])
        return [parameter for parameter in self.problem.model.parameters() if parameter.grad is not None]

    def norm(self, tensors: Sequence[Tensor]) -> Tensor:
        """The Euclidean norm over all ranks' rows, on each rank."""
        return cast("DTensor", nn.utils.get_total_norm(tensors)).full_tensor()

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Within this block rank 0 has the whole model on its device, and the optimizer's whole state in main memory.

        What is changed of them there is lost.
        """
        self._own_state = dict(self._optimizer.state)
        state = {}
        with torch.no_grad():
            for parameter, shard in self._shards.items():
                weights = shard.full_tensor()
                if self.ranks.is_first:
                    parameter.data = weights
                if shard in self._own_state:
                    remembered = {name: _gather(value) for name, value in self._own_state[shard].items()}
                    if self.ranks.is_first:
                        state[parameter] = {name: _in_main_memory(value) for name, value in remembered.items()}
        self._bind({shard: parameter for parameter, shard in self._shards.items()}, state)
        try:
            yield
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """Leave the model empty, and the optimizer with this rank's rows."""
        for parameter, shard in self._shards.items():
            parameter.data = torch.empty(0, device=shard.device)
        self._bind(self._shards, self._own_state)

    def _bind(self, exchange: Mapping[Any, Tensor], state: Mapping[Any, OptimizerState]) -> None:
        """Let the optimizer work on other parameters in the place of those that it has."""
        for group in self._optimizer.param_groups:
            group["params"] = [exchange[parameter] for parameter in group["params"]]
        self._optimizer.state = defaultdict(dict, state)


def blocks(model: nn.Module) -> list[nn.Module]:
    """The parts whose weights are fetched together: the members of each outermost list or sequence of modules.

    A part that shares a parameter with what is outside of it is none.
    """
    everywhere = _holders(model)
    found = dict.fromkeys(_members(model))
    return [block for block in found if all(count == everywhere[p] for p, count in _holders(block).items())]


def _members(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        yield from child.children() if isinstance(child, nn.ModuleList | nn.Sequential) else _members(child)


def _holders(module: nn.Module) -> Counter[nn.Parameter]:
    """How many modules hold each parameter."""
    return Counter(parameter for part in module.modules() for parameter in part.parameters(recurse=False))


def _shard(model: nn.Module, mesh: DeviceMesh) -> None:
    try:
        for part in [*blocks(model), model]:
            whole = [parameter for parameter in part.parameters() if not isinstance(parameter, DTensor)]
            fully_shard(part, mesh=mesh)
            # At once, so that a GPU holds no more than one block whole.
            for parameter in whole:
                parameter.data = torch.empty(0)
    except (ValueError, NotImplementedError) as error:
        raise UserError(f"training.shard: torch cannot shard this model: {' '.join(str(error).split())}") from error
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # Each rank's loss is its part of one mean: gradients are added, not averaged.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def _cut(value: Any, like: DTensor) -> Any:
    """This rank's rows of what an optimizer remembers of a parameter; a mere number is left as it is."""
    if not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    rows = distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    # They are a view of the whole.
    return rows.clone()


def _gather(value: Any) -> Any:
    return value.full_tensor() if isinstance(value, DTensor) else value


def _in_main_memory(value: Any) -> Any:
    return value.cpu() if isinstance(value, Tensor) else value
