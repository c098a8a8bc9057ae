"""One optimizer step: the gradient of the mean loss over all micro-batches, the update, and what both were like."""

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
from ..models.modules import uses_batch_statistics
from ..optimizers import OPTIMIZERS
from ..optimizers.base import UpdateRule
from ..settings import import_by_name
from ..synthetic.trials import typical_norm
from ..tasks.base import Batch
from .devices import activation_checkpointing, autocast, to_device
from .distributed import Replicated


@dataclass(frozen=True)
class StepResult:
    """Scalars of one step, on the training device.

    Attributes:
            loss: mean over the batch's loss terms, before the step.
        grad_norm: Euclidean norm of the gradient, with injected noise and before clipping.
        is_finite: whether both are finite.
        clip_fraction: share of the coordinates that the step clipped; None if the rule does not clip.
        update_norm: Euclidean norm of the change of the parameters, weight decay included; None if not measured.
    """

    loss: Tensor
    grad_norm: Tensor
    is_finite: Tensor
    clip_fraction: Tensor | None = None
    update_norm: Tensor | None = None


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
    """Take one step; distributed ranks take the same one, each from its own share of the batch.

    On a CPU a step with a NaN or infinite loss or gradient is not taken. On a GPU, where a check of each step would
    synchronize, it is taken, and the caller finds ``is_finite`` to be false.

    Args:
        layout: model, task and ranks.
        optimizer: over the parameters of that model.
        micro_batches: this rank's share of the batch.
        settings: the ``training`` section.
        measure: whether to fill in ``update_norm``.
        noise_seed: seed of the noise that ``settings.inject_noise`` adds.
        dropout_seed: of the random numbers of the forward passes; an optimizer that evaluates the batch several times
            sees the same ones each time.

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
        parameters = layout.reduce_gradients(loss)
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
        return StepResult(loss, grad_norm, is_finite, _clip_fraction(optimizer))
    before = [parameter.detach().clone() for parameter in parameters]
    _step(optimizer, closure)
    changes = torch._foreach_sub([parameter.detach() for parameter in parameters], before)
    return StepResult(loss, grad_norm, is_finite, _clip_fraction(optimizer), layout.norm(changes))


def _clip_fraction(optimizer: torch.optim.Optimizer) -> Tensor | None:
    return optimizer.clip_fraction() if isinstance(optimizer, UpdateRule) else None


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
    is_first, argument = optimizer not in _with_closure, None
    if is_first:
        argument = next(iter(inspect.signature(optimizer.step).parameters.values()), None)
        _with_closure[optimizer] = argument is not None and argument.default is argument.empty
    try:
        if _with_closure[optimizer]:
            optimizer.step(closure)  # type: ignore[arg-type]  # that it gives a float; LBFGS and others take a tensor
            return
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        before = [parameter.detach().clone() for parameter in parameters] if argument else []
        try:
            optimizer.step()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            # Only an error that may come from the missing closure is tried again: other failures must not run twice.
            asks_for_it = isinstance(error, AssertionError | TypeError) or "closure" in str(error)
            if not (argument and asks_for_it):
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


def accumulate_gradient(layout: Replicated, micro_batches: Sequence[Batch], precision: str) -> Tensor:
    """Add the gradient of the mean loss over all micro-batches to ``.grad``; return that loss.

    A micro-batch is weighted by its number of loss terms (labels, tokens), so any split of a batch gives the same
    gradient. Of several ranks each returns, and adds, what its own share contributes to the mean over all of them.
    """
    problem = layout.problem
    device = next(problem.model.parameters()).device
    terms = torch.stack([problem.task.count(batch) for batch in micro_batches]).sum()
    layout.ranks.all_reduce([terms])
    terms = terms.to(device)
    total = torch.zeros((), device=device)
    for number in range(max(len(micro_batches), layout.min_passes)):
        batch = micro_batches[min(number, len(micro_batches) - 1)]
        with autocast(device, precision):
            try:
                loss, _ = problem.loss(problem.model, to_device(batch, device))
            except ValueError as error:
                if not (uses_batch_statistics(problem.model) and len(next(iter(batch.values()))) == 1):
                    raise
                # BatchNorm of a single value; of the pixels of one image it is defined.
                raise UserError(f"training.batch_size: BatchNorm cannot train on one example: {error}") from error
        mean_share = loss / terms
        if number >= len(micro_batches):
            # The other ranks need this rank's shards in each of their passes: an extra pass that adds zero.
            mean_share = mean_share * 0
        mean_share.backward()
        total += mean_share.detach()
    return total


def inject_noise(gradients: Sequence[Tensor], settings: InjectedNoise, seed: int) -> None:
    """Add noise of a known law to a gradient, in place: scale · ‖g‖ · z/m with iid z in every coordinate.

    ‖g‖ is the norm of the whole gradient before, m the median norm of z (``typical_norm``): the median of noise norm
    over gradient norm is ``scale`` for every law and number of parameters. A heavy tail shows in how far single steps
    and coordinates lie above.
    """
    norm = nn.utils.get_total_norm(gradients)
    size = settings.scale / typical_norm(settings.law, sum(gradient.numel() for gradient in gradients))
    generators = {gradient.device: torch.Generator(gradient.device).manual_seed(seed) for gradient in gradients}
    for gradient in gradients:
        noise = settings.law.draw(gradient.shape, generators[gradient.device])
        gradient.add_((noise * (size * norm.to(gradient.device))).to(gradient.dtype))
