"""The subject of a diagnosis: an untrained model with its loss and data, from a config or from a user's functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...configs.schema import Experiment
from ...errors import UserError
from ...hessian.measure import fixed_batches
from ...hessian.settings import HessianSettings
from ...noise.gradients import frozen
from ...noise.measure import NoiseDraw
from ...noise.settings import NoiseSettings
from ...seeds import derive_seed
from ...settings import import_by_name
from ...tasks.base import Loss
from ...tasks.gradients import trained_parameters
from ...tasks.problem import build_problem
from ...training.devices import choose_device, to_device

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
    """

    name: str
    source: str
    model: nn.Module
    loss: Loss
    reference: Callable[[int], Iterable[Any]]
    mini_batches: Callable[[int], Iterable[Iterable[Any]]]
    curvature: Sequence[Any]
    seed: int


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
    curvature = fixed_batches(problem.train, experiment.hessian or HessianSettings(batch_size=CURVATURE_EXAMPLES), seed)

    def loss(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor | float]:
        return problem.loss(model, to_device(batch, device))

    return Subject(experiment.name, source, problem.model, loss, draw.reference, draw.mini_batches, curvature, seed)


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

    def read(count: int, axis: str) -> Iterator[Any]:
        return _batches(of_data, batches, count, derive_seed(seed, axis))

    first = list(read(1, "curvature data"))
    if not first:
        raise UserError(f"{of_data}: gave no batch")
    _check_loss(of_loss, loss_function, module, first[0])
    return Subject(
        name=model.replace(":", "."),
        source=of_model,
        model=module,
        loss=loss_function,
        # The reference may be the noise's own batches, if there are no more.
        reference=lambda count: _at_least(of_data, read(count, "reference data"), count // 2, "reference gradient"),
        mini_batches=lambda count: ([batch] for batch in _at_least(of_data, read(count, "noise data"), count, "noise")),
        curvature=first,
        seed=seed,
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


def _at_least(option: str, batches: Iterable[Any], needed: int, what: str) -> Iterator[Any]:
    given = 0
    for batch in batches:
        yield batch
        given += 1
    if given < needed:
        raise UserError(
            f"{option}: gave {given} batches for the {what}, {needed} are needed; "
            "each call must begin anew, and --batches asks for fewer"
        )


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
