"""The base class of the update rules: a formula, applied as an optimizer of ``torch.optim``.

``UpdateRule.step`` is the whole story of a step: gradients are collected into parts of one group, device and dtype, the
rule's formula gives a direction for each parameter, and ``execution`` applies it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from .execution import (
    Constants,
    ListState,
    Part,
    State,
    layout,
    norm_over_shards,
    sum_over_shards,
    update,
    working_dtype,
)
from .kernels import Kernel

_LIMITS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "lr": (lambda value: value >= 0, "at least 0"),
    "clip": (lambda value: value > 0, "above 0"),
    "momentum": (lambda value: 0 <= value < 1, "in [0, 1)"),
    "betas": (lambda value: len(value) == 2 and all(0 <= beta < 1 for beta in value), "two numbers in [0, 1)"),
    "eps": (lambda value: value >= 0, "at least 0"),
    "alpha": (lambda value: 1 <= value <= 2, "in [1, 2]"),
    "weight_decay": (lambda value: value >= 0, "at least 0"),
}


class UpdateRule(Optimizer):
    """A rule x ← x − lr · weight_decay · x − lr · direction; a subclass adds its state, constants and formula.

    As in ``torch.optim``: parameter groups, closures, missing gradients, ``state_dict``. The state of half-precision
    parameters is in float32. DTensors are updated shard by shard, with norms over all shards. ``torch.compile`` leaves
    a step as it is; ``fused`` compiles it.

    Every rule takes these arguments besides its own:
        params: parameters, or groups of them.
        lr: learning rate.
        weight_decay: decoupled, as in AdamW: the weights shrink by lr · weight_decay each step.
        maximize: maximize the objective.
        foreach: update all parameters at once (default on a GPU) or one after the other (default elsewhere).
        fused: compile the update.

    The formula is four class methods, two for a tensor and two for a list of tensors, which do the same operations in
    the same order, so that their results are equal. They are elementwise, so that a parameter can be updated in
    chunks: what coordinates share, such as a norm, belongs to the constants.
    """

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Names of the tensors kept for every parameter of the group; each starts as zeros."""
        raise NotImplementedError

    def constants(self, group: dict[str, Any], norm: Tensor | None) -> Constants:
        """The numbers that the formula needs for a group; ``norm`` is that of ``global_norm``, on its device."""
        raise NotImplementedError

    def prepare(self, parts: list[Part]) -> None:
        """What must be done over all parameters before the first one moves; nothing for most rules."""

    def global_norm(self, parts: list[Part]) -> Tensor | None:
        """A norm over all parameters that every update needs, 0-dimensional; None for most rules."""
        return None

    @classmethod
    def accumulate(cls, gradient: Tensor, state: State, constants: Constants) -> None:
        """Update a parameter's state with its gradient, in place; the gradient is not changed."""
        raise NotImplementedError

    @classmethod
    def direction(cls, gradient: Tensor, state: State, constants: Constants) -> Tensor:
        """The step's direction; gradient and state are not changed, so that it can be computed again."""
        raise NotImplementedError

    @classmethod
    def foreach_accumulate(cls, gradients: list[Tensor], states: ListState, constants: Constants) -> None:
        """``accumulate`` for a list of parameters of one device and dtype."""
        raise NotImplementedError

    @classmethod
    def foreach_direction(cls, gradients: list[Tensor], states: ListState, constants: Constants) -> list[Tensor]:
        """``direction`` for a list of parameters of one device and dtype."""
        raise NotImplementedError

    @classmethod
    def kernel(cls, constants: Constants) -> Kernel | None:
        """The C++ function that does the complete step; None for a rule, or for constants, that has none."""
        return None

    def clipped(self, gradient: Tensor, state: State, constants: Constants) -> Tensor | None:
        """How many coordinates of a parameter the last step scaled down; None for a rule that does not clip."""
        return None

    # Compiled by an outer torch.compile, it would be compiled anew for each shape and learning rate.
    @torch._disable_dynamo
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient.

        Args:
            closure: computes the loss and the gradients anew; it is called once, before the update.

        Returns:
            What the closure returned.

        Raises:
            ValueError: a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        full_parts = self._parts()
        for part in full_parts:
            self._initialize_states(part)
        parts = [part.shards() for part in full_parts]
        self.prepare(parts)
        for part, constants in self._with_constants(parts):
            update(type(self), part, constants)
        return loss

    @torch.no_grad()
    def telemetry(self) -> dict[str, Tensor | None]:
        """What the last step did; call it after ``step()``, before gradients or learning rates change.

        Everything is computed here, from the gradients and the state, so a step without telemetry costs nothing more.

        Returns:
            0-dimensional tensors on the first parameter's device:
            ``grad_norm`` is the Euclidean norm of all gradients;
            ``update_norm`` is the Euclidean norm of the change of all parameters in this step, weight decay included,
            as in metrics.csv; it is computed from the formula, so what half-precision parameters round away is in it;
            ``clip_fraction`` is the share of the coordinates that clipping scaled down, None if the rule does not clip.

        Raises:
            RuntimeError: the gradients are gone, or there was no step.
        """
        full_parts = self._parts()
        if not full_parts or any(
            set(self.state_names(part.group)) - state.keys() for part in full_parts for state in part.states
        ):
            raise RuntimeError("telemetry() describes the last step: call it after step() and before zero_grad()")
        parts = [part.shards() for part in full_parts]
        updates = []
        for part, constants in self._with_constants(parts):
            norms = []
            lr, decay = part.group["lr"], part.group["weight_decay"]
            for parameter, gradient, state in zip(part.parameters, part.oriented_gradients(), part.states, strict=True):
                change = self.direction(gradient, state, constants) * lr
                if decay != 0:
                    # x is now x₀ · (1 − lr · decay) − lr · direction, with x₀ the value before the step.
                    change += lr * decay * (parameter.to(change.dtype) + change) / (1 - lr * decay)
                norms.append(torch.linalg.vector_norm(change))
            updates.append(norm_over_shards(torch.stack(norms), part.layout))
        return {
            "clip_fraction": self.clip_fraction(),
            "grad_norm": norm_of_parts(parts, [part.gradients for part in parts]),
            "update_norm": _combine_norms(updates),
        }

    @torch.no_grad()
    def clip_fraction(self) -> Tensor | None:
        """That of ``telemetry()`` alone: one pass over gradients or states, where telemetry costs a second step."""
        full_parts = self._parts()
        parts, counts = [part.shards() for part in full_parts], []
        for part, constants in self._with_constants(parts) if _clips(self) else []:
            clipped = (
                self.clipped(*pair, constants) for pair in zip(part.oriented_gradients(), part.states, strict=True)
            )
            known = [count for count in clipped if count is not None]
            if known:
                counts.append(sum_over_shards(torch.stack(known).sum(), part.layout))
        coordinates = sum(parameter.numel() for part in full_parts for parameter in part.parameters)
        return torch.stack([count.to(counts[0].device) for count in counts]).sum() / coordinates if counts else None

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, as in ``torch.optim``.

        Raises:
            ValueError: a hyperparameter is out of its range, foreach and fused are both set, or a parameter is no real
                floating-point tensor.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            for name, (allows, words) in _LIMITS.items():
                if name in group and not allows(group[name]):
                    raise ValueError(f"{name} must be {words}, not {group[name]}")
            if group["foreach"] and group["fused"]:
                raise ValueError("foreach and fused exclude each other: choose one")
            if not all(parameter.is_floating_point() for parameter in group["params"]):
                raise ValueError(f"{type(self).__name__} updates real floating-point parameters only")
        except ValueError:
            self.param_groups.pop()
            raise

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what ``state_dict()`` gave, as in ``torch.optim``.

        Raises:
            ValueError: it does not fit: other groups, other sizes, or another rule's hyperparameters.
        """
        loaded: dict[str, Any] = {}

        def before(_: Optimizer, given: dict[str, Any]) -> None:
            # Torch adds "differentiable" to the defaults by itself.
            known = {name for group in given["param_groups"] for name in group} | {"differentiable"}
            missing = sorted(self.defaults.keys() - known)
            if missing:
                raise ValueError(f"not a state of {type(self).__name__}: it has no {', '.join(missing)}")
            loaded.update(given)

        # The user's own hooks come before the first and after the second.
        hooks = (
            self.register_load_state_dict_pre_hook(before),
            self.register_load_state_dict_post_hook(lambda _: self._restore_dtypes(loaded), prepend=True),
        )
        try:
            super().load_state_dict(state_dict)
        finally:
            for hook in hooks:
                hook.remove()

    def _restore_dtypes(self, loaded: dict[str, Any]) -> None:
        """Undo that torch has cast each state to its parameter's dtype, which may be half precision."""
        saved = [index for group in loaded["param_groups"] for index in group["params"]]
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for index, parameter in zip(saved, parameters, strict=True):
            for name, value in loaded["state"].get(index, {}).items():
                self.state[parameter][name] = value.to(parameter.device, working_dtype(parameter))

    def _parts(self) -> list[Part]:
        """Every parameter that has a gradient, by group, device, dtype and layout."""
        parts: dict[Any, Part] = {}
        for number, group in enumerate(self.param_groups):
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                if gradient.layout != torch.strided:
                    raise ValueError(f"{type(self).__name__} does not support sparse gradients")
                spread = layout(parameter)
                key = number, parameter.device, parameter.dtype, spread
                part = parts.get(key) or parts.setdefault(key, Part(group, spread))
                part.parameters.append(parameter)
                part.gradients.append(gradient)
                part.states.append(self.state[parameter])
        return list(parts.values())

    def _initialize_states(self, part: Part) -> None:
        # A state outlives the momentum that a schedule brings down to 0 and up again.
        names = dict.fromkeys((*self.state_names(part.group), *(name for state in part.states for name in state)))
        for parameter, state in zip(part.parameters, part.states, strict=True):
            for name in names:
                if name not in state:
                    state[name] = torch.zeros_like(parameter, dtype=working_dtype(parameter))

    def _with_constants(self, parts: list[Part]) -> Iterator[tuple[Part, Constants]]:
        norm = self.global_norm(parts) if parts else None
        for part in parts:
            yield part, self.constants(part.group, None if norm is None else norm.to(part.parameters[0].device))


def norm_of_parts(parts: list[Part], tensors: list[list[Tensor]]) -> Tensor:
    """The Euclidean norm of all tensors together, over all shards.

    Args:
        parts: in shards.
        tensors: one list per part, one tensor per parameter, of the part's device and layout.

    Returns:
        0-dimensional, on the device of the first tensor, of at least single precision.
    """
    norms = []
    for part, of_part in zip(parts, tensors, strict=True):
        of_shards = torch.stack(torch._foreach_norm(of_part, 2, dtype=working_dtype(of_part[0])))
        norms.append(norm_over_shards(of_shards, part.layout))
    return _combine_norms(norms)


def _combine_norms(norms: list[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.cat([norm.to(norms[0].device) for norm in norms]))


def count_above(values: Tensor, threshold: Tensor | float) -> Tensor:
    """How many values exceed the threshold, in float32; ``values`` is overwritten: booleans take five times as long."""
    return torch.gt(values, threshold, out=values).sum(dtype=torch.float32)


def _clips(rule: UpdateRule) -> bool:
    return type(rule).clipped is not UpdateRule.clipped
