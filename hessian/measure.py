"""One measurement of the curvature at one state of a model: spectra, and what is to be recorded of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from ..progress import Track, untracked
from ..tasks.base import Batch
from .block_spectra import Effort
from .blocks import Block, partition, select_blocks
from .distances import distance_rows
from .operators import HessianOperator, Loss, mean_gradient
from .parallel import Build, Site, Target, fingerprint, measure_targets, one_thread
from .preconditioning import AdamStep, adam_step
from .record import ADAM, FULL, HessianMeasurement, HessianRecord, block_rows, mean_distances, model_rows
from .settings import HessianSettings
from .spectrum import Spectrum

NOT_RESULTS = {"every", "at", "processes"}
"""Settings that change no result of a measurement."""


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
    """Measure the curvature and record it, unless the record has just this measurement already.

    What an interrupted measurement had finished is taken over, if nothing has changed that it depends on. The model
    computes in evaluation mode and in its own precision.

    Args:
        model: left as it is found: weights, ``.grad``, modes, running statistics; so are PyTorch's random streams.
        loss: what is minimised.
        batches: the loss is the mean over the terms of all of them.
        settings: which spectra, and how exactly.
        record: where the results go.
        step: optimizer steps taken so far.
        seed: of the probes.
        optimizer: what trains the model; Adam's own moments are its preconditioner.
        build: makes the same model with other weights, in a process of its own; must be picklable. Without it
            everything is done in this process.
        track: shows progress.

    Raises:
        FloatingPointError: the loss or a product with the Hessian is no finite number.
        UserError: see ``HessianOperator`` and ``select_blocks``; or a process died.
    """
    with one_thread():
        gradient = mean_gradient(model, loss, batches)
        adam = adam_step(model, optimizer, gradient)
        scale = adam.scale if settings.adam else {}
        site = Site(model, loss, batches, scale, Effort(settings.steps, settings.probes, settings.tolerance), seed)
        how = _describe(site, settings, adam)
        if record.how(step) == how:
            # A kill may have come between the last of the results and the removal of what led to them.
            record.drop_unfinished(step)
            return
        blocks = select_blocks(model, settings.blocks)
        targets = _targets(model, blocks, settings)
        kept = record.kept(step, how["fingerprint"])
        spectra, adam_spectra = _collect(
            targets, track("spectra", measure_targets(site, targets, kept, settings.processes, build), len(targets))
        )
        compared = {block.name: spectra[block.name] for block in blocks}
        distances, adam_distances = list(distance_rows(compared)), list(distance_rows(adam_spectra))
        rows = [*mean_distances(distances), *mean_distances(adam_distances, ADAM)]
        rows += model_rows(HessianOperator(model, loss, batches, kept_graphs=0), gradient, adam, blocks, spectra)
        measured = [target.block for target in targets if target.matrix == "hessian"]
        by_block = block_rows(measured, spectra, adam_spectra, gradient)
        record.write(HessianMeasurement(step, spectra, adam_spectra, by_block, distances, adam_distances, rows, how))


def _describe(site: Site, settings: HessianSettings, adam: AdamStep) -> dict[str, Any]:
    """All that the results depend on, in plain values."""
    return {
        "fingerprint": fingerprint(site),
        **settings.model_dump(mode="json", exclude=NOT_RESULTS),
        "seed": site.seed,
        "adam_source": adam.source,
    }


def _targets(model: nn.Module, blocks: Sequence[Block], settings: HessianSettings) -> list[Target]:
    """What is to be measured; the full Hessian comes first, since it takes longest."""
    targets = [Target("hessian", block) for block in blocks]
    if settings.full and settings.blocks != FULL:
        targets.insert(0, Target("hessian", partition(model, FULL)[0]))
    if settings.adam:
        targets += [Target("adam", block) for block in blocks]
    return targets


def _collect(
    targets: Sequence[Target], measured: Iterable[tuple[Target, Spectrum]]
) -> tuple[dict[str, Spectrum], dict[str, Spectrum]]:
    """The spectra of the Hessian and those of the preconditioned one, by name, in the order of the targets."""
    found = {(target.matrix, target.block.name): spectrum for target, spectrum in measured}
    by_matrix: dict[str, dict[str, Spectrum]] = {"hessian": {}, "adam": {}}
    for target in targets:
        by_matrix[target.matrix][target.block.name] = found[target.matrix, target.block.name]
    return by_matrix["hessian"], by_matrix["adam"]
