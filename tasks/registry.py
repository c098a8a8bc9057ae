"""The tasks a config may name; a new one is one file with a settings class, and one line here."""

from __future__ import annotations

from ..registry import Registry
from .causal_lm import CausalLM
from .classification import Classification
from .masked_lm import MaskedLM
from .quadratic import Quadratic
from .question_answering import QuestionAnswering
from .settings import TaskSettings

TASKS: Registry[TaskSettings] = Registry("task", [Classification, CausalLM, MaskedLM, QuestionAnswering, Quadratic])
