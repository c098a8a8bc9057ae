"""The training loop: step, evaluation, measurement, checkpoint."""

from __future__ import annotations

from ..configs.schema import Experiment, Training
from ..data.batches import BatchOrder, training_batches
from ..errors import UserError
from ..seeds import derive_seed
from ..tasks.problem import Problem
from .checkpoint import TrainingState
from .devices import CompiledProblem
from .distributed import SINGLE, Ranks, Replicated, synchronize_batch_norm
from .monitor import Monitor
from .schedules import Due, is_due, learning_rate_factor, number_of_steps
from .signals import Interruption
from .step import take_step


def train(
    experiment: Experiment,
    problem: Problem,
    state: TrainingState,
    monitor: Monitor | None,
    interruption: Interruption,
    ranks: Ranks = SINGLE,
) -> None:
    """Train from ``state`` to the last step.

    The result depends on the experiment alone: every random stream is derived from the seed and the step, and no
    evaluation or measurement changes what comes after it.

    Args:
        experiment: the config.
        problem: its model is in training mode, on the device; in main memory if it is to be sharded.
        state: where the run stands; updated in place.
        monitor: records, evaluates, measures and saves between the steps; None on all ranks but the first.
        interruption: notices signals, on each rank.
        ranks: the processes that train together; all stop at the same step.

    Raises:
        Interrupted: a rank has received a signal; a checkpoint of that step has been written.
        DivergedError: a loss or a gradient is NaN or infinite.
        UserError: the batch cannot be split over that many ranks.
        ConnectionError: another rank is lost.
    """
    settings, seed = experiment.training, experiment.seed
    order = BatchOrder(len(problem.train), settings.batch_size, seed=seed, start_step=state.step)
    share = ranks.share(order.batch_size)
    steps = number_of_steps(settings, len(problem.train))
    layout = _make_layout(problem, state, settings, order.batch_size, ranks)
    state.begin_training()

    _run_callbacks(layout, monitor, state, is_due=bool(Due.after(state.step, steps, experiment)))

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
            dropout_seed=derive_seed(seed, "dropout", state.step, *ranks.seed_suffix),
        )
        examples, tokens, signals = ranks.all_gather(
            sum(len(next(iter(batch.values()))) for batch in micro_batches),
            sum(problem.task.tokens(batch) for batch in micro_batches),
            interruption.signal or 0,
        )
        state.step += 1
        state.examples += sum(examples)
        state.tokens += sum(tokens)
        with ranks.propagate_errors():
            if monitor is not None:
                monitor.recorder.record_step(state, result)
        # A signal that comes later stops rank 0 in the middle of a measurement, or all ranks after the next step.
        interruption.signal = max(signals) or interruption.signal
        is_interrupted = max(signals) > 0
        _run_callbacks(layout, monitor, state, is_due=is_interrupted or bool(Due.after(state.step, steps, experiment)))


def _run_callbacks(layout: Replicated, monitor: Monitor | None, state: TrainingState, *, is_due: bool) -> None:
    """Evaluate, measure and save on rank 0 while the others wait; ``is_due`` is the same on every rank."""
    if not is_due:
        return
    with layout.full_state(), layout.ranks.propagate_errors():
        if monitor is not None:
            with state.evaluating():
                monitor.run_due_callbacks(state)


def _make_layout(
    problem: Problem, state: TrainingState, settings: Training, batch_size: int, ranks: Ranks
) -> Replicated:
    if settings.shard and not ranks.is_single:
        if state.has_two_modes:
            raise UserError("training.shard: goes without an optimizer that has train() and eval(); leave it out")
        from .fsdp import Sharded  # its part of torch takes a second to import

        return Sharded(problem, state, settings, batch_size, ranks)
    trained = synchronize_batch_norm(problem, settings, batch_size, ranks)
    if settings.compile:
        trained = CompiledProblem(trained.model, trained.task)
    return Replicated(trained, ranks)
