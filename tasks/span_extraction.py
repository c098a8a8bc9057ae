"""Finding the first and the last token of an answer (Devlin et al. 2019, section 4.2)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.functional.text import squad

from ..models.settings import Head
from .context_pieces import ContextPieces
from .cross_entropy import summed_cross_entropy, widened
from .forward import forward
from .settings import Batch, Scores, Task


class SpanTask(Task):
    """One span a piece of a context; the answer to a question is the best span over all its pieces."""

    train: ContextPieces
    evaluation: ContextPieces

    def __init__(self, head: Head, train: ContextPieces, evaluation: ContextPieces, max_answer_length: int) -> None:
        self.head = head
        self.train = train
        self.evaluation = evaluation
        self.max_answer_length = max_answer_length

    def count(self, batch: Batch) -> Tensor:
        """The number of pieces."""
        positions: Tensor = batch["start_positions"]
        return torch.full((), len(positions), device=positions.device)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The mean of the cross-entropies of the first and the last token, summed over pieces, and their number."""
        return _loss_of(*_logits(model, batch), batch), self.count(batch)

    def tokens(self, batch: Batch) -> int:
        """The number of tokens that are no padding."""
        return int(batch["attention_mask"].sum())

    @torch.no_grad()
    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> Scores:
        """Mean loss of the pieces; exact match and F1 of the best answers against all accepted ones.

        Only questions of which all pieces are there are scored: a limit may end between two pieces of a question.
        """
        losses, spans = [], []
        for batch in batches:
            start_logits, end_logits = _logits(model, batch)
            losses.append(_loss_of(start_logits, end_logits, batch))
            score, start, end = best_spans(start_logits, end_logits, batch["context_mask"], self.max_answer_length)
            spans.append((batch["piece"], score, start, end))
        if not spans:
            raise ValueError("evaluation: there is no question to score")
        pieces, scores, starts, ends = (torch.cat(column).tolist() for column in zip(*spans, strict=True))

        answers: dict[int, tuple[float, str]] = {}
        for piece, score, start, end in zip(pieces, scores, starts, ends, strict=True):
            question = self.evaluation.pieces[piece].question
            if question not in answers or score > answers[question][0]:
                answers[question] = score, self.evaluation.text(piece, start, end)
        missing = {piece.question for piece in self.evaluation.pieces[max(pieces) + 1 :]}
        whole = {question: text for question, (_, text) in answers.items() if question not in missing}
        exact_match, f1 = self._compare(whole) if whole else (None, None)
        return Scores(sum(torch.stack(losses).tolist()) / len(pieces), exact_match=exact_match, f1=f1)

    def _compare(self, answers: dict[int, str]) -> tuple[float, float]:
        """Exact match and F1, in [0, 1], of the answers given to questions, by index."""
        given, accepted = [], []
        for index, text in answers.items():
            question = self.evaluation.questions[index]
            given.append({"id": str(index), "prediction_text": text})
            known = {"text": list(question.answers), "answer_start": list(question.answer_starts)}
            accepted.append({"id": str(index), "answers": known})
        percent = squad(given, accepted)
        return float(percent["exact_match"]) / 100, float(percent["f1"]) / 100


def best_spans(
    start_logits: Tensor, end_logits: Tensor, context_mask: Tensor, max_answer_length: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The span with the highest sum of start and end logit in each piece, among those that lie in the context.

    Args:
        start_logits: ``[pieces, tokens]``.
        end_logits: ``[pieces, tokens]``.
        context_mask: bool ``[pieces, tokens]``, true on the context.
        max_answer_length: the longest span in tokens.

    Returns:
        The sums, the first positions and the last positions, each ``[pieces]``.
    """
    starts = start_logits.masked_fill(~context_mask, -torch.inf)
    ends = end_logits.masked_fill(~context_mask, -torch.inf)
    ends = functional.pad(ends, (0, max_answer_length - 1), value=-torch.inf)
    # sums[piece, i, j] is the score of the span from token i to token i + j.
    sums = starts.unsqueeze(2) + ends.unfold(1, max_answer_length, 1)
    score, place = sums.flatten(start_dim=1).max(dim=1)
    start = place // max_answer_length
    return score, start, start + place % max_answer_length


def _logits(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Start and end logits; no answer lies on padding, so a piece's loss does not depend on how far it is padded."""
    output = forward(model, batch)
    padding = batch["attention_mask"] == 0
    start_logits, end_logits = widened(output.start_logits), widened(output.end_logits)
    lowest = torch.finfo(start_logits.dtype).min
    return start_logits.masked_fill(padding, lowest), end_logits.masked_fill(padding, lowest)


def _loss_of(start_logits: Tensor, end_logits: Tensor, batch: Batch) -> Tensor:
    start = summed_cross_entropy(start_logits, batch["start_positions"])
    end = summed_cross_entropy(end_logits, batch["end_positions"])
    return (start + end) / 2
