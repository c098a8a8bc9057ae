"""The subject of a diagnosis: an untrained model with its loss and data, from a config or from a user's functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...configs.schema import Experiment
from ...errors import UserError
from ...hessian.measure import fixed_batches
from ...hessian.settings import BatchNorm, HessianSettings
from ...noise.gradients import frozen
from ...noise.measure import NoiseDraw
from ...noise.settings import NoiseSettings
from ...seeds import derive_seed
from ...settings import import_by_name
from ...tasks.base import Loss
from ...tasks.gradients import trained_parameters
from ...tasks.problem import build_problem
from ...training.devices import choose_device, to_device

FEWEST_BATCHES = 8
"""Of the noise; with fewer nothing can be said of its tail."""

CURVATURE_EXAMPLES = 8
"""Examples over which the curvature is measured, as in the study."""


@dataclass(frozen=True)
class Subject:
    """An untrained model with its loss and data.

    Attributes:
        name: of the results.
        source: the option or file it comes from, for error messages.
        model: as built.
        loss: from the model and a batch to the summed loss and the number of its terms.
        reference: the batches of n mini-batches (or fewer if there are no more), one per forward pass.
        mini_batches: n mini-batches, each as its micro-batches.
        curvature: the batches whose mean loss has the curvature.
        seed: of everything random.
        batch_norm: what BatchNorm layers normalise by where the curvature is measured.
        left_out: how many batches of the last ``mini_batches`` were left out because of another size, in words; empty
            if none.
    """

    name: str
    source: str
    model: nn.Module
    loss: Loss
    reference: Callable[[int], Iterable[Any]]
    mini_batches: Callable[[int], Iterable[Iterable[Any]]]
    curvature: Sequence[Any]
    seed: int
    batch_norm: BatchNorm = "calibrated"
    left_out: Callable[[], str] = lambda: ""


def subject_of_config(experiment: Experiment, source: str) -> Subject:
    """The subject of a config: the same batches, and so the same numbers, as at step 0 of a run.

    Args:
        experiment: its ``noise.batch_size`` and the batches of its ``hessian`` section are used if given.
        source: the config's file.

    Raises:
        UserError: the model or the data cannot be loaded, or there are too few examples.
    """
    training, seed = experiment.training, experiment.seed
    device = choose_device(training.device)
    problem = build_problem(experiment.model, experiment.data, experiment.task, seed, device)
    batch_size = (experiment.noise or NoiseSettings()).examples_per_batch(training.batch_size)
    draw = NoiseDraw(problem.train, batch_size, training.micro_batch_size, derive_seed(seed, "noise", 0))
    hessian = experiment.hessian or HessianSettings(batch_size=CURVATURE_EXAMPLES)
    curvature = fixed_batches(problem.train, hessian, seed)

    def loss(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor | float]:
        return problem.loss(model, to_device(batch, device))

    return Subject(
        name=experiment.name,
        source=source,
        model=problem.model,
        loss=loss,
        reference=draw.reference,
        mini_batches=draw.mini_batches,
        curvature=curvature,
        seed=seed,
        batch_norm=hessian.batch_norm_at(0),
    )


def subject_of_functions(model: str, data: str, loss: str, seed: int) -> Subject:
    """Import a user's functions and check them on the first batch.

    Args:
        model: ``package.module:build``, without arguments, returns a module.
        data: ``package.module:batches``, without arguments, returns the batches from the beginning at each call; or an
            object that can be iterated repeatedly.
        loss: ``package.module:loss``, from the model and a batch to the summed loss and the number of its terms.
        seed: of the model's initialization and of torch's random stream while data is read.

    Raises:
        UserError: one of them cannot be imported or does not fit; the message begins with its option.
    """
    of_model, of_data, of_loss = f"--model {model}", f"--data {data}", f"--loss {loss}"
    build, batches, loss_function = _imported(of_model, model), _imported(of_data, data), _imported(of_loss, loss)
    module = _built(of_model, build, derive_seed(seed, "init"))

    first = list(_batches(of_data, batches, 1, derive_seed(seed, "curvature data")))
    if not first:
        raise UserError(f"{of_data}: gave no batch")
    size = batch_size(first[0])
    reference = _EqualBatches(of_data, batches, size, derive_seed(seed, "reference data"), "reference gradient")
    noise = _EqualBatches(of_data, batches, size, derive_seed(seed, "noise data"), "noise")
    _check_loss(of_loss, loss_function, module, first[0])
    return Subject(
        name=model.replace(":", "."),
        source=of_model,
        model=module,
        loss=loss_function,
        # The reference may be the noise's own batches, if there are no more.
        reference=lambda count: reference.read(count, count // 2),
        mini_batches=lambda count: ([batch] for batch in noise.read(count, count)),
        curvature=first,
        seed=seed,
        left_out=noise.left_out,
    )


def batch_size(batch: Any) -> tuple[int, ...] | None:
    """What tells batches of different sizes apart: the first dimension that all tensors of a batch share.

    Of a list or tuple its length comes first: it may be a list of examples. None where the tensors share no dimension,
    as in packed sequences.
    """
    if isinstance(batch, Mapping):
        parts: Sequence[Any] = list(batch.values())
    else:
        parts = batch if isinstance(batch, tuple | list) else [batch]
    sizes = {part.shape[0] for part in parts if isinstance(part, Tensor) and part.dim()}
    if isinstance(batch, tuple | list):
        return (len(batch), *(sizes if len(sizes) == 1 else ()))
    return tuple(sizes) if len(sizes) == 1 else None


class _EqualBatches:
    """A user's batches without those whose size is not that of the first.

    The gradient of a smaller batch has more noise, so a few of them among others look like a heavy tail. A DataLoader
    ends with one unless ``drop_last=True``.
    """

    def __init__(self, option: str, batches: Any, size: tuple[int, ...] | None, seed: int, use: str) -> None:
        self._option, self._batches, self._size, self._seed, self._use = option, batches, size, seed, use
        self._equal = self._others = 0

    def read(self, count: int, needed: int) -> Iterator[Any]:
        """At most ``count`` batches of the first one's size.

        Raises:
            UserError: there are fewer than ``needed``, those of other sizes counted, or fewer than half of those.
        """
        self._equal = self._others = 0
        for batch in _batches(self._option, self._batches, 2 * count, self._seed):
            if batch_size(batch) == self._size:
                self._equal += 1
                yield batch
            else:
                self._others += 1
            if self._equal == count:
                return
        if self._equal + self._others < needed:
            raise UserError(
                f"{self._option}: gave {self._equal + self._others} batches for the {self._use}, {needed} are needed; "
                "each call must begin anew, and --batches asks for fewer"
            )
        if self._equal < max(FEWEST_BATCHES, needed / 2):
            raise UserError(
                f"{self._option}: only {self._equal} of {self._equal + self._others} batches for the {self._use} have "
                "the size of the first; batches must be of one size, drop_last=True makes a DataLoader's so"
            )

    def left_out(self) -> str:
        """What was left out, in words."""
        if not self._others:
            return ""
        return (
            f"{self._others} of {self._equal + self._others} batches left out of the noise: not of the first one's size"
        )


def _imported(option: str, name: str) -> Any:
    try:
        return import_by_name(name)
    except UserError as error:
        raise UserError(f"{option}: {error}; should be package.module:name") from None
    except Exception as error:
        raise UserError(f"{option}: importing it failed: {_reason(error)}") from error


def _built(option: str, build: Any, seed: int) -> nn.Module:
    if not callable(build):
        raise UserError(f"{option}: is a {type(build).__name__}, should be a function that builds the model")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            model = build()
        except Exception as error:
            raise UserError(f"{option}: building the model failed: {_reason(error)}") from error
    if not isinstance(model, nn.Module):
        raise UserError(f"{option}: returned a {type(model).__name__}, should return a torch.nn.Module")
    if not trained_parameters(model):
        raise UserError(f"{option}: no parameter of the model has requires_grad")
    return model


def _batches(option: str, batches: Any, count: int, seed: int) -> Iterator[Any]:
    """The first ``count`` batches at most; torch's random stream while they are read depends on the seed alone."""
    iterator: Iterator[Any] | None = None
    for number in range(count):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "batch", number))
            try:
                if iterator is None:
                    iterator = iter(batches() if callable(batches) else batches)
                batch = next(iterator)
            except StopIteration:
                return
            except Exception as error:
                raise UserError(f"{option}: fetching batch {number + 1} failed: {_reason(error)}") from error
        yield batch


def _check_loss(option: str, loss: Any, model: nn.Module, batch: Any) -> None:
    if not callable(loss):
        raise UserError(f"{option}: is a {type(loss).__name__}, should be a function of the model and a batch")
    with frozen(model, "train"):
        try:
            result = loss(model, batch)
        except Exception as error:
            raise UserError(f"{option}: failed on the first batch: {_reason(error)}") from error
    if not isinstance(result, tuple) or len(result) != 2:
        raise UserError(
            f"{option}: returned a {type(result).__name__}, should return the summed loss and the number of its terms"
        )
    total, terms = result
    if not isinstance(total, Tensor) or total.dim():
        shape = list(total.shape) if isinstance(total, Tensor) else type(total).__name__
        raise UserError(f"{option}: the loss should be a scalar tensor, not {shape}; sum it over the batch")
    if not torch.isfinite(total):
        raise UserError(f"{option}: the loss of the first batch is {total.item()}, should be finite")
    if not total.requires_grad:
        raise UserError(f"{option}: the loss does not depend on a parameter of the model; do not detach it")
    if not terms > 0:
        raise UserError(f"{option}: the number of terms is {float(terms):g}, should be positive")


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
