"""What the sources of questions have in common: one tokenizer for texts and questions."""

from __future__ import annotations

from .settings import Question, Questions
from .text import Documents, TokenizedSettings


def with_tokenizer(
    settings: TokenizedSettings, train: list[Question], evaluation: list[Question], source: str
) -> Questions:
    """The questions with a tokenizer trained on the texts and questions of the training part.

    Args:
        settings: which tokenizer.
        train: questions to train on.
        evaluation: questions held out.
        source: what an error message calls where they come from.
    """
    from .tokenizers import load_tokenizer, use_one_thread

    tokenizer = load_tokenizer(settings, _documents(train, f"the training part of {source}"))
    use_one_thread()
    return Questions(train, evaluation, tokenizer)


def _documents(questions: list[Question], source: str) -> Documents:
    """Every context once, and every question."""
    from .cache import content_digest

    texts = list(dict.fromkeys(text for question in questions for text in (question.context, question.question)))
    return Documents(source, content_digest(*texts), lambda: texts)
