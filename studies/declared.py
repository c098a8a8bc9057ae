"""Running a study file: its sweeps as one pool of runs, then its summary and its pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..configs.load import identity
from ..errors import UserError
from ..training.devices import choose_device
from .pictures import PICTURES
from .quantities import QUANTITIES
from .readings import Results
from .study_file import StudyFile, StudyScale
from .sweeps.outcomes import Outcome
from .sweeps.sweep import run_sweeps
from .sweeps.sweep_file import Sweep
from .sweeps.trials import ONLY_ARM, plan
from .verdicts.summary import SummaryRow, write_summary

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
        """Text that changes with whatever may change the results, the configs that the sweeps name included."""
        chosen = self._seeded(scale, seed)
        planned = [identity(trial.experiment) for sweep in chosen.sweeps.values() for trial in plan(sweep)]
        return json.dumps([self.settings(scale, seed), planned], sort_keys=True)

    def run(self, folder: Path, scale: str, seed: int, jobs: int) -> None:
        """Do what is missing of the runs, and write summary.csv and the pictures.

        The runs lie beside the studies, in ``runs``: studies that need the same run share it.

        Args:
            folder: the study's.
            scale: one of ``scales``.
            seed: is added to every seed of the sweeps.
            jobs: runs at a time.

        Raises:
            UserError: runs have failed; the message names the first of them.
            SweepInterruptedError: a signal came.
        """
        chosen = self._seeded(scale, seed)
        pool = folder.parents[1] / "runs"
        done = run_sweeps(list(chosen.sweeps.values()), pool, jobs)
        results = dict(zip(chosen.sweeps, done, strict=True))
        _refuse_failures([outcome for result in done for outcome in result.outcomes])
        rows = list(self._summary_rows(scale, chosen, results))
        for picture in chosen.pictures:
            shown = {name: results[name] for name in picture.chosen(results)}
            PICTURES[picture.draw](shown, rows, folder / picture.draw)
        write_summary(folder / "summary.csv", rows)

    def settings(self, scale: str, seed: int) -> dict[str, Any]:
        """What status.json keeps."""
        return self._seeded(scale, seed).model_dump(mode="json", exclude=CONFIG_PATHS)

    def device(self, scale: str) -> str:
        """Where the runs compute."""
        first = next(iter(self.scales[scale].sweeps.values()))
        return str(choose_device(plan(first)[0].experiment.training.device))

    def _seeded(self, scale: str, seed: int) -> StudyScale:
        sweeps = {name: _with_seeds(sweep, seed) for name, sweep in self.scales[scale].sweeps.items()}
        return self.scales[scale].model_copy(update={"sweeps": sweeps})

    def _summary_rows(self, scale: str, chosen: StudyScale, results: Results) -> Iterator[SummaryRow]:
        for name in results:
            for quantity in chosen.quantities:
                for reading in QUANTITIES[quantity].readings(name, results):
                    yield SummaryRow(
                        study=self.name,
                        scale=scale,
                        subject=name if reading.arm in (None, ONLY_ARM) else f"{name}/{reading.arm}",
                        quantity=quantity,
                        seed=reading.seed,
                        value=reading.value,
                        tried=reading.tried,
                        at_edge=reading.at_edge,
                        unit=QUANTITIES[quantity].unit,
                    )


def _with_seeds(sweep: Sweep, offset: int) -> Sweep:
    seeds = {key: getattr(sweep, key) for key in ("seeds", "tuning_seeds")}
    return sweep.model_copy(
        update={key: tuple(seed + offset for seed in given) for key, given in seeds.items() if given is not None}
    )


def _refuse_failures(outcomes: Sequence[Outcome]) -> None:
    failed = [outcome for outcome in outcomes if outcome.state not in ("done", "diverged")]
    if failed:
        raise UserError(f"{len(failed)} of {len(outcomes)} runs have failed, the first: {failed[0].describe()}")
