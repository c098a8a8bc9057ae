"""The base of our update rules: a formula as an optimizer of ``torch.optim``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from .execution import Part, update_one_by_one, update_together, working_dtype
from .formula import Constants, Formula, State
from .fused import update_fused
from .limits import check_group


class UpdateRule(Formula, Optimizer):
    """What our rules share; a rule adds its state, its constants and its formula.

    As in ``torch.optim``: parameter groups, closures, missing gradients, ``maximize``, ``foreach``, ``fused``,
    ``state_dict``. Weight decay is decoupled. The state of half-precision parameters is in float32.
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

    def clipped(self, gradient: Tensor, state: State, constants: Constants) -> Tensor | None:
        """How many coordinates of a parameter the last step scaled down; None for a rule that does not clip."""
        return None

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
        parts = self._parts()
        for part in parts:
            self._start_states(part)
        self.prepare(parts)
        for part, constants in self._with_constants(parts):
            _execution(part)(type(self), part, constants)
        return loss

    @torch.no_grad()
    def telemetry(self) -> dict[str, Tensor | None]:
        """What the last step did; call it after ``step()``, before gradients or learning rates change.

        Everything is computed here, from the gradients and the state, so a step that is not asked costs nothing.

        Returns:
            0-dimensional tensors on the first parameter's device:
            ``grad_norm`` is the Euclidean norm of all gradients;
            ``update_norm`` is the Euclidean norm of lr · direction over all parameters, that is of the parameters'
            change in this step, weight decay left out;
            ``clip_fraction`` is the share of the coordinates that clipping scaled down, None if the rule does not clip.

        Raises:
            RuntimeError: the gradients are gone, or there was no step.
        """
        parts = self._parts()
        if not parts or any(
            set(self.state_names(part.group)) - state.keys() for part in parts for state in part.states
        ):
            raise RuntimeError("telemetry() describes the last step: call it after step() and before zero_grad()")
        updates, clipped, coordinates = [], [], 0
        for part, constants in self._with_constants(parts):
            for gradient, state in zip(part.oriented_gradients(), part.states, strict=True):
                direction = self.direction(gradient, state, constants)
                updates.append(torch.linalg.vector_norm(direction) * part.group["lr"])
                clipped.append(self.clipped(gradient, state, constants))
                coordinates += gradient.numel()
        counts = [count.to(updates[0].device) for count in clipped if count is not None]
        return {
            "clip_fraction": torch.stack(counts).sum() / coordinates if counts else None,
            "grad_norm": norm_of_parts([part.gradients for part in parts]),
            "update_norm": _combine_norms(updates),
        }

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, as in ``torch.optim``.

        Raises:
            ValueError: a hyperparameter is out of its range, or a parameter is no real floating-point tensor.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        check_group(group)
        if not all(parameter.is_floating_point() for parameter in group["params"]):
            raise ValueError(f"{type(self).__name__} updates real floating-point parameters only")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what ``state_dict()`` gave, as in ``torch.optim``."""
        super().load_state_dict(state_dict)
        # torch casts a state to its parameter's type; those of half-precision parameters go back to float32, exactly.
        saved = [index for group in state_dict["param_groups"] for index in group["params"]]
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for index, parameter in zip(saved, parameters, strict=True):
            for name, value in state_dict["state"].get(index, {}).items():
                self.state[parameter][name] = value.to(parameter.device, working_dtype(parameter))

    def _parts(self) -> list[Part]:
        """Every parameter that has a gradient, by group, device and type."""
        parts: dict[tuple[int, torch.device, torch.dtype], Part] = {}
        for number, group in enumerate(self.param_groups):
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                if gradient.layout != torch.strided:
                    raise ValueError(f"{type(self).__name__} does not support sparse gradients")
                key = number, parameter.device, parameter.dtype
                part = parts.get(key) or parts.setdefault(key, Part(group))
                part.parameters.append(parameter)
                part.gradients.append(gradient)
                part.states.append(self.state[parameter])
        return list(parts.values())

    def _start_states(self, part: Part) -> None:
        names = self.state_names(part.group)
        for parameter, state in zip(part.parameters, part.states, strict=True):
            for name in names:
                if name not in state:
                    state[name] = torch.zeros_like(parameter, dtype=working_dtype(parameter))

    def _with_constants(self, parts: list[Part]) -> Iterator[tuple[Part, Constants]]:
        norm = self.global_norm(parts) if parts else None
        for part in parts:
            yield part, self.constants(part.group, None if norm is None else norm.to(part.parameters[0].device))


def norm_of_parts(parts: list[list[Tensor]]) -> Tensor:
    """The Euclidean norm of all tensors together; each list is of one device and type.

    Returns:
        0-dimensional, on the device of the first tensor, of at least single precision.
    """
    return _combine_norms(
        [norm for tensors in parts for norm in torch._foreach_norm(tensors, 2, dtype=working_dtype(tensors[0]))]
    )


def _combine_norms(norms: list[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.stack([norm.to(norms[0].device) for norm in norms]))


def _execution(part: Part) -> Callable[[type[Formula], Part, Constants], None]:
    """Which of the three ways to go: as the group says, or foreach on a GPU and the plain loop elsewhere."""
    if part.group["fused"]:
        return update_fused
    foreach = part.group["foreach"]
    if foreach is None:
        foreach = part.parameters[0].device.type == "cuda"
    return update_together if foreach else update_one_by_one
