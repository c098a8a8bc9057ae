"""One measurement of the curvature of a model at its present weights: spectra, distances and measures, recorded.

``measure_hessian`` is what a run does when a measurement is due: gradient, Adam's preconditioner, a spectrum per block
(``parallel``), distances between them, one record folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from ..data.base import Examples
from ..data.batches import BatchOrder
from ..errors import UserError
from ..models.modules import has_batch_norm
from ..progress import Track, untracked
from ..seeds import derive_seed
from ..tasks.base import Batch, Loss
from .block_spectra import Effort
from .blocks import Block, partition, select_blocks
from .distances import distance_rows
from .operators import HessianOperator, batch_norm_statistics, mean_gradient
from .parallel import Build, Inputs, Job, measure_jobs, one_thread
from .preconditioning import AdamStep, adam_step
from .record import ADAM, FULL, HessianMeasurement, HessianRecord, block_rows, mean_distances, model_rows
from .settings import HessianSettings
from .spectrum import Spectrum

NOT_RESULTS = {"every", "at", "processes", "batch_norm"}
"""Settings that change no result, or whose effect is recorded otherwise."""


def measure_hessian(
    model: nn.Module,
    loss: Loss,
    batches: Sequence[Batch],
    settings: HessianSettings,
    record: HessianRecord,
    *,
    step: int = 0,
    seed: int = 0,
    optimizer: Optimizer | None = None,
    build: Build | None = None,
    track: Track = untracked,
) -> None:
    """Measure the curvature and record it, unless the record has the same measurement already.

    An interrupted measurement continues from its cached spectra if nothing has changed that they depend on. The model
    computes in evaluation mode and in its own precision, BatchNorm as ``settings.batch_norm_at(step)`` says; that is
    recorded as ``batch_norm``.

    Args:
        model: unchanged afterwards: weights, ``.grad``, modes, buffers; so are PyTorch's random streams.
        loss: what is minimised.
        batches: the loss is the mean over the terms of all of them.
        settings: which spectra, and how exact.
        record: where the results go.
        step: optimizer steps taken so far.
        seed: of the probes.
        optimizer: what trains the model; Adam's own moments are its preconditioner.
        build: builds the same model, with any weights, in another process; must be picklable. Without it everything
            is measured in this process.
        track: shows progress.

    Raises:
        FloatingPointError: the loss or a product with the Hessian is NaN or infinite.
        UserError: see ``HessianOperator`` and ``select_blocks``; or a process died.
    """
    batch_norm = settings.batch_norm_at(step)
    with one_thread(), batch_norm_statistics(model, loss, batches, batch_norm):
        gradient = mean_gradient(model, loss, batches)
        adam = adam_step(model, optimizer, gradient)
        scale = adam.scale if settings.adam else {}
        effort = Effort(settings.steps, settings.probes, settings.tolerance)
        inputs = Inputs(model, loss, batches, scale, effort, seed, batch_norm)
        how = _describe(inputs, settings, adam)
        if record.how(step) == how:
            # The process may have been killed after the results were written, before the cache was removed.
            record.drop_unfinished(step)
            return
        blocks = select_blocks(model, settings.blocks)
        # A wrong second derivative shows between the blocks of a layer, even where it does not within them.
        operator = HessianOperator(model, loss, batches, kept_graphs=0)
        operator.check_symmetry()
        jobs = _jobs(model, blocks, settings)
        cache = record.unfinished(step, how["fingerprint"])
        spectra, adam_spectra = _collect(
            jobs, track("spectra", measure_jobs(inputs, jobs, cache, settings.processes, build), len(jobs))
        )
        compared = {block.name: spectra[block.name] for block in blocks}
        distances, adam_distances = list(distance_rows(compared)), list(distance_rows(adam_spectra))
        rows = list(mean_distances(compared, distances))
        if settings.adam:
            rows += mean_distances(adam_spectra, adam_distances, ADAM)
        rows += model_rows(operator, gradient, adam, blocks, spectra)
        measured = [job.block for job in jobs if job.matrix == "hessian"]
        by_block = block_rows(measured, spectra, adam_spectra, gradient)
        record.write(HessianMeasurement(step, spectra, adam_spectra, by_block, distances, adam_distances, rows, how))


def fixed_batches(examples: Examples, settings: HessianSettings, seed: int) -> list[Batch]:
    """The batches of every measurement of a run, drawn without replacement; the same at each step.

    Raises:
        UserError: there are fewer examples.
    """
    size = settings.batch_size
    wanted = settings.batches * size
    if wanted > len(examples):
        raise UserError(
            f"hessian.batch_size: {settings.batches} x {size} examples do not fit into the {len(examples)} to train on"
        )
    keys = BatchOrder(len(examples), wanted, derive_seed(seed, "hessian")).keys(0)
    return [examples.batch(keys[start : start + size]) for start in range(0, wanted, size)]


def _describe(inputs: Inputs, settings: HessianSettings, adam: AdamStep) -> dict[str, Any]:
    """All that the results depend on, in plain values."""
    return {
        "fingerprint": inputs.fingerprint(),
        **settings.model_dump(mode="json", exclude=NOT_RESULTS),
        "seed": inputs.seed,
        "adam_source": adam.source,
    } | ({"batch_norm": inputs.batch_norm} if has_batch_norm(inputs.model) else {})


def _jobs(model: nn.Module, blocks: Sequence[Block], settings: HessianSettings) -> list[Job]:
    """The spectra to measure; the full Hessian first, since it takes longest."""
    jobs = [Job("hessian", block) for block in blocks]
    if settings.full and settings.blocks != FULL:
        jobs.insert(0, Job("hessian", partition(model, FULL)[0]))
    if settings.adam:
        jobs += [Job("adam", block) for block in blocks]
    return jobs


def _collect(
    jobs: Sequence[Job], measured: Iterable[tuple[Job, Spectrum]]
) -> tuple[dict[str, Spectrum], dict[str, Spectrum]]:
    """The spectra of the Hessian and those of the preconditioned one, by name, in the order of the jobs."""
    found = {(job.matrix, job.block.name): spectrum for job, spectrum in measured}
    by_matrix: dict[str, dict[str, Spectrum]] = {"hessian": {}, "adam": {}}
    for job in jobs:
        by_matrix[job.matrix][job.block.name] = found[job.matrix, job.block.name]
    return by_matrix["hessian"], by_matrix["adam"]
