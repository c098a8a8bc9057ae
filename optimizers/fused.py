"""The third way to apply an update rule: ``update_parameter`` through ``torch.compile``, one pass over memory."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .execution import Part, step_options, update_one_by_one, update_parameter
from .formula import Constants, Formula

_compiles: dict[tuple[type[Formula], str, torch.dtype], bool] = {}


def update_fused(formula: type[Formula], part: Part, constants: Constants) -> None:
    """The plain loop with its body compiled, or as it is where compiling fails, which one warning says.

    The first step of a process takes seconds to compile, and every parameter costs some 0.03 ms of checks, so this pays
    for large parameters. Those that are not contiguous, and those of one element, go through the body uncompiled.
    """
    if not _can_compile(formula, part, constants):
        return update_one_by_one(formula, part, constants)
    options = step_options(part.group)
    compiled_options = _with_tensor_lr(options)
    for parameter, gradient, state in zip(part.parameters, part.gradients, part.states, strict=True):
        # torch.compile would compile anew for every number of dimensions, and for sizes 0 and 1.
        if parameter.numel() > 1 and all(t.is_contiguous() for t in (parameter, gradient, *state.values())):
            flat_state = {name: _flat(tensor) for name, tensor in state.items()}
            _compiled()(formula, _flat(parameter), _flat(gradient), flat_state, constants, **compiled_options)
            torch.autograd.graph.increment_version(parameter)
        else:
            update_parameter(formula, parameter, gradient, state, constants, **options)
    return None


@functools.cache
def _compiled() -> Callable[..., None]:
    return torch.compile(update_parameter, dynamic=True)


def _flat(tensor: Tensor) -> Tensor:
    """The same memory as one dimension; not a view, of which torch.compile would want to know the base's shape."""
    return tensor.view(-1).data


def _with_tensor_lr(options: dict[str, Any]) -> dict[str, Any]:
    """The same options; as a tensor, the learning rate can follow a schedule without being compiled anew."""
    return options | {"lr": torch.tensor(options["lr"], dtype=torch.float64)}


def _can_compile(formula: type[Formula], part: Part, constants: Constants) -> bool:
    """Whether the update compiles, tried on stand-ins so that a failure cannot leave a parameter half updated."""
    if False in _compiles.values():
        return False
    sample = part.parameters[0]
    key = (formula, sample.device.type, sample.dtype)
    if key not in _compiles:
        parameter, gradient = sample.new_zeros(8), part.gradients[0].new_ones(8)
        state = {name: tensor.new_zeros(8) for name, tensor in part.states[0].items()}
        try:
            _compiled()(formula, parameter, gradient, state, constants, **_with_tensor_lr(step_options(part.group)))
            _compiles[key] = True
        except Exception as error:  # torch.compile's failures have no public type in common
            _compiles[key] = False
            reason = str(error).strip().partition("\n")[0]
            warnings.warn(f"fused=True: torch.compile fails, the plain loop is used instead: {reason}", stacklevel=2)
    return _compiles[key]
