"""Sweeps: many runs of one config, side by side, in one or two stages; and a sweep as a table of text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import inf
from pathlib import Path

from ...figures.tables import aligned, loss_cell
from ...training.run_folder import FINISHED, RunFolder
from .outcomes import Chosen, Outcome, choose, outcome_frame, write_runs
from .plan import Sweep, Trial, arms_of, describe_point, plan
from .progress import SweepProgress
from .workers import Launcher, Workers


class SweepInterruptedError(KeyboardInterrupt):
    """A signal has ended a sweep; its runs have written their last checkpoints.

    Attributes:
        exit_code: for the shell: 130 or 143.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__("the sweep was interrupted; the same line goes on with it")
        self.exit_code = exit_code


@dataclass(frozen=True)
class SweepResult:
    """All runs of a sweep.

    Attributes:
        tuning: the outcomes of the grid.
        chosen: the best point of each arm whose runs of the grid have all ended as done or diverged.
        final: the outcomes at the chosen points, on the sweep's seeds; without tuning seeds a part of ``tuning``.
    """

    tuning: list[Outcome]
    chosen: dict[str, Chosen]
    final: list[Outcome]

    @property
    def outcomes(self) -> list[Outcome]:
        """One outcome a run."""
        return list({outcome.folder: outcome for outcome in (*self.tuning, *self.final)}.values())

    @property
    def wanted(self) -> list[Outcome]:
        """``final``, and the runs of arms with one point of which a run has failed: these need no choice."""
        points: dict[str, set[str]] = {}
        for run in self.tuning:
            points.setdefault(run.trial.arm, set()).add(describe_point(run.trial.point))
        undecided = points.keys() - self.chosen.keys()
        return self.final + [
            run for run in self.tuning if run.trial.arm in undecided and len(points[run.trial.arm]) == 1
        ]

    def ended(self) -> SweepResult:
        """The same with only the runs that have ended as done or diverged, ``final`` being those that are wanted."""
        tuning, final = ([run for run in runs if run.is_result] for runs in (self.tuning, self.wanted))
        return SweepResult(tuning, self.chosen, final)


def run_sweep(sweep: Sweep, out: Path, jobs: int = 1, launcher: Launcher | None = None) -> SweepResult:
    """Do the missing runs of one sweep; see ``run_sweeps``."""
    (result,) = run_sweeps([sweep], out, jobs, launcher)
    return result


def run_sweeps(
    sweeps: Sequence[Sweep], out: Path, jobs: int = 1, launcher: Launcher | None = None
) -> list[SweepResult]:
    """Do the missing runs of some sweeps, all together, and write ``runs.csv``.

    A run that fails, or whose process dies, is reported and leaves the others alone; it is repeated the next time.

    Args:
        sweeps: what to run; a run that is part of several is computed once.
        out: folder for run folders.
        jobs: how many runs at a time, each in a process of its own, on one thread.
        launcher: what does the runs instead of these processes; ``jobs`` then says nothing.

    Raises:
        ConfigError: a run would have a wrong config; nothing has been started.
        SweepInterruptedError: a signal came before the end.
    """
    plans = [plan(sweep) for sweep in sweeps]
    with launcher or Workers(jobs) as entered:
        results = _two_stages(sweeps, plans, lambda trials: run_trials(trials, out, entered))
    outcomes = [outcome for result in results for outcome in result.outcomes]
    write_runs(outcomes, out)
    if any(outcome.state == "interrupted" for outcome in outcomes):
        raise SweepInterruptedError(entered.interruption.exit_code)
    return results


def read_sweeps(sweeps: Sequence[Sweep], out: Path) -> list[SweepResult]:
    """What there is of some sweeps below ``out``; runs that are not there count as interrupted, none is started."""
    return _two_stages(sweeps, [plan(sweep) for sweep in sweeps], partial(read_outcomes, out=out))


def _two_stages(
    sweeps: Sequence[Sweep], plans: Sequence[list[Trial]], do: Callable[[list[Trial]], list[Outcome]]
) -> list[SweepResult]:
    """The results of sweeps whose runs are done, or looked up, by ``do``, all those of one stage together."""
    tuning = _done_together(plans, do)
    chosen = [choose(outcomes) for outcomes in tuning]
    final = _done_together([_plan_final(sweep, best) for sweep, best in zip(sweeps, chosen, strict=True)], do)
    return [SweepResult(*parts) for parts in zip(tuning, chosen, final, strict=True)]


def _done_together(plans: Sequence[list[Trial]], do: Callable[[list[Trial]], list[Outcome]]) -> list[list[Outcome]]:
    outcomes = iter(do([trial for trials in plans for trial in trials]))
    return [list(islice(outcomes, len(trials))) for trials in plans]


def read_outcomes(trials: Iterable[Trial], out: Path) -> list[Outcome]:
    """How some runs have ended, as their folders below ``out`` say."""
    return [Outcome.of(trial, trial.folder(out)) for trial in trials]


def known_trials(sweep: Sweep, out: Path) -> tuple[list[Trial], bool]:
    """The runs of a sweep that are known before it is run, each once, and whether these are all.

    With tuning seeds, those of an arm's second stage are known when its runs of the first have ended below ``out``.

    Raises:
        ConfigError: a run would have a wrong config.
    """
    first = plan(sweep)
    chosen = choose(read_outcomes(first, out))
    final = _plan_final(sweep, chosen) if sweep.tuning_seeds is not None else []
    trials = {trial.folder(out): trial for trial in [*first, *final]}
    return list(trials.values()), sweep.tuning_seeds is None or chosen.keys() == arms_of(sweep).keys()


def _plan_final(sweep: Sweep, chosen: Mapping[str, Chosen]) -> list[Trial]:
    return plan(sweep, {arm: best.point for arm, best in chosen.items()})


def run_trials(trials: Sequence[Trial], out: Path, launcher: Launcher) -> list[Outcome]:
    """Do the missing ones of some runs; how all of them have ended, in their order."""
    folders = [trial.folder(out) for trial in trials]
    missing = {folder: trial for folder, trial in zip(folders, trials, strict=True) if not folder.is_finished()}
    failures: dict[RunFolder, str | None] = {}
    if missing:
        with SweepProgress(len(missing), out) as progress:
            for ended in launcher.run(list(missing.values()), out):
                if ended is None:
                    progress.show(launcher.running)
                    continue
                folder = ended.trial.folder(out)
                failures[folder] = ended.failure
                progress.record(Outcome.of(ended.trial, folder, ended.failure))
    return [Outcome.of(trial, folder, failures.get(folder)) for folder, trial in zip(folders, trials, strict=True)]


COLUMNS = ("arm", "point", "seeds", "runs", "median eval loss", "range", "")


def sweep_table(result: SweepResult) -> str:
    """The grid, with a mark at the best point of each arm; then, if there was one, the second stage."""
    text = aligned(COLUMNS, _lines(result.tuning, result.chosen.values()))
    if len(result.outcomes) == len(result.tuning):
        return text
    return f"tuning\n{text}\n\nat the best of each arm\n{aligned(COLUMNS[:-1], _lines(result.final))}"


def _lines(outcomes: Sequence[Outcome], chosen: Iterable[Chosen] | None = None) -> Iterator[tuple[str, ...]]:
    best = {(choice.arm, describe_point(choice.point)): choice for choice in chosen or ()}
    for (arm, point), members in outcome_frame(outcomes).groupby(["arm", "point"], sort=False):
        states = members["state"].value_counts(sort=False)
        counts = [f"{state} ({count} of {len(members)})" for state, count in states.items() if state != "done"]
        finite = members["loss"][members["loss"] < inf]
        spread = f"{finite.min():.4f} to {finite.max():.4f}" if len(finite) > 1 else ""
        middle = loss_cell(members["loss"][members["state"].isin(FINISHED)].tolist())
        line = (arm, point, str(len(members)), ", ".join(counts) or "done", middle, spread)
        yield line if chosen is None else (*line, _mark(best.get((arm, point))))


def _mark(choice: Chosen | None) -> str:
    if choice is None:
        return ""
    return "best, at the edge of the grid" if choice.at_edge else "best"
