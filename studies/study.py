"""Study files: a study as YAML, that is sweeps of runs, what is read off them, and pictures, at several scales.

All sweeps of a study are one pool of runs; its summary and its pictures follow. A sweep ``{of: STUDY}`` is another
study's, so that both read the same runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from ..configs.load import ConfigError, explain, identity, read_yaml
from ..settings import Settings, nearest
from ..training.devices import choose_device
from .pictures import PICTURES
from .quantities import QUANTITIES, SGD_AND_ADAM, Results
from .summary import IncompleteError, SummaryRow
from .sweeps.outcomes import Outcome
from .sweeps.plan import ONLY_ARM, Sweep, arms_of, find_config, plan
from .sweeps.sweep import SweepResult, read_sweeps, run_sweeps


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
        if any(QUANTITIES[name].compares_rules for name in self.quantities):
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
        study = StudyFile.model_validate(share_sweeps(read_yaml(path), path))
    except ValidationError as error:
        raise ConfigError(str(path), explain(error)) from None
    scales = {}
    for name, scale in study.scales.items():
        sweeps = {
            key: sweep.model_copy(update={"config": str(find_config(sweep.config, path, str(path)))})
            for key, sweep in scale.sweeps.items()
        }
        scales[name] = scale.model_copy(update={"sweeps": sweeps})
    return study.model_copy(update={"scales": scales})


def share_sweeps(study: dict[str, Any], path: Path) -> dict[str, Any]:
    """A study in which each sweep ``{of: STUDY}`` is that study's, of the same scale and name.

    Args:
        study: what ``path`` holds; it need not be valid in other ways.
        path: of the file; the other study lies beside it.

    Raises:
        ConfigError: there is no such sweep; the line names the key and what there is.
    """
    # Scales may be one and the same group, by an alias of YAML, so nothing is changed in place.
    changed = {
        scale: study["scales"][scale]
        | {
            "sweeps": {
                name: _find(sweep, scale, name, path) if _is_shared(sweep) else sweep for name, sweep in sweeps.items()
            }
        }
        for scale, sweeps in _sweeps_by_scale(study)
    }
    return study | {"scales": study["scales"] | changed} if changed else study


def _sweeps_by_scale(study: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    scales = study.get("scales")
    for scale, content in scales.items() if isinstance(scales, dict) else ():
        sweeps = content.get("sweeps") if isinstance(content, dict) else None
        if isinstance(sweeps, dict):
            yield scale, sweeps


def _is_shared(sweep: Any) -> bool:
    return isinstance(sweep, dict) and "of" in sweep


def _find(sweep: dict[str, Any], scale: str, name: str, path: Path) -> Any:
    try:
        return _shared_sweep(sweep, scale, name, path.parent)
    except LookupError as error:
        raise ConfigError(str(path), [f"scales.{scale}.sweeps.{name}: {error.args[0]}"]) from None


def _shared_sweep(sweep: dict[str, Any], scale: str, name: str, folder: Path) -> Any:
    if len(sweep) > 1:
        raise LookupError(f"a sweep of another study is taken as it is; leave out all but of: {sweep['of']}")
    study = str(sweep["of"])
    files = {file.stem: file for file in sorted(folder.glob("*.yaml"))}
    if study not in files:
        raise LookupError(f"of: there is no study {study}; {nearest(study, files)}")
    sweeps = dict(_sweeps_by_scale(read_yaml(files[study]))).get(scale, {})
    if name not in sweeps:
        raise LookupError(f"of: {study} has no such sweep at this scale; {nearest(str(name), map(str, sweeps))}")
    if _is_shared(sweeps[name]):
        raise LookupError(f"of: {study} has it of a study itself; name that one")
    return sweeps[name]


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


CONFIG_PATHS: Any = {"sweeps": {"__all__": {"config"}}}
"""They say where whyadam is installed; what stands in the configs is part of each run's identity."""


class DeclaredStudy:
    """A study that is a YAML file.

    Args:
        name: of the study.
        file: its content.
    """

    def __init__(self, name: str, file: StudyFile) -> None:
        self.name = name
        self.scales = file.scales

    def identity(self, scale: str, seed: int) -> str:
        """Text that changes with everything that may change the results, the configs that the sweeps name included."""
        chosen = self._seeded(scale, seed)
        planned = [identity(trial.experiment) for sweep in chosen.sweeps.values() for trial in plan(sweep)]
        return json.dumps([self.settings(scale, seed), planned], sort_keys=True)

    def settings(self, scale: str, seed: int) -> dict[str, Any]:
        """What status.json keeps."""
        return self._seeded(scale, seed).model_dump(mode="json", exclude=CONFIG_PATHS)

    def device(self, scale: str) -> str:
        """Where the runs compute."""
        first = next(iter(self.scales[scale].sweeps.values()))
        return str(choose_device(plan(first)[0].experiment.training.device))

    def run(self, folder: Path, scale: str, seed: int, jobs: int) -> tuple[list[SummaryRow], str | None]:
        """Do the runs that are missing, and draw the pictures of the sweeps whose runs have all ended.

        The runs lie beside the studies, in ``runs``: studies that need the same run share it.

        Args:
            folder: the study's.
            scale: one of ``scales``.
            seed: is added to every seed of the sweeps.
            jobs: runs at a time.

        Returns:
            The rows of the summary, and how many runs have failed, with the first of them; None where none has.

        Raises:
            SweepInterruptedError: a signal came.
        """
        chosen = self._seeded(scale, seed)
        results = dict(zip(chosen.sweeps, run_sweeps([*chosen.sweeps.values()], _pool(folder), jobs), strict=True))
        rows = list(self._rows(scale, chosen, results))
        for picture in chosen.pictures:
            shown = {name: results[name] for name in picture.chosen(results)}
            if not any(_failed(result) for result in shown.values()):
                PICTURES[picture.draw](shown, rows, folder / picture.draw)
        outcomes = [outcome for result in results.values() for outcome in result.outcomes]
        failed = [outcome for result in results.values() for outcome in _failed(result)]
        if failed:
            return rows, f"{len(failed)} of {len(outcomes)} runs have failed, the first: {failed[0].describe()}"
        return rows, None

    def reread(self, folder: Path, scale: str, seed: int) -> list[SummaryRow]:
        """The rows of the summary from the runs that are there.

        Raises:
            IncompleteError: one is missing.
        """
        chosen = self._seeded(scale, seed)
        results = dict(zip(chosen.sweeps, read_sweeps([*chosen.sweeps.values()], _pool(folder)), strict=True))
        for result in results.values():
            for missing in _failed(result):
                raise IncompleteError(f"{missing.folder} is missing")
        return list(self._rows(scale, chosen, results))

    def _seeded(self, scale: str, seed: int) -> StudyScale:
        sweeps = {name: _with_seeds(sweep, seed) for name, sweep in self.scales[scale].sweeps.items()}
        return self.scales[scale].model_copy(update={"sweeps": sweeps})

    def _rows(self, scale: str, chosen: StudyScale, results: Results) -> Iterator[SummaryRow]:
        """All quantities of the runs that have ended; then a row for each run that is missing."""
        ended = {name: result.ended() for name, result in results.items()}
        for name in results:
            for quantity in chosen.quantities:
                for reading in QUANTITIES[quantity].readings(name, ended):
                    yield SummaryRow(
                        study=self.name,
                        scale=scale,
                        subject=_subject(name, reading.arm),
                        quantity=quantity,
                        seed=reading.seed,
                        value=reading.value,
                        tried=reading.tried,
                        at_edge=reading.at_edge,
                        unit=QUANTITIES[quantity].unit,
                    )
        for name, result in results.items():
            for arm, seed, state in _missing(chosen.sweeps[name], result):
                yield SummaryRow.of_missing_run(self.name, scale, _subject(name, arm), seed, state)


def _pool(folder: Path) -> Path:
    return folder.parents[1] / "runs"


def _subject(sweep: str, arm: str | None) -> str:
    return sweep if arm in (None, ONLY_ARM) else f"{sweep}/{arm}"


def _with_seeds(sweep: Sweep, offset: int) -> Sweep:
    seeds = {key: getattr(sweep, key) for key in ("seeds", "tuning_seeds")}
    return sweep.model_copy(
        update={key: tuple(seed + offset for seed in given) for key, given in seeds.items() if given is not None}
    )


def _failed(result: SweepResult) -> list[Outcome]:
    return [outcome for outcome in result.outcomes if not outcome.is_result]


def _missing(sweep: Sweep, result: SweepResult) -> Iterator[tuple[str, int, str]]:
    """Arm, seed and state of each run at a chosen point that has failed, or lacks a chosen point."""
    for outcome in result.wanted:
        if not outcome.is_result:
            yield outcome.trial.arm, outcome.trial.seed, outcome.state
    for arm in arms_of(sweep):
        if arm not in {outcome.trial.arm for outcome in result.wanted}:
            for seed in sweep.seeds or sorted({run.trial.seed for run in result.tuning if run.trial.arm == arm}):
                yield arm, seed, "not tuned"
