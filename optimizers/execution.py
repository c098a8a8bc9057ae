"""Three ways to apply one update rule: parameter by parameter, list by list, or compiled; all give the same result.

The plain loop suits a CPU, where a piece of a parameter at a time stays in the cache. Foreach starts few kernels
instead of many, which is what counts on a GPU and for many small parameters. Fused reads and writes memory once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from .formula import Constants, Formula, ListState, State
from .sharding import Layout, shard

PIECE = 2**17
"""Elements that each thread of the plain loop takes at once: half a mebibyte, a part of a processor core's cache."""


@dataclass
class Part:
    """The parameters of one group that have a gradient, on one device, of one type and layout; and their states."""

    group: dict[str, Any]
    layout: Layout | None = None
    parameters: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)
    states: list[State] = field(default_factory=list)

    def shards(self) -> Part:
        """The part as plain tensors: itself, or this process's shards, which share its memory."""
        if self.layout is None:
            return self
        return replace(
            self,
            parameters=[shard(parameter, self.layout) for parameter in self.parameters],
            gradients=[shard(gradient, self.layout) for gradient in self.gradients],
            states=[{name: shard(value, self.layout) for name, value in state.items()} for state in self.states],
        )

    def oriented_gradients(self) -> list[Tensor]:
        """The gradients as the rules take them in."""
        return [oriented(gradient, self.group["maximize"]) for gradient in self.gradients]

    def listed_states(self) -> ListState:
        """The states by name, in the order of the parameters."""
        return {name: [state[name] for state in self.states] for name in self.states[0]}


def working_dtype(tensor: Tensor) -> torch.dtype:
    """The type of state and arithmetic: the tensor's own, or float32 where that is half precision."""
    return torch.promote_types(tensor.dtype, torch.float32)


def oriented(gradient: Tensor, maximize: bool) -> Tensor:
    """The gradient in its working type, with its sign turned if the objective is maximized."""
    gradient = gradient.to(working_dtype(gradient))
    return -gradient if maximize else gradient


def update_parameter(
    formula: type[Formula],
    parameter: Tensor,
    gradient: Tensor,
    state: State,
    constants: Constants,
    *,
    lr: float | Tensor,
    weight_decay: float,
    maximize: bool,
) -> None:
    """One step of one parameter, in place: x ← x − lr·weight_decay·x − lr·direction."""
    gradient = oriented(gradient, maximize)
    value = parameter.to(working_dtype(parameter))
    if weight_decay != 0:
        _subtract(value, value, lr * weight_decay)
    formula.accumulate(gradient, state, constants)
    _subtract(value, formula.direction(gradient, state, constants), lr)
    if value.dtype != parameter.dtype:
        parameter.copy_(value)


def _subtract(value: Tensor, change: Tensor, factor: float | Tensor) -> None:
    """Subtract factor · change in place.

    For weight decay that is better than a product with 1 − lr · weight_decay, whose rounding repeats at every step.
    """
    if isinstance(factor, Tensor):
        value.sub_(change * factor)
    else:
        value.add_(change, alpha=-factor)


def step_options(group: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of ``update_parameter``."""
    return {"lr": float(group["lr"]), "weight_decay": group["weight_decay"], "maximize": group["maximize"]}


def update_one_by_one(formula: type[Formula], part: Part, constants: Constants) -> None:
    """The plain loop."""
    options = step_options(part.group)
    for parameter, gradient, state in zip(part.parameters, part.gradients, part.states, strict=True):
        for piece in _pieces(parameter, gradient, state):
            update_parameter(formula, *piece, constants, **options)


def _pieces(parameter: Tensor, gradient: Tensor, state: State) -> Iterator[tuple[Tensor, Tensor, State]]:
    """The same memory in portions that stay in a CPU's cache from one operation to the next."""
    tensors, size = (parameter, gradient, *state.values()), PIECE * torch.get_num_threads()
    is_whole = parameter.numel() <= size or parameter.device.type != "cpu"
    if is_whole or not all(tensor.is_contiguous() for tensor in tensors):
        yield parameter, gradient, state
        return
    for value, slope, *kept in zip(*(tensor.view(-1).split(size) for tensor in tensors), strict=True):
        yield value, slope, dict(zip(state, kept, strict=True))


def update_together(formula: type[Formula], part: Part, constants: Constants) -> None:
    """Foreach: every operation over all parameters of the part before the next operation."""
    lr, weight_decay = float(part.group["lr"]), part.group["weight_decay"]
    gradients, states = part.oriented_gradients(), part.listed_states()
    values = [parameter.to(working_dtype(parameter)) for parameter in part.parameters]
    if weight_decay != 0:
        torch._foreach_add_(values, values, alpha=-lr * weight_decay)
    formula.foreach_accumulate(gradients, states, constants)
    torch._foreach_add_(values, formula.foreach_direction(gradients, states, constants), alpha=-lr)
    if values[0].dtype != part.parameters[0].dtype:
        torch._foreach_copy_(part.parameters, values)
