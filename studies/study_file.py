"""Study files: a study as YAML, that is sweeps of runs, what is read off them, and pictures, at several scales."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationError, model_validator

from ..configs.errors import ConfigError, explain
from ..configs.load import read_yaml
from ..names import nearest
from ..settings import Settings
from .pictures import PICTURES
from .quantities import QUANTITIES
from .readings import SGD_AND_ADAM, Gap, RarityGap
from .shared_sweeps import take_over_sweeps
from .sweeps.sweep_file import Sweep, find_config


class Picture(Settings):
    """One picture of a study, or one of each sweep.

    Attributes:
        draw: what it shows, a name of ``pictures.PICTURES``.
        sweeps: those whose runs it shows; all by default.
    """

    draw: str
    sweeps: tuple[str, ...] | None = None

    def chosen(self, names: Iterable[str]) -> list[str]:
        """The names of the sweeps that it shows, out of ``names``."""
        return [name for name in names if self.sweeps is None or name in self.sweeps]


class StudyScale(Settings):
    """What a study computes at one scale.

    Attributes:
        sweeps: by name; the subject of a summary row is ``<sweep>/<arm>``, or ``<sweep>`` where a sweep has no arms.
            ``{of: STUDY}`` is that study's sweep of this name and scale.
        quantities: what is read off each run (or pair of runs), names of ``quantities.QUANTITIES``.
        pictures: what is drawn.
    """

    sweeps: Annotated[dict[str, Sweep], Field(min_length=1)]
    quantities: Annotated[tuple[str, ...], Field(min_length=1)]
    pictures: tuple[Picture, ...] = ()

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        _refuse_unknown("quantities", self.quantities, QUANTITIES)
        _refuse_unknown("pictures.draw", (picture.draw for picture in self.pictures), PICTURES)
        for picture in self.pictures:
            _refuse_unknown("pictures.sweeps", picture.sweeps or (), self.sweeps)
        if any(isinstance(QUANTITIES[name], Gap | RarityGap) for name in self.quantities):
            for name, sweep in self.sweeps.items():
                _refuse_unequal_budgets(name, sweep)
        return self


class StudyFile(Settings):
    """A study that needs no code of its own.

    Attributes:
        about: one line for ``whyadam reproduce --list``.
        reproduces: which figure, table or claim of which paper.
        scales: by name, ``quick``, ``gpu`` and ``paper``.
    """

    about: str
    reproduces: str
    scales: Annotated[dict[str, StudyScale], Field(min_length=1)]


def load_study(path: Path) -> StudyFile:
    """Read a study file.

    Raises:
        ConfigError: the file cannot be read, or something in it is wrong; one line names the key.
    """
    try:
        study = StudyFile.model_validate(take_over_sweeps(read_yaml(path), path))
    except ValidationError as error:
        raise ConfigError(str(path), explain(error)) from None
    scales = {
        name: scale.model_copy(update={"sweeps": {key: _found(sweep, path) for key, sweep in scale.sweeps.items()}})
        for name, scale in study.scales.items()
    }
    return study.model_copy(update={"scales": scales})


def _found(sweep: Sweep, path: Path) -> Sweep:
    return sweep.model_copy(update={"config": str(find_config(sweep.config, path, str(path)))})


def _refuse_unknown(key: str, given: Iterable[str], known: Iterable[str]) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"{key}: {name} is not known; {nearest(name, known)}")


def _refuse_unequal_budgets(name: str, sweep: Sweep) -> None:
    """A gap between two rules of which one was tuned longer would be worth nothing."""
    sizes = {
        arm: [len(values) for values in sweep.arms[arm].grid.values()] for arm in SGD_AND_ADAM if arm in sweep.arms
    }
    if len(sizes) == len(SGD_AND_ADAM) and len({tuple(size) for size in sizes.values()}) > 1:
        raise ValueError(
            f"sweeps.{name}.arms: {' and '.join(sizes)} need grids of the same size, their gap is asked for"
        )
