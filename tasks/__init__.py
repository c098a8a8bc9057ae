"""What is minimised and what is scored: a Problem is a model, a loss and batches."""

from .base import Batch, Scores, Task, TaskSettings
from .problem import Problem, build_problem
from .registry import TASKS

__all__ = ["TASKS", "Batch", "Problem", "Scores", "Task", "TaskSettings", "build_problem"]
