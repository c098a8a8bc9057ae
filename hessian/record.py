"""The curvature measurements in a run folder: ``hessian/step_000100/`` and so on.

A measurement has one row per block (blocks.csv), per pair of blocks (distances.csv), per measure of the whole model
(measures.csv) and per quadrature node (nodes.csv).
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from ..errors import UserError
from .blocks import Block
from .distances import SCALE_FREE, DistanceRow, distance_kinds, heterogeneity
from .measures import BlockMeasures, block_measures, directional_sharpness, gradient_heterogeneity, outside_blocks
from .operators import HessianOperator
from .preconditioning import AdamStep
from .spectrum import Spectrum, stack_probes

FULL = "full"
"""Name of the block that is the full Hessian."""

ADAM = "adam_"
"""Prefix of what is measured of the Hessian preconditioned by Adam."""

MEASURES = tuple(field.name for field in fields(BlockMeasures))
BLOCK_COLUMNS = ("block", "probes", "exact", *MEASURES, *(ADAM + name for name in MEASURES[1:]), "gradient_norm")


@dataclass(frozen=True)
class ModelRow:
    """One row of measures.csv, on the model as a whole.

    Attributes:
        measure: its name; for a distance the value is the mean over all pairs of blocks.
        sigma: the smoothing of a distance; empty elsewhere.
        value: what was measured; None where it could not be, and ``note`` says why.
        noise_floor: of a distance, the mean over pairs; None elsewhere.
        note: why there is no value, or what it does not cover.
    """

    measure: str
    sigma: str
    value: float | None
    noise_floor: float | None = None
    note: str = ""


def block_rows(
    blocks: Sequence[Block],
    spectra: Mapping[str, Spectrum],
    adam_spectra: Mapping[str, Spectrum],
    gradient: Mapping[str, Tensor],
) -> list[dict[str, Any]]:
    """The rows of blocks.csv, by column, in the order of the blocks.

    Args:
        blocks: those that were measured.
        spectra: by name of the block.
        adam_spectra: the same of D^{-1/2} H D^{-1/2}, where they were measured.
        gradient: one tensor per parameter.
    """
    rows = []
    for block in blocks:
        spectrum, adam = spectra[block.name], adam_spectra.get(block.name)
        preconditioned = {} if adam is None else asdict(block_measures(adam))
        rows.append(
            {"block": block.name, "probes": spectrum.probes, "exact": spectrum.exact}
            | asdict(block_measures(spectrum))
            | {ADAM + name: preconditioned.get(name) for name in MEASURES[1:]}
            | {"gradient_norm": float(torch.linalg.vector_norm(block.of(gradient)))}
        )
    return rows


def mean_distances(
    spectra: Mapping[str, Spectrum], rows: Iterable[DistanceRow], prefix: str = ""
) -> Iterator[ModelRow]:
    """The mean over all pairs of blocks, with the mean noise floor, of each distance and smoothing.

    Args:
        spectra: those that were compared, by name of the block.
        rows: what ``distance_rows`` gives of them.
        prefix: of the measures.
    """
    means = heterogeneity(rows)
    zero = sum(not spectrum.nodes.any() for spectrum in spectra.values())
    for measure, sigma in distance_kinds():
        left_out = zero if measure.startswith(SCALE_FREE) else 0
        note = f"without {left_out} blocks whose Hessian is zero" if left_out else ""
        if (mean := means.get((measure, sigma))) is None:
            yield ModelRow(
                prefix + measure, sigma, None, None, ", ".join(filter(None, ["fewer than two blocks", note]))
            )
        else:
            yield ModelRow(prefix + measure, sigma, mean.value, mean.noise_floor, note)


def model_rows(
    operator: HessianOperator,
    gradient: Mapping[str, Tensor],
    step: AdamStep,
    blocks: Sequence[Block],
    spectra: Mapping[str, Spectrum],
) -> Iterator[ModelRow]:
    """The measures of the whole model, apart from distances; one that does not exist here says why in its note.

    Args:
        operator: the Hessian of all trained parameters.
        gradient: one tensor per parameter.
        step: what Adam does here.
        blocks: those that were measured, without the full Hessian.
        spectra: by name of the block, ``full`` among them if the full Hessian was measured.
    """
    of_blocks = {block.name: block.of(gradient) for block in blocks}
    measures: dict[str, Callable[[], float]] = {
        "gradient_heterogeneity": lambda: gradient_heterogeneity(of_blocks),
        "directional_sharpness_sgd": lambda: directional_sharpness(operator, operator.block.of(gradient)),
        "directional_sharpness_adam": lambda: directional_sharpness(operator, operator.block.of(step.direction)),
        "outside_blocks": lambda: _outside_blocks(blocks, spectra),
    }
    for name, measure in measures.items():
        try:
            value = measure()
        except ValueError as error:
            yield ModelRow(name, "", None, note=str(error))
        else:
            finite = math.isfinite(value)
            yield ModelRow(name, "", value if finite else None, note="" if finite else f"its value is {value}")


def _outside_blocks(blocks: Sequence[Block], spectra: Mapping[str, Spectrum]) -> float:
    if FULL not in spectra:
        raise ValueError("the full Hessian was not measured: hessian.full=true")
    return outside_blocks(spectra[FULL], [spectra[block.name] for block in blocks])


Row = TypeVar("Row", DistanceRow, ModelRow)

NODE_COLUMNS = ("block", "size", "probe", "node", "weight")
DISTANCE_COLUMNS = tuple(field.name for field in fields(DistanceRow))
MODEL_COLUMNS = tuple(field.name for field in fields(ModelRow))


@dataclass(frozen=True)
class HessianMeasurement:
    """What was measured at one step.

    Attributes:
        step: optimizer steps taken.
        spectra: by name of the block; that of the full Hessian, if it was measured, is called ``full``.
        adam_spectra: the same of the blocks preconditioned by Adam, if they were measured.
        blocks: rows of blocks.csv.
        distances: rows of distances.csv.
        adam_distances: rows of adam_distances.csv.
        model: rows of measures.csv.
        how: content of measurement.json: all that the results depend on, in plain values.
    """

    step: int
    spectra: Mapping[str, Spectrum]
    adam_spectra: Mapping[str, Spectrum]
    blocks: Sequence[Mapping[str, Any]]
    distances: Sequence[DistanceRow]
    adam_distances: Sequence[DistanceRow]
    model: Sequence[ModelRow]
    how: Mapping[str, Any]


class HessianRecord:
    """The curvature measurements in a folder, at most one per step; each is written to a temporary folder and renamed.

    Args:
        folder: a run folder, or any other; created on the first write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "hessian"

    def path(self, step: int) -> Path:
        """The folder of a step's measurement."""
        return self.folder / f"step_{step:06d}"

    def unfinished(self, step: int, fingerprint: str) -> Path:
        """The cache folder of an unfinished measurement; each state of the model has its own."""
        return self.folder / "unfinished" / f"step_{step:06d}-{fingerprint}"

    def write(self, measurement: HessianMeasurement) -> None:
        """Add the measurement of a step, replace an earlier one, and remove the cache of unfinished ones."""
        place = self.path(measurement.step)
        temporary = place.with_name(place.name + ".tmp")
        if temporary.is_symlink():
            temporary.unlink()
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        _write_table(temporary / "nodes.csv", NODE_COLUMNS, _node_rows(measurement.spectra))
        _write_table(
            temporary / "blocks.csv",
            BLOCK_COLUMNS,
            [_as_texts(map(row.get, BLOCK_COLUMNS)) for row in measurement.blocks],
        )
        _write_table(temporary / "distances.csv", DISTANCE_COLUMNS, map(_fields, measurement.distances))
        _write_table(temporary / "measures.csv", MODEL_COLUMNS, map(_fields, measurement.model))
        if measurement.adam_spectra:
            _write_table(temporary / "adam_nodes.csv", NODE_COLUMNS, _node_rows(measurement.adam_spectra))
            _write_table(temporary / "adam_distances.csv", DISTANCE_COLUMNS, map(_fields, measurement.adam_distances))
        (temporary / "measurement.json").write_text(json.dumps(dict(measurement.how), indent=2) + "\n")
        shutil.rmtree(place, ignore_errors=True)
        os.replace(temporary, place)
        self.drop_unfinished(measurement.step)

    def drop_unfinished(self, step: int) -> None:
        """Remove the caches of unfinished measurements of a step."""
        for folder in self.folder.glob(f"unfinished/step_{step:06d}-*"):
            shutil.rmtree(folder)
        if (self.folder / "unfinished").exists() and not any((self.folder / "unfinished").iterdir()):
            (self.folder / "unfinished").rmdir()

    def steps(self) -> list[int]:
        """The steps that were measured, in order."""
        found = (re.fullmatch(r"step_(\d+)", path.name) for path in self.folder.glob("step_*"))
        return sorted(int(match[1]) for match in found if match)

    def how(self, step: int) -> dict[str, Any]:
        """measurement.json of a step; empty if there is none."""
        try:
            return dict(json.loads((self.path(step) / "measurement.json").read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def spectra(self, step: int, *, adam: bool = False) -> dict[str, Spectrum]:
        """The spectra of a step by name of the block, in the model's order, exactly as measured.

        Raises:
            UserError: the file is missing or damaged.
        """
        path = self.path(step) / ("adam_nodes.csv" if adam else "nodes.csv")
        rows: dict[str, dict[str, list[tuple[float, float]]]] = {}
        sizes: dict[str, int] = {}
        try:
            for row in _read_table(path):
                sizes[row["block"]] = int(row["size"])
                probe = rows.setdefault(row["block"], {}).setdefault(row["probe"], [])
                probe.append((float(row["node"]), float(row["weight"])))
            if not rows:
                raise ValueError("there is no spectrum in it")
            return {block: _spectrum(probes.values(), sizes[block]) for block, probes in rows.items()}
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: cannot be read: {error}") from None

    def blocks(self, step: int) -> list[dict[str, str]]:
        """The rows of blocks.csv of a step, as text by column.

        Raises:
            UserError: the file is missing.
        """
        return _read_table(self.path(step) / "blocks.csv")

    def distances(self, step: int, *, adam: bool = False) -> list[DistanceRow]:
        """The distances of a step.

        Raises:
            UserError: the file is missing or damaged.
        """
        path = self.path(step) / ("adam_distances.csv" if adam else "distances.csv")
        return _read_rows(path, DistanceRow)

    def model(self, step: int) -> list[ModelRow]:
        """The measures of the whole model at a step.

        Raises:
            UserError: the file is missing or damaged.
        """
        return _read_rows(self.path(step) / "measures.csv", ModelRow)


def _node_rows(spectra: Mapping[str, Spectrum]) -> Iterator[list[str]]:
    for block, spectrum in spectra.items():
        for probe, (nodes, weights) in enumerate(zip(spectrum.nodes.tolist(), spectrum.weights.tolist(), strict=True)):
            for node, weight in zip(nodes, weights, strict=True):
                # repr round-trips every float64.
                yield [block, str(spectrum.size), str(probe), repr(node), repr(weight)]


def _spectrum(probes: Iterable[Sequence[tuple[float, float]]], size: int) -> Spectrum:
    columns = [torch.tensor(list(probe), dtype=torch.float64).T for probe in probes]
    return stack_probes([(nodes, weights) for nodes, weights in columns], size)


def _fields(row: DistanceRow | ModelRow) -> list[str]:
    return _as_texts(asdict(row).values())


def _as_texts(values: Iterable[Any]) -> list[str]:
    return ["" if value is None else f"{value:.9g}" if isinstance(value, float) else str(value) for value in values]


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def _read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """The rows of a table as dataclasses; a number that is not there is None."""
    numbers = ("value", "noise_floor")
    rows = [
        {key: None if key in numbers and not text else text for key, text in row.items()} for row in _read_table(path)
    ]
    try:
        return TypeAdapter(list[kind]).validate_python(rows)  # type: ignore[valid-type]
    except ValidationError as error:
        first = error.errors()[0]
        row, *column = first["loc"]
        place = ".".join(map(str, column))
        raise UserError(f"{path}: cannot be read: row {int(row) + 1}, {place}: {first['msg']}") from None


def _read_table(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
