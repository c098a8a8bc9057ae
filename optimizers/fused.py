"""The third way to apply an update rule: one pass over memory, in C++ (``kernels``) or through ``torch.compile``."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import kernels
from .execution import Part, step_options, update_one_by_one, update_parameter, working_dtype
from .formula import Constants, Formula

_compiles: dict[tuple[type[Formula], str, torch.dtype], bool] = {}


def update_fused(formula: type[Formula], part: Part, constants: Constants) -> None:
    """The fastest way that there is: the kernel in C++, ``torch.compile``, or the plain loop.

    The kernels take float32 on a CPU and cost a second of compiling, once for all processes. Everything else goes
    through ``torch.compile``: some ten seconds in the first step of a process, and some 0.03 ms of checks a parameter,
    so it pays for large ones. Where that fails the plain loop does it, which one warning says.
    """
    # A subclass may have another formula, so a kernel is not inherited.
    kernel = formula.kernel(constants) if "kernel" in vars(formula) and _in_reach_of_kernels(part) else None
    if kernel is not None:
        _update_by_kernel(formula, part, constants, kernel)
    elif _can_compile(formula, part, constants):
        _update_compiled(formula, part, constants)
    else:
        update_one_by_one(formula, part, constants)


def fused_norm(parts: list[Part]) -> Tensor | None:
    """The Euclidean norm of all gradients, by the kernels; None unless all are fused and the kernels take them."""
    for part in parts:
        if not part.group["fused"] or part.layout is not None or not _in_reach_of_kernels(part):
            return None
        if not all(map(kernels.takes, part.gradients)):
            return None
    return kernels.norm([gradient for part in parts for gradient in part.gradients])


def _in_reach_of_kernels(part: Part) -> bool:
    sample = part.parameters[0]
    return sample.device.type == "cpu" and sample.dtype == torch.float32 and kernels.load_kernels() is not None


def _update_by_kernel(formula: type[Formula], part: Part, constants: Constants, kernel: kernels.Kernel) -> None:
    """Those tensors that the kernels do not take, such as transposed ones, go through the plain body.

    So does a parameter with a state that the kernel leaves out: a momentum that a schedule has brought down to 0.
    """
    options, rows = step_options(part.group), []
    for parameter, gradient, state in zip(part.parameters, part.gradients, part.states, strict=True):
        row = [parameter, gradient, *(state[name] for name in kernel.states)]
        if len(state) == len(kernel.states) and all(map(kernels.takes, row)):
            rows.append(row)
        else:
            update_parameter(formula, parameter, gradient, state, constants, **options)
    lr, sign = options["lr"], -1.0 if options["maximize"] else 1.0
    kernels.update(kernel.name, rows, [lr, lr * options["weight_decay"], sign, *kernel.numbers])
    torch.autograd.graph.increment_version([row[0] for row in rows])


def _update_compiled(formula: type[Formula], part: Part, constants: Constants) -> None:
    """Those parameters that are not contiguous, and those of one element, go through the body uncompiled."""
    options = step_options(part.group)
    moving_options, moving_constants = _for_compiled(options, constants, part)
    for parameter, gradient, state in zip(part.parameters, part.gradients, part.states, strict=True):
        # torch.compile would compile anew for every number of dimensions, and for sizes 0 and 1.
        if parameter.numel() > 1 and all(t.is_contiguous() for t in (parameter, gradient, *state.values())):
            flat_state = {name: _flat(tensor) for name, tensor in state.items()}
            _compiled()(formula, _flat(parameter), _flat(gradient), flat_state, moving_constants, **moving_options)
            torch.autograd.graph.increment_version(parameter)
        else:
            update_parameter(formula, parameter, gradient, state, constants, **options)


@functools.cache
def _compiled() -> Callable[..., None]:
    return torch.compile(update_parameter, dynamic=True)


def _flat(tensor: Tensor) -> Tensor:
    """The same memory as one dimension; not a view, of which torch.compile would want to know the base's shape."""
    return tensor.view(-1).data


def _for_compiled(options: dict[str, Any], constants: Constants, part: Part) -> tuple[dict[str, Any], Constants]:
    """Both with tensors for what a schedule moves, learning rate and momentum: numbers would be compiled in."""
    sample = part.parameters[0]
    as_tensor = functools.partial(torch.full, (), dtype=working_dtype(sample), device=sample.device)
    if "momentum" in constants:
        constants = constants | {"momentum": as_tensor(constants["momentum"])}
    if "betas" in constants:
        beta1, beta2 = constants["betas"]
        constants = constants | {"betas": (as_tensor(beta1), beta2)}
    return options | {"lr": torch.tensor(options["lr"], dtype=torch.float64)}, constants


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
            options, constants = _for_compiled(step_options(part.group), constants, part)
            _compiled()(formula, parameter, gradient, state, constants, **options)
            _compiles[key] = True
        except Exception as error:  # torch.compile's failures have no public type in common
            _compiles[key] = False
            reason = str(error).strip().partition("\n")[0]
            warnings.warn(f"fused=True: torch.compile fails, the plain loop is used instead: {reason}", stacklevel=2)
    return _compiles[key]
