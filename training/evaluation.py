"""Scoring a model without leaving a trace in its training."""

from __future__ import annotations

import torch

from ..configs.schema import Training
from ..data.batches import evaluation_batches
from ..seeds import derive_seed
from ..tasks.problem import Problem
from ..tasks.settings import Scores
from .devices import autocast, to_device


def evaluate(problem: Problem, training: Training, seed: int) -> Scores:
    """Scores over the evaluation part, in eval mode, with a random stream of its own."""
    device = next(problem.model.parameters()).device
    was_training = problem.model.training
    problem.model.eval()
    torch.manual_seed(derive_seed(seed, "evaluation"))
    batches = evaluation_batches(problem.evaluation, training.eval_batch_size, limit=training.eval_examples)
    try:
        with torch.inference_mode(), autocast(device, training.precision):
            return problem.task.evaluate(problem.model, (to_device(batch, device) for batch in batches))
    finally:
        problem.model.train(was_training)
