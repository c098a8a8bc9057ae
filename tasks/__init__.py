"""What is minimised and what is scored: a Problem is a model, a loss and batches."""

from __future__ import annotations

from ..settings import Registry
from .base import Batch, Scores, Task, TaskSettings
from .causal_lm import CausalLM
from .classification import Classification
from .masked_lm import MaskedLM
from .problem import Problem, build_problem
from .quadratic import Quadratic
from .question_answering import QuestionAnswering

__all__ = ["TASKS", "Batch", "Problem", "Scores", "Task", "TaskSettings", "build_problem"]

TASKS: Registry[TaskSettings] = Registry("task", [Classification, CausalLM, MaskedLM, QuestionAnswering, Quadratic])
