"""The training loop, top to bottom."""

from __future__ import annotations

from ..configs.schema import Experiment, Training
from ..data.batches import BatchOrder, training_batches
from ..errors import UserError
from ..seeds import derive_seed
from ..tasks.problem import Problem
from .checkpoint import TrainingState
from .devices import CompiledProblem
from .distributed import ALONE, Ranks, Replicated, share_batch_norm
from .monitor import Observer
from .schedules import Due, is_due, learning_rate_factor, number_of_steps
from .signals import Interruption
from .step import take_step


def train(
    experiment: Experiment,
    problem: Problem,
    state: TrainingState,
    observer: Observer | None,
    interruption: Interruption,
    ranks: Ranks = ALONE,
) -> None:
    """Take a run from where its state stands to its last step.

    All that it writes is a function of the experiment alone, wall-clock time aside: each random stream is derived from
    the seed and the step, and nothing that is measured on the way changes what comes after.

    Args:
        experiment: the config.
        problem: its model is in training mode, on the device; in main memory if it is to be sharded.
        state: where the run stands; it goes along.
        observer: looks at it between the steps; None on a rank that leaves that to another one.
        interruption: notices signals, on each rank.
        ranks: those that train together; all take the same steps and stop at the same one.

    Raises:
        Interrupted: a signal has come to any rank; a checkpoint of that moment has been written.
        DivergedError: a loss or a gradient was no finite number; what had been written stays.
        UserError: the batch cannot be shared by that many ranks.
        ConnectionError: another rank is gone.
    """
    settings, seed = experiment.training, experiment.seed
    order = BatchOrder(len(problem.train), settings.batch_size, seed=seed, start_step=state.step)
    share = ranks.share(order.batch_size)
    steps = number_of_steps(settings, len(problem.train))
    layout = _lay_out(problem, state, settings, order.batch_size, ranks)
    state.begin_training()

    _look(layout, observer, state, is_due=bool(Due.after(state.step, steps, experiment)))

    for micro_batches in training_batches(
        problem.train, order, steps, micro_batch_size=settings.micro_batch_size, workers=settings.workers, share=share
    ):
        factor = learning_rate_factor(experiment.schedule, state.step, steps)
        for group in state.optimizer.param_groups:
            if "initial_lr" in group:
                group["lr"] = group["initial_lr"] * factor
        result = take_step(
            layout,
            state.optimizer,
            micro_batches,
            settings,
            measure=is_due(state.step + 1, settings.log_every, steps),
            noise_seed=derive_seed(seed, "inject_noise", state.step),
            dropout_seed=derive_seed(seed, "dropout", state.step, *ranks.stream),
        )
        examples, tokens, signals = ranks.gather(
            sum(len(next(iter(batch.values()))) for batch in micro_batches),
            sum(problem.task.tokens(batch) for batch in micro_batches),
            interruption.signal or 0,
        )
        state.step += 1
        state.examples += sum(examples)
        state.tokens += sum(tokens)
        with ranks.failing_together():
            if observer is not None:
                observer.recorder.record_step(state, result)
        # Where one comes from here on, rank 0 may stop in the middle of a measurement, or all stop after the next step.
        interruption.signal = max(signals) or interruption.signal
        _look(layout, observer, state, is_due=max(signals) > 0 or bool(Due.after(state.step, steps, experiment)))


def _look(layout: Replicated, observer: Observer | None, state: TrainingState, *, is_due: bool) -> None:
    """Let rank 0 look at the whole model, while the others wait; all must agree whether it is due."""
    if not is_due:
        return
    with layout.whole(), layout.ranks.failing_together():
        if observer is not None:
            with state.evaluating():
                observer.look(state)


def _lay_out(problem: Problem, state: TrainingState, settings: Training, batch_size: int, ranks: Ranks) -> Replicated:
    """Who holds what of the model that is trained."""
    if settings.shard and not ranks.is_alone:
        if state.has_two_modes:
            raise UserError("training.shard: goes without an optimizer that has train() and eval(); leave it out")
        # What it needs of torch takes a second to import.
        from .fsdp import Sharded

        return Sharded(problem, state, settings, batch_size, ranks)
    trained = share_batch_norm(problem, settings, batch_size, ranks)
    if settings.compile:
        trained = CompiledProblem(trained.model, trained.task)
    return Replicated(trained, ranks)
