"""The states of a run that can be had again: its initialisation and its checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..configs.schema import Experiment
from ..errors import UserError
from ..hessian.settings import Moment, step_at
from ..tasks.problem import Problem, build_problem
from .checkpoints import Checkpoints, load_checkpoint
from .devices import choose_device
from .run_folder import RunFolder
from .schedule import number_of_steps


@dataclass(frozen=True)
class Visit:
    """A run at one of its moments.

    Attributes:
        step: optimizer steps taken.
        problem: the same object at every visit, with the weights of this moment.
        checkpoint: what is known besides; None at the initialisation.
    """

    step: int
    problem: Problem
    checkpoint: dict[str, Any] | None


def revisit(experiment: Experiment, folder: RunFolder, moments: Sequence[Moment] | None) -> Iterator[Visit]:
    """Go back to moments of a run, in order, while no other process may work in its folder.

    Args:
        experiment: the run's config; what it says about measurements may be another.
        folder: the run folder; without checkpoints there is the initialisation.
        moments: steps or percentages; 0 is the initialisation, None stands for all that there are.

    Raises:
        RunBusyError: another living process works in the folder.
        UserError: a checkpoint is missing or damaged, or the device is not there.
    """
    device = choose_device(experiment.training.device)
    problem = build_problem(experiment.model, experiment.data, experiment.task, experiment.seed, device)
    checkpoints = Checkpoints(folder.checkpoints)
    known = sorted({0, *checkpoints.steps()})
    last_step = number_of_steps(experiment.training, len(problem.train))
    steps = known if moments is None else sorted({step_at(moment, last_step) for moment in moments})
    for step in steps:
        if step not in known:
            raise UserError(f"{folder.path}: no checkpoint of step {step}; there are {', '.join(map(str, known))}")
    with folder.lock():
        if not folder.config.exists():
            folder.write_config(experiment)
        for step in steps:
            checkpoint = load_checkpoint(checkpoints.path(step), device) if step > 0 else None
            if checkpoint is not None:
                problem.model.load_state_dict(checkpoint["model"])
            yield Visit(step, problem, checkpoint)
