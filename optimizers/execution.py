"""Three ways to apply an update rule: the plain loop, foreach, and fused; all give the same result.

The plain loop goes parameter by parameter; on a CPU a large one in chunks that stay in the cache. Foreach starts few
kernels instead of many, which is what counts on a GPU and for many small parameters. Fused reads and writes memory
once, in C++ (``kernels``) or through ``torch.compile``.

Of a DTensor, which ``fully_shard`` makes, a rule updates the shard of its own process as it would any tensor. Only sums
over all coordinates, such as a norm, need the other processes.
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

Layout = tuple[Any, tuple[Any, ...]]
"""The mesh of processes that a DTensor is spread over, and its placement along each dimension of the mesh."""


def layout(tensor: Tensor) -> Layout | None:
    """How a DTensor is spread; None for any other tensor."""
    # Not by its class, whose import takes half a second.
    mesh = getattr(tensor, "device_mesh", None)
    return None if mesh is None else (mesh, tuple(tensor.placements))  # type: ignore[attr-defined]


def shard(tensor: Tensor, spread: Layout | None) -> Tensor:
    """This process's part of a DTensor that is to be spread in that way, sharing its memory if it already is.

    Args:
        tensor: a DTensor, or any other tensor where ``spread`` is None.
        spread: the layout of the parameter that the tensor belongs to.
    """
    if spread is None:
        return tensor
    if layout(tensor) != spread:
        tensor = tensor.redistribute(*spread)  # type: ignore[attr-defined]
    local: Tensor = tensor.to_local()  # type: ignore[attr-defined]
    return local


def sum_over_shards(value: Tensor, spread: Layout | None) -> Tensor:
    """The sum of each process's value, where these come from shards and not from copies."""
    if spread is None:
        return value
    mesh, placements = spread
    total = value.clone()
    for dimension, placement in enumerate(placements):
        if not placement.is_replicate():
            torch.distributed.all_reduce(total, group=mesh.get_group(dimension))
    return total


def norm_over_shards(norm: Tensor, spread: Layout | None) -> Tensor:
    """The Euclidean norm of a DTensor, from the norms of its shards."""
    return norm if spread is None else sum_over_shards(norm.square(), spread).sqrt()


State = dict[str, Tensor]
"""What a rule remembers of one parameter, by name."""

ListState = dict[str, list[Tensor]]
"""The states of a list of parameters, by name."""

Constants = dict[str, Any]
"""The numbers that hold for one parameter group during one step: hyperparameters, a global norm."""

Rule = Any
"""A subclass of ``base.UpdateRule``, of which only the formula and the kernel are used here."""

CHUNK = 2**17
"""Elements that each thread of the plain loop takes at once: half a mebibyte, a part of a processor core's cache."""


@dataclass
class Part:
    """The parameters of one group that have a gradient, on one device, of one dtype and layout; and their states."""

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
        """The gradients in their working dtype, negated if the objective is maximized."""
        return [_oriented(gradient, self.group["maximize"]) for gradient in self.gradients]

    def listed_states(self) -> ListState:
        """The states by name, in the order of the parameters."""
        return {name: [state[name] for state in self.states] for name in self.states[0]}

    def options(self) -> dict[str, Any]:
        """The keyword arguments of ``update_parameter``."""
        group = self.group
        return {"lr": float(group["lr"]), "weight_decay": group["weight_decay"], "maximize": group["maximize"]}

    def rows(self) -> Iterator[tuple[Tensor, Tensor, State]]:
        """Each parameter with its gradient and its state."""
        return zip(self.parameters, self.gradients, self.states, strict=True)


def working_dtype(tensor: Tensor) -> torch.dtype:
    """The dtype of state and arithmetic: the tensor's own, or float32 where that is half precision."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _oriented(gradient: Tensor, maximize: bool) -> Tensor:
    gradient = gradient.to(working_dtype(gradient))
    return -gradient if maximize else gradient


def update(rule: Rule, part: Part, constants: Constants) -> None:
    """Update a part in the way that its group asks for; by default foreach on a GPU and the plain loop elsewhere."""
    foreach = part.group["foreach"]
    if part.group["fused"]:
        update_fused(rule, part, constants)
    elif part.parameters[0].device.type == "cuda" if foreach is None else foreach:
        update_foreach(rule, part, constants)
    else:
        update_loop(rule, part, constants)


def update_loop(rule: Rule, part: Part, constants: Constants) -> None:
    """The plain loop."""
    options = part.options()
    for row in part.rows():
        for chunk in _chunks(*row):
            update_parameter(rule, *chunk, constants, **options)


def update_parameter(
    rule: Rule,
    parameter: Tensor,
    gradient: Tensor,
    state: State,
    constants: Constants,
    *,
    lr: float | Tensor,
    weight_decay: float,
    maximize: bool,
) -> None:
    """One step of one parameter, in place: x ← x − lr · weight_decay · x − lr · direction."""
    gradient = _oriented(gradient, maximize)
    value = parameter.to(working_dtype(parameter))
    if weight_decay != 0:
        _subtract(value, value, lr * weight_decay)
    rule.accumulate(gradient, state, constants)
    _subtract(value, rule.direction(gradient, state, constants), lr)
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


def _chunks(parameter: Tensor, gradient: Tensor, state: State) -> Iterator[tuple[Tensor, Tensor, State]]:
    """The same memory in portions that stay in a CPU's cache from one operation to the next."""
    tensors, size = (parameter, gradient, *state.values()), CHUNK * torch.get_num_threads()
    fits = parameter.numel() <= size or parameter.device.type != "cpu"
    if fits or not all(tensor.is_contiguous() for tensor in tensors):
        yield parameter, gradient, state
        return
    for value, slope, *kept in zip(*(tensor.view(-1).split(size) for tensor in tensors), strict=True):
        yield value, slope, dict(zip(state, kept, strict=True))


def update_foreach(rule: Rule, part: Part, constants: Constants) -> None:
    """Every operation over all parameters of the part before the next operation."""
    lr, weight_decay = float(part.group["lr"]), part.group["weight_decay"]
    gradients, states = part.oriented_gradients(), part.listed_states()
    values = [parameter.to(working_dtype(parameter)) for parameter in part.parameters]
    if weight_decay != 0:
        torch._foreach_add_(values, values, alpha=-lr * weight_decay)
    rule.foreach_accumulate(gradients, states, constants)
    torch._foreach_add_(values, rule.foreach_direction(gradients, states, constants), alpha=-lr)
    if values[0].dtype != part.parameters[0].dtype:
        torch._foreach_copy_(part.parameters, values)


def update_fused(rule: Rule, part: Part, constants: Constants) -> None:
    """One pass over memory where possible: the kernel in C++, else ``torch.compile``, else the plain loop.

    The kernels take float32 on a CPU and cost a second of compiling, once for all processes. Everything else goes
    through ``torch.compile``: some ten seconds in the first step of a process, and some 0.03 ms of checks per
    parameter, so it pays for large ones. Where that fails, the plain loop takes over with one warning.
    """
    # A subclass may have another formula, so a kernel is not inherited.
    kernel = rule.kernel(constants) if "kernel" in vars(rule) and _kernels_support(part) else None
    if kernel is not None:
        _update_by_kernel(rule, part, constants, kernel)
    elif _can_compile(rule, part, constants):
        _update_compiled(rule, part, constants)
    else:
        update_loop(rule, part, constants)


def fused_norm(parts: list[Part]) -> Tensor | None:
    """The Euclidean norm of all gradients, by the kernels; None unless all are fused and the kernels take them."""
    for part in parts:
        if not part.group["fused"] or part.layout is not None or not _kernels_support(part):
            return None
        if not all(map(kernels.takes, part.gradients)):
            return None
    return kernels.norm([gradient for part in parts for gradient in part.gradients])


def _kernels_support(part: Part) -> bool:
    sample = part.parameters[0]
    return sample.device.type == "cpu" and sample.dtype == torch.float32 and kernels.load_kernels() is not None


def _update_by_kernel(rule: Rule, part: Part, constants: Constants, kernel: kernels.Kernel) -> None:
    """Tensors that the kernels do not take, such as transposed ones, go through ``update_parameter``.

    So does a parameter with a state that the kernel leaves out: a momentum that a schedule has brought down to 0.
    """
    options, rows = part.options(), []
    for parameter, gradient, state in part.rows():
        row = [parameter, gradient, *(state[name] for name in kernel.states)]
        if len(state) == len(kernel.states) and all(map(kernels.takes, row)):
            rows.append(row)
        else:
            update_parameter(rule, parameter, gradient, state, constants, **options)
    lr, sign = options["lr"], -1.0 if options["maximize"] else 1.0
    kernels.update(kernel.name, rows, [lr, lr * options["weight_decay"], sign, *kernel.numbers])
    torch.autograd.graph.increment_version([row[0] for row in rows])


def _update_compiled(rule: Rule, part: Part, constants: Constants) -> None:
    """Parameters that are not contiguous, and those of one element, go through ``update_parameter`` uncompiled."""
    moving_options, moving_constants = _for_compiled(part, constants)
    for parameter, gradient, state in part.rows():
        # torch.compile would compile anew for every number of dimensions, and for sizes 0 and 1.
        if parameter.numel() > 1 and all(t.is_contiguous() for t in (parameter, gradient, *state.values())):
            flat_state = {name: _flat(tensor) for name, tensor in state.items()}
            _compiled()(rule, _flat(parameter), _flat(gradient), flat_state, moving_constants, **moving_options)
            torch.autograd.graph.increment_version(parameter)
        else:
            update_parameter(rule, parameter, gradient, state, constants, **part.options())


@functools.cache
def _compiled() -> Callable[..., None]:
    return torch.compile(update_parameter, dynamic=True)


def _flat(tensor: Tensor) -> Tensor:
    """The same memory as one dimension; not a view, of which torch.compile would want to know the base's shape."""
    return tensor.view(-1).data


def _for_compiled(part: Part, constants: Constants) -> tuple[dict[str, Any], Constants]:
    """Options and constants with tensors for learning rate and momentum: numbers would be compiled in."""
    sample, options = part.parameters[0], part.options()
    as_tensor = functools.partial(torch.full, (), dtype=working_dtype(sample), device=sample.device)
    if "momentum" in constants:
        constants = constants | {"momentum": as_tensor(constants["momentum"])}
    if "betas" in constants:
        beta1, beta2 = constants["betas"]
        constants = constants | {"betas": (as_tensor(beta1), beta2)}
    return options | {"lr": torch.tensor(options["lr"], dtype=torch.float64)}, constants


_compiles: dict[tuple[Rule, str, torch.dtype], bool] = {}


def _can_compile(rule: Rule, part: Part, constants: Constants) -> bool:
    """Whether the update compiles, tried on stand-ins so that a failure cannot leave a parameter half updated."""
    if False in _compiles.values():
        return False
    sample = part.parameters[0]
    key = (rule, sample.device.type, sample.dtype)
    if key not in _compiles:
        parameter, gradient = sample.new_zeros(8), part.gradients[0].new_ones(8)
        state = {name: tensor.new_zeros(8) for name, tensor in part.states[0].items()}
        try:
            options, constants = _for_compiled(part, constants)
            _compiled()(rule, parameter, gradient, state, constants, **options)
            _compiles[key] = True
        except Exception as error:  # torch.compile's failures have no public type in common
            _compiles[key] = False
            reason = str(error).strip().partition("\n")[0]
            warnings.warn(f"fused=True: torch.compile fails, the plain loop is used instead: {reason}", stacklevel=2)
    return _compiles[key]
