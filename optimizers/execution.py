"""Three ways to apply one update rule: parameter by parameter, list by list, or compiled; all give the same result.

The plain loop suits a CPU, where a piece of a parameter at a time stays in the cache. Foreach starts few kernels
instead of many, which is what counts on a GPU and for many small parameters. Fused reads and writes memory once.

What sets one update rule apart from the next, for one parameter and for a list of them.

The third way to apply an update rule: one pass over memory, in C++ (``kernels``) or through ``torch.compile``.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from . import kernels
from .kernels import Kernel
from .sharding import Layout, shard

State = dict[str, Tensor]
"""What a rule remembers of one parameter, by name."""

ListState = dict[str, list[Tensor]]
"""The states of a list of parameters, by name."""

Constants = dict[str, Any]
"""The numbers that hold for one parameter group during one step: hyperparameters, a global norm."""


class Formula:
    """A rule as four functions; the step is x ← x − lr·weight_decay·x − lr·direction.

    The two forms of a function do the same operations in the same order, so that their results are equal. They work
    coordinate by coordinate, so that a parameter can be updated in pieces: what coordinates share, such as a norm,
    belongs to the constants.
    """

    @classmethod
    def accumulate(cls, gradient: Tensor, state: State, constants: Constants) -> None:
        """Let a parameter's state take in its gradient, in place; the gradient stays as it is."""
        raise NotImplementedError

    @classmethod
    def direction(cls, gradient: Tensor, state: State, constants: Constants) -> Tensor:
        """The step's direction; gradient and state stay as they are, so that it can be asked for again."""
        raise NotImplementedError

    @classmethod
    def foreach_accumulate(cls, gradients: list[Tensor], states: ListState, constants: Constants) -> None:
        """``accumulate`` for a list of parameters of one device and type."""
        raise NotImplementedError

    @classmethod
    def foreach_direction(cls, gradients: list[Tensor], states: ListState, constants: Constants) -> list[Tensor]:
        """``direction`` for a list of parameters of one device and type."""
        raise NotImplementedError

    @classmethod
    def kernel(cls, constants: Constants) -> Kernel | None:
        """The function in C++ that does the whole step; None for a rule, or for constants, that has none."""
        return None


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
