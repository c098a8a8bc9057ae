"""One optimizer step: the exact gradient of the mean loss over all micro-batches, and what it did.

Noise of a known law on the gradient of a real run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..configs.schema import InjectedNoise, Training
from ..errors import UserError, one_line
from ..optimizers import OPTIMIZERS
from ..settings import import_by_name
from ..synthetic.trials import typical_norm
from ..tasks.base import Batch
from .devices import activation_checkpointing, autocast, to_device
from .distributed import Replicated


def inject_noise(gradients: Sequence[Tensor], settings: InjectedNoise, seed: int) -> None:
    """Add noise to a gradient, in place: scale · ‖g‖ · z/m with independent z of the law in every coordinate.

    ‖g‖ is the Euclidean norm of the whole gradient before, and m the median norm of z (``typical_norm``). So the median
    of noise norm over gradient norm is ``scale``, whatever the law and the number of parameters; a heavy tail shows in
    how far single steps and single coordinates lie above.

    Args:
        gradients: of all parameters.
        settings: the law and the scale.
        seed: of this step's noise.
    """
    norm = nn.utils.get_total_norm(gradients)
    size = settings.scale / typical_norm(settings.law, sum(gradient.numel() for gradient in gradients))
    generators = {gradient.device: torch.Generator(gradient.device).manual_seed(seed) for gradient in gradients}
    for gradient in gradients:
        noise = settings.law.draw(gradient.shape, generators[gradient.device])
        gradient.add_((noise * (size * norm.to(gradient.device))).to(gradient.dtype))


@dataclass(frozen=True)
class StepResult:
    """What one step saw and did; every tensor is a scalar on the training device.

    Attributes:
        loss: mean loss over the batch's terms, before the step.
        grad_norm: Euclidean norm of the whole gradient, before any clipping; of what the optimizer gets to see, so with
            the noise that the config adds.
        is_finite: whether both are finite numbers.
        update_norm: Euclidean norm of the change of the parameters, weight decay included; None where it was not asked
            for.
        clip_fraction: share of the step that was clipped; None where it was not asked for or the rule does not clip.
    """

    loss: Tensor
    grad_norm: Tensor
    is_finite: Tensor
    update_norm: Tensor | None = None
    clip_fraction: Tensor | float | None = None


def accumulate_gradient(layout: Replicated, micro_batches: Sequence[Batch], precision: str) -> Tensor:
    """Add the gradient of the mean loss over all micro-batches to ``.grad``, and give that loss.

    Every micro-batch is weighted by its number of loss terms (labels, tokens), not by its size, so that any split of
    a batch gives the same gradient. Of several ranks each gives what its own micro-batches add to the mean over all.
    """
    problem = layout.problem
    device = next(problem.model.parameters()).device
    terms = torch.stack([problem.task.count(batch) for batch in micro_batches]).sum()
    layout.ranks.sum([terms])
    terms = terms.to(device)
    total = torch.zeros((), device=device)
    for number in range(max(len(micro_batches), layout.fewest_passes)):
        batch = micro_batches[min(number, len(micro_batches) - 1)]
        with autocast(device, precision):
            loss, _ = problem.loss(problem.model, to_device(batch, device))
        mean_share = loss / terms
        if number >= len(micro_batches):
            # The others fetch this rank's shards in each of their passes: it goes along and adds nothing.
            mean_share = mean_share * 0
        mean_share.backward()
        total += mean_share.detach()
    return total


def take_step(
    layout: Replicated,
    optimizer: torch.optim.Optimizer,
    micro_batches: Sequence[Batch],
    settings: Training,
    *,
    measure: bool = False,
    noise_seed: int = 0,
    dropout_seed: int | None = None,
) -> StepResult:
    """Take one step; with ``measure`` also say how far it went and how much of it was clipped.

    ``noise_seed`` is that of the noise which the settings may add to the gradient, ``dropout_seed`` that of the random
    numbers of the forward passes; an optimizer that evaluates the batch several times sees the same ones each time.
    Ranks that train together take the same step, each from its own share of the batch.

    A step whose loss or gradient is not finite is not taken on a CPU. On a GPU, where looking at each step would make
    the device wait, it is taken and found out by whoever reads ``is_finite``.

    Raises:
        UserError: a user's own optimizer fails.
    """

    def evaluate() -> tuple[Tensor, list[nn.Parameter], Tensor]:
        """The loss, the parameters that have a gradient now, and its norm."""
        optimizer.zero_grad(set_to_none=True)
        if dropout_seed is not None:
            torch.manual_seed(dropout_seed)
        with activation_checkpointing(layout.problem.model) if settings.activation_checkpointing else nullcontext():
            loss = accumulate_gradient(layout, micro_batches, settings.precision)
        parameters = layout.add_up(loss)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if settings.inject_noise is not None:
            inject_noise(gradients, settings.inject_noise, noise_seed)
        return loss, parameters, layout.norm(gradients)

    def clip(parameters: list[nn.Parameter], grad_norm: Tensor) -> None:
        if settings.clip_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, settings.clip_grad_norm, grad_norm)

    def closure() -> Tensor:
        with torch.enable_grad():
            again, parameters, grad_norm = evaluate()
        clip(parameters, grad_norm)
        return again

    loss, parameters, grad_norm = evaluate()
    is_finite = torch.isfinite(loss) & torch.isfinite(grad_norm)
    if is_finite.device.type == "cpu" and not is_finite:
        return StepResult(loss, grad_norm, is_finite)
    clip(parameters, grad_norm)
    if not measure:
        _step(optimizer, closure)
        return StepResult(loss, grad_norm, is_finite)
    before = [parameter.detach().clone() for parameter in parameters]
    _step(optimizer, closure)
    changes = torch._foreach_sub([parameter.detach() for parameter in parameters], before)
    telemetry = optimizer.telemetry() if hasattr(optimizer, "telemetry") else {}
    return StepResult(
        loss,
        grad_norm,
        is_finite,
        update_norm=layout.norm(changes),
        clip_fraction=telemetry.get("clip_fraction"),
    )


@cache
def _own_kinds() -> frozenset[type]:
    return frozenset(import_by_name(entry.target) for _, entry in OPTIMIZERS.items())


_with_closure: WeakKeyDictionary[torch.optim.Optimizer, bool] = WeakKeyDictionary()


def _step(optimizer: torch.optim.Optimizer, closure: Callable[[], Tensor]) -> None:
    """Let the optimizer step, with the closure where it needs one: LBFGS by its signature, SAM by refusing without.

    The gradients are there already, so an optimizer that can do without the closure does.

    Raises:
        UserError: a user's own optimizer fails.
    """
    if type(optimizer) in _own_kinds():
        optimizer.step()
        return
    is_first = optimizer not in _with_closure
    argument = next(iter(inspect.signature(optimizer.step).parameters.values()), None)
    if is_first:
        _with_closure[optimizer] = argument is not None and argument.default is argument.empty
    try:
        if _with_closure[optimizer]:
            optimizer.step(closure)  # type: ignore[arg-type]  # that it gives a float; LBFGS and others take a tensor
            return
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        before = [parameter.detach().clone() for parameter in parameters] if is_first and argument else []
        try:
            optimizer.step()
        except torch.OutOfMemoryError:
            raise
        except Exception:
            if not is_first or argument is None:
                raise
            with torch.no_grad():
                torch._foreach_copy_(parameters, before)
            optimizer.step(closure)  # type: ignore[arg-type]
            _with_closure[optimizer] = True
    except (torch.OutOfMemoryError, UserError):
        raise
    except Exception as error:
        kind = type(optimizer)
        reason = one_line(error)
        raise UserError(f"optimizer.name: {kind.__module__}:{kind.__qualname__} fails in step(): {reason}") from error
