"""The loss and the scores that classification and language models share."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from whyadam.data.base import Images, Text
from whyadam.models.base import Head
from whyadam.tasks import TASKS, Task
from whyadam.tasks.cross_entropy import IGNORED, CrossEntropyTask, summed_cross_entropy

NAMES = ["classification", "causal_lm", "masked_lm"]


@pytest.fixture(params=NAMES)
def problem(request: pytest.FixtureRequest, images: Images, text: Text) -> tuple[Task, nn.Module]:
    """Each task with a model for it, in float64 where the model has weights."""
    if request.param == "classification":
        return TASKS["classification"]().bind(images, seed=0), request.getfixturevalue("classifier").double()
    return TASKS[request.param]().bind(text, seed=0), request.getfixturevalue("language_model").double()


def keys(indices: range) -> list[tuple[int, int]]:
    return [(0, index) for index in indices]


def batch_of(task: Task, indices: range) -> dict[str, Tensor]:
    batch = task.train.batch(keys(indices))
    return {name: value.double() if value.is_floating_point() else value for name, value in batch.items()}


def logits_of(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """The logits of what has a label, picked out row by row where those are chosen tokens."""
    if "images" in batch:
        return model(batch["images"])
    logits = model(batch["input_ids"]).logits
    if "positions" not in batch:
        return logits
    return torch.stack([row[places] for row, places in zip(logits, batch["positions"], strict=True)])


def by_hand(logits: Tensor, labels: Tensor, smoothing: float) -> float:
    """Cross-entropy written out label by label in float64."""
    total = 0.0
    for row, label in zip(logits.double().reshape(-1, logits.shape[-1]), labels.flatten().tolist(), strict=True):
        if label == IGNORED:
            continue
        log_normaliser = math.log(sum(math.exp(value) for value in row.tolist()))
        target = [smoothing / len(row)] * len(row)
        target[label] += 1 - smoothing
        total += sum(weight * (log_normaliser - value) for weight, value in zip(target, row.tolist(), strict=True))
    return total


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_summed_cross_entropy_is_the_formula(smoothing: float) -> None:
    logits = torch.randn(3, 4, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([[0, 6, IGNORED, 2], [IGNORED] * 4, [1, 1, 5, IGNORED]])
    assert summed_cross_entropy(logits, labels, smoothing).item() == pytest.approx(by_hand(logits, labels, smoothing))


def test_sum_over_many_half_precision_logits_is_not_rounded_to_half_precision() -> None:
    """A bf16 sum of 10,000 equal terms stalls near 256 of them."""
    logits = torch.zeros(10_000, 8, dtype=torch.bfloat16)
    loss = summed_cross_entropy(logits, torch.zeros(10_000, dtype=torch.long))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(10_000 * math.log(8), rel=1e-5)


def test_loss_of_each_task_is_the_formula(problem: tuple[Task, nn.Module]) -> None:
    """Catches logits and labels that are paired one off, or a count that is not the number of terms."""
    task, model = problem
    batch = batch_of(task, range(6))
    logits = logits_of(model, batch)
    loss, count = task.loss(model, batch)
    assert loss.item() == pytest.approx(by_hand(logits, batch["labels"], 0.0))
    assert count.item() == sum(label != IGNORED for label in batch["labels"].flatten().tolist())
    assert count.dtype == torch.int64


@pytest.mark.parametrize("size", [1, 5, 100])
def test_scores_do_not_depend_on_the_batch_size(problem: tuple[Task, nn.Module], size: int) -> None:
    """Catches means of batch means: the last batch is shorter than the others."""
    task, model = problem
    model.float()
    examples = len(task.evaluation)
    assert examples % 5
    batches = [task.evaluation.batch(keys(range(i, min(i + size, examples)))) for i in range(0, examples, size)]
    scores = task.evaluate(model, iter(batches))

    whole = task.evaluation.batch(keys(range(examples)))
    logits = logits_of(model, whole)
    scored = whole["labels"] != IGNORED
    assert scores.loss == pytest.approx(by_hand(logits, whole["labels"], 0.0) / int(scored.sum()), rel=1e-5)
    right = (logits.argmax(-1) == whole["labels"])[scored]
    assert scores.accuracy == pytest.approx(right.double().mean().item(), abs=1e-12)
    assert scores.exact_match is None
    assert scores.f1 is None


def test_only_language_models_have_a_perplexity(problem: tuple[Task, nn.Module]) -> None:
    task, model = problem
    scores = task.evaluate(model.float(), [task.evaluation.batch(keys(range(4)))])
    if task.head.task == "classification":
        assert scores.perplexity is None
    else:
        assert scores.perplexity == pytest.approx(math.exp(scores.loss))


def test_a_huge_loss_has_an_infinite_perplexity(text: Text) -> None:
    """Catches an OverflowError of math.exp, which would end a diverging run as failed."""

    def hopeless(input_ids: Tensor) -> Tensor:
        logits = torch.zeros(*input_ids.shape, 40)
        logits[..., 0] = 1e4
        return logits

    task = TASKS["causal_lm"]().bind(text, seed=0)
    assert task.evaluate(hopeless, [task.evaluation.batch(keys(range(3)))]).perplexity == math.inf  # type: ignore[arg-type]


def test_evaluation_leaves_no_graph_behind(problem: tuple[Task, nn.Module]) -> None:
    """Catches evaluation that keeps the activations of every batch alive."""
    task, model = problem
    model.float()
    seen: list[bool] = []
    model.register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    task.evaluate(model, [task.evaluation.batch(keys(range(3)))])
    assert seen == [False]
    assert torch.is_grad_enabled()


def test_label_smoothing_reaches_the_loss(images: Images, classifier: nn.Module) -> None:
    task = TASKS["classification"].model_validate({"label_smoothing": 0.2}).bind(images, seed=0)
    batch = task.train.batch(keys(range(6)))
    expected = by_hand(classifier(batch["images"]), batch["labels"], 0.2)
    assert task.loss(classifier, batch)[0].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", [(6, 4), (6, 3, 5), (5, 5)])
def test_logits_that_do_not_fit_are_one_line(images: Images, shape: tuple[int, ...]) -> None:
    """On a GPU a label beyond the logits would abort the process without a word."""
    task = TASKS["classification"]().bind(images, seed=0)
    with pytest.raises(ValueError, match=r"^the model's logits have shape \[.*\]; classification needs \[6, 5\]$"):
        task.loss(lambda _: torch.zeros(shape), task.train.batch(keys(range(6))))  # type: ignore[arg-type]


def test_evaluating_nothing_is_refused(images: Images, classifier: nn.Module) -> None:
    task = CrossEntropyTask(Head("classification", 5, 4), images.train, images.evaluation)
    with pytest.raises(ValueError, match="no label to score"):
        task.evaluate(classifier, [])


def test_tokens_are_counted_for_text_only(problem: tuple[Task, nn.Module]) -> None:
    task, _ = problem
    assert task.tokens(batch_of(task, range(3))) == (0 if task.head.task == "classification" else 3 * 16)


def test_losses_by_class_are_those_of_each_label(problem: tuple[Task, nn.Module]) -> None:
    """Catches losses that are counted for another class, and ignored labels that are counted."""
    task, model = problem
    assert isinstance(task, CrossEntropyTask)
    batches = [batch_of(task, range(3)), batch_of(task, range(3, 5))]
    losses, counts = task.losses_by_class(model, iter(batches))
    for label in range(task.head.outputs):
        rows = [
            (logits_of(model, batch).reshape(-1, task.head.outputs), batch["labels"].flatten() == label)
            for batch in batches
        ]
        assert counts[label] == sum(int(chosen.sum()) for _, chosen in rows)
        if counts[label]:
            expected = sum(
                by_hand(logits[chosen], torch.full((int(chosen.sum()),), label), 0.0) for logits, chosen in rows
            )
            assert losses[label].item() == pytest.approx(expected, rel=1e-9)
    assert counts.sum() == sum(int(task.count(batch)) for batch in batches)


def test_the_evaluation_loss_has_no_label_smoothing_in_it(images: Images, classifier: nn.Module) -> None:
    """So that runs with and without it can be compared; cross-entropy written out by hand."""
    task = TASKS["classification"].model_validate({"label_smoothing": 0.5}).bind(images, seed=0)
    batch = task.evaluation.batch(keys(range(17)))
    scores = task.evaluate(
        classifier, [task.evaluation.batch(keys(range(9))), task.evaluation.batch(keys(range(9, 17)))]
    )
    assert scores.loss == pytest.approx(by_hand(classifier(batch["images"]), batch["labels"], 0.0) / 17, rel=1e-5)
    assert scores.loss != pytest.approx(by_hand(classifier(batch["images"]), batch["labels"], 0.5) / 17, rel=1e-2)
