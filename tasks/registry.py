"""The tasks a config may name; a new one is one file with a settings class, and one line here."""

from __future__ import annotations

from ..settings import Registry
from .base import TaskSettings
from .causal_lm import CausalLM
from .classification import Classification
from .masked_lm import MaskedLM
from .quadratic import Quadratic
from .question_answering import QuestionAnswering

TASKS: Registry[TaskSettings] = Registry("task", [Classification, CausalLM, MaskedLM, QuestionAnswering, Quadratic])
