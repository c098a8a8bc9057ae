"""Sharded training with torch's FSDP2: each rank holds some rows of every parameter and of the optimizer's state."""

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
from .distributed import Ranks, Replicated, copy_sharing_tensors

OptimizerState = dict[str, Any]
"""An optimizer's state of one parameter, by name."""


class Sharded(Replicated):
    """Every rank holds some rows of each parameter and of its optimizer state.

    A copy of the model is trained. Its parameters are DTensors, on which the optimizer works; FSDP2 gathers the weights
    of a unit when they are needed and frees them again. The problem's own model is empty except within ``full_state``.
    """

    def __init__(
        self, problem: Problem, state: TrainingState, settings: Training, batch_size: int, ranks: Ranks
    ) -> None:
        """Move this rank's rows to its device and free the rest.

        Args:
            problem: its model is complete, in main memory, and the same on every rank.
            state: of the run, with the optimizer over the parameters of that model.
            settings: the ``training`` section.
            batch_size: examples per step, over all ranks.
            ranks: the processes that train together.

        Raises:
            UserError: the model cannot be sharded.
        """
        if has_batch_norm(problem.model):
            raise UserError("training.shard: a model with BatchNorm cannot be sharded; leave it out")
        device = ranks.device(settings.device)
        trained = copy_sharing_tensors(problem.model)
        _shard(trained, init_device_mesh(device.type, (ranks.size,)))
        super().__init__(replace(problem, model=trained), ranks)
        self.min_passes = ceil(ceil(batch_size / ranks.size) / (settings.micro_batch_size or batch_size))
        shards = cast("Iterator[DTensor]", trained.parameters())
        self._shards = dict(zip(problem.model.parameters(), shards, strict=True))
        self._optimizer = state.optimizer
        self._own_state: dict[Any, OptimizerState] = {
            shard: {name: _local_rows(value, shard) for name, value in state.optimizer.state[parameter].items()}
            for parameter, shard in self._shards.items()
            if parameter in state.optimizer.state
        }
        self._use_shards()
        state.losses = [loss.to(device) for loss in state.losses]
        state.clip_fractions = [share.to(device) for share in state.clip_fractions]

    def reduce_gradients(self, loss: Tensor) -> list[nn.Parameter]:
        """As of ``Replicated``; FSDP2 has summed the gradients."""
        self.ranks.all_reduce([loss])
        return [parameter for parameter in self.problem.model.parameters() if parameter.grad is not None]

    def norm(self, tensors: Sequence[Tensor]) -> Tensor:
        """The Euclidean norm over all ranks' rows, on each rank."""
        return cast("DTensor", nn.utils.get_total_norm(tensors)).full_tensor()

    @contextmanager
    def full_state(self) -> Iterator[None]:
        """Within this context rank 0 has the full model on its device and the full optimizer state in main memory.

        Changes made there are lost.
        """
        self._own_state = dict(self._optimizer.state)
        state = {}
        with torch.no_grad():
            for parameter, shard in self._shards.items():
                weights = shard.full_tensor()
                if self.ranks.is_first:
                    parameter.data = weights
                if shard in self._own_state:
                    full = {name: _gather(value) for name, value in self._own_state[shard].items()}
                    if self.ranks.is_first:
                        state[parameter] = {
                            name: value.cpu() if isinstance(value, Tensor) else value for name, value in full.items()
                        }
        self._bind({shard: parameter for parameter, shard in self._shards.items()}, state)
        try:
            yield
        finally:
            self._use_shards()

    def _use_shards(self) -> None:
        """Empty the problem's own model and give the optimizer this rank's rows."""
        for parameter, shard in self._shards.items():
            parameter.data = torch.empty(0, device=shard.device)
        self._bind(self._shards, self._own_state)

    def _bind(self, exchange: Mapping[Any, Tensor], state: Mapping[Any, OptimizerState]) -> None:
        """Replace the optimizer's parameters and state."""
        for group in self._optimizer.param_groups:
            group["params"] = [exchange[parameter] for parameter in group["params"]]
        self._optimizer.state = defaultdict(dict, state)


def fsdp_units(model: nn.Module) -> list[nn.Module]:
    """The FSDP units: the members of each outermost ModuleList or Sequential.

    A module that shares a parameter with another part of the model is not a unit.
    """
    everywhere = _holders(model)
    found = dict.fromkeys(_members(model))
    return [unit for unit in found if all(count == everywhere[p] for p, count in _holders(unit).items())]


def _members(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        yield from child.children() if isinstance(child, nn.ModuleList | nn.Sequential) else _members(child)


def _holders(module: nn.Module) -> Counter[nn.Parameter]:
    """How many modules hold each parameter."""
    return Counter(parameter for part in module.modules() for parameter in part.parameters(recurse=False))


def _shard(model: nn.Module, mesh: DeviceMesh) -> None:
    try:
        for part in [*fsdp_units(model), model]:
            full = [parameter for parameter in part.parameters() if not isinstance(parameter, DTensor)]
            fully_shard(part, mesh=mesh)
            # At once, so that a GPU holds at most one full unit.
            for parameter in full:
                parameter.data = torch.empty(0)
    except (ValueError, NotImplementedError) as error:
        raise UserError(f"training.shard: torch cannot shard this model: {' '.join(str(error).split())}") from error
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # Each rank's loss is its part of one mean: gradients are summed, not averaged.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def _local_rows(value: Any, like: DTensor) -> Any:
    """This rank's rows of an optimizer state; a scalar stays as it is."""
    if not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    rows = distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    # They are a view of the full tensor.
    return rows.clone()


def _gather(value: Any) -> Any:
    return value.full_tensor() if isinstance(value, DTensor) else value
