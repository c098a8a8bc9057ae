"""What is diagnosed: an untrained model, its loss and its data, from a config.

A user's own model, data and loss as the subject of a diagnosis, with a clear word where one of them does not fit.
"""

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
from ...tasks.gradients import trained_parameters
from ...tasks.problem import build_problem
from ...training.devices import choose_device, to_device

CURVATURE_EXAMPLES = 8
"""Over so many examples the loss is taken whose curvature is measured, as in the study that is compared with."""


@dataclass(frozen=True)
class Subject:
    """An untrained model with what is needed to measure it.

    Attributes:
        name: what the results are called.
        source: the option or file that it comes from, for error messages.
        model: as built.
        loss: from the model and a batch to the summed loss and the number of its terms.
        reference: so many mini-batches, or fewer if there are no more, as batches of one forward pass each.
        mini_batches: so many mini-batches, each as the batches that make it up.
        curvature: the batches over which the curvature is that of the mean loss.
        seed: of all that is drawn.
    """

    name: str
    source: str
    model: nn.Module
    loss: Callable[[nn.Module, Any], tuple[Tensor, Tensor]]
    reference: Callable[[int], Iterable[Any]]
    mini_batches: Callable[[int], Iterable[Iterable[Any]]]
    curvature: Sequence[Any]
    seed: int


def subject_of_config(experiment: Experiment, source: str) -> Subject:
    """The subject of a config: the same batches, and hence the same numbers, as at step 0 of a run.

    Args:
        experiment: ``noise.batch_size`` and the batches of ``hessian`` count if they are given.
        source: the config's file.

    Raises:
        UserError: the model or the data cannot be had, or there are too few examples.
    """
    training, seed = experiment.training, experiment.seed
    device = choose_device(training.device)
    problem = build_problem(experiment.model, experiment.data, experiment.task, seed, device)
    batch_size = (experiment.noise or NoiseSettings()).examples_per_batch(training.batch_size)
    draw = NoiseDraw(problem.train, batch_size, training.micro_batch_size, derive_seed(seed, "noise", 0))
    curvature = fixed_batches(problem.train, experiment.hessian or HessianSettings(batch_size=CURVATURE_EXAMPLES), seed)

    def loss(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        return problem.loss(model, to_device(batch, device))

    return Subject(experiment.name, source, problem.model, loss, draw.reference, draw.mini_batches, curvature, seed)


def subject_of_functions(model: str, data: str, loss: str, seed: int) -> Subject:
    """Import and try what a user named.

    Args:
        model: ``package.module:build``, which takes nothing and returns a module.
        data: ``package.module:batches``, which takes nothing and returns the batches, from the beginning whenever it is
            called; or something that can be iterated over again and again.
        loss: ``package.module:loss``, from the model and a batch to the summed loss and the number of its terms.
        seed: of the model's start and of what the data draws from torch's random stream.

    Raises:
        UserError: one of them cannot be imported or does not do that; the message begins with its option.
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
        # Data that gives the noise once is enough; a mean over more of it is better.
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
    """The first batches, at most so many; what they draw from torch's stream depends on the seed alone."""
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
