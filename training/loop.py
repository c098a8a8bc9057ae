"""The training loop, top to bottom."""

from __future__ import annotations

import torch

from ..configs.schema import Experiment
from ..data.batches import BatchOrder, training_batches
from ..seeds import derive_seed
from ..tasks.problem import Problem
from .compilation import CompiledProblem
from .distributed import ALONE, Ranks
from .interruption import Interruption
from .observer import Observer
from .schedule import is_due, learning_rate_factor, number_of_steps
from .shared_batch_norm import share_batch_norm
from .state import TrainingState
from .step import take_step


def train(
    experiment: Experiment,
    problem: Problem,
    state: TrainingState,
    observer: Observer | None,
    interruption: Interruption,
    ranks: Ranks = ALONE,
) -> str:
    """Take a run from where its state stands to its last step, or to the first signal.

    All that it writes is a function of the experiment alone, wall-clock time aside: each random stream is derived from
    the seed and the step, and nothing that is measured on the way changes what comes after.

    Args:
        experiment: the config.
        problem: its model is in training mode, on the device.
        state: where the run stands; it goes along.
        observer: looks at it between the steps; None on a rank that leaves that to another one.
        interruption: notices signals; afterwards it has that of any rank.
        ranks: those that train together; all take the same steps and stop at the same one.

    Returns:
        ``done`` or ``interrupted``; a checkpoint of that moment has been written.

    Raises:
        DivergedError: a loss or a gradient was no finite number; what had been written stays.
        UserError: the batch cannot be shared by that many ranks.
        ConnectionError: another rank is gone.
    """
    settings, seed = experiment.training, experiment.seed
    order = BatchOrder(len(problem.train), settings.batch_size, seed=seed, start_step=state.step)
    share = ranks.share(order.batch_size)
    steps = number_of_steps(settings, len(problem.train))
    trained = share_batch_norm(problem, settings, order.batch_size, ranks)
    if settings.compile:
        trained = CompiledProblem(trained.model, trained.task)

    if state.step == 0:
        with ranks.failing_together():
            if observer is not None:
                observer.begin(state)

    for micro_batches in training_batches(
        problem.train, order, steps, micro_batch_size=settings.micro_batch_size, workers=settings.workers, share=share
    ):
        factor = learning_rate_factor(experiment.schedule, state.step, steps)
        for group in state.optimizer.param_groups:
            if "initial_lr" in group:
                group["lr"] = group["initial_lr"] * factor
        torch.manual_seed(derive_seed(seed, "dropout", state.step, *ranks.stream))

        result = take_step(
            trained,
            state.optimizer,
            micro_batches,
            settings,
            measure=observer is not None and is_due(state.step + 1, settings.log_every, steps),
            noise_seed=derive_seed(seed, "inject_noise", state.step),
            ranks=ranks,
        )
        examples, tokens, signals = ranks.gather(
            sum(len(next(iter(batch.values()))) for batch in micro_batches),
            sum(problem.task.tokens(batch) for batch in micro_batches),
            interruption.signal or 0,
        )
        state.step += 1
        state.examples += sum(examples)
        state.tokens += sum(tokens)
        # One that comes from here on is noticed after the next step, by all ranks.
        signal = max(signals)

        with ranks.failing_together():
            if observer is not None:
                observer.after_step(state, result, is_last=signal > 0)
        if signal > 0 and state.step < steps:
            interruption.signal = signal
            return "interrupted"
    return "done"
