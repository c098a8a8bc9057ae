"""Every task on the smallest real model that does it: what training, noise and curvature ask of a loss."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from whyadam.data.base import Images, Question, Questions, Text
from whyadam.data.tokenization import Tokenizer
from whyadam.models import MODELS
from whyadam.tasks import TASKS, Task
from whyadam.tasks.cross_entropy import IGNORED, summed_cross_entropy

SMALL = {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 32, "dropout": 0.0, "attention": "eager"}
MODEL_OF = {
    "classification": ("mlp", {"hidden": [8]}),
    "causal_lm": ("gpt2_nano", SMALL),
    "masked_lm": ("bert_nano", SMALL),
    "question_answering": ("bert_nano", SMALL),
}
QUESTIONS = {"max_length": 20, "stride": 5}


@pytest.fixture
def twelve(ask: Callable[..., Question], word_tokenizer: Tokenizer) -> Questions:
    """Questions about contexts of 5 to 16 words, which give one or two chunks each."""
    asked = [ask(number, 5 + number, 1 + number % 3, 2) for number in range(12)]
    return Questions(asked, asked, word_tokenizer)


@pytest.fixture(params=list(MODEL_OF))
def problem(request: pytest.FixtureRequest, images: Images, text: Text, twelve: Questions) -> tuple[Task, nn.Module]:
    """A task and its model in float64."""
    settings = TASKS[request.param].model_validate(QUESTIONS if request.param == "question_answering" else {})
    task = settings.bind({"images": images, "text": text, "questions": twelve}[settings.kind], seed=0)
    name, sizes = MODEL_OF[request.param]
    torch.manual_seed(0)
    return task, MODELS[name].model_validate(sizes).build(task.head).double().eval()


def batch_of(task: Task, indices: range) -> dict[str, Tensor]:
    batch = task.train.batch([(0, index) for index in indices])
    return {name: value.double() if value.is_floating_point() else value for name, value in batch.items()}


def mean_loss(task: Task, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    loss, count = task.loss(model, batch)
    return loss / count


def test_one_gradient_step_lowers_the_loss(problem: tuple[Task, nn.Module]) -> None:
    task, model = problem
    batch = batch_of(task, range(12))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    before = mean_loss(task, model, batch)
    before.backward()
    optimizer.step()
    assert mean_loss(task, model, batch) < before


@pytest.mark.parametrize("sizes", [(1, 11), (5, 4, 3), (2,) * 6])
def test_micro_batches_add_up_to_the_whole_batch(problem: tuple[Task, nn.Module], sizes: tuple[int, ...]) -> None:
    """Catches losses averaged per micro-batch, where a token weighs more the fewer there are, and loss on padding."""
    task, model = problem
    weights = list(model.parameters())
    whole = torch.autograd.grad(mean_loss(task, model, batch_of(task, range(12))), weights)

    first, total, summed = 0, 0, [torch.zeros_like(weight) for weight in weights]
    for size in sizes:
        loss, count = task.loss(model, batch_of(task, range(first, first + size)))
        gradients = torch.autograd.grad(loss, weights)
        summed = [old + new for old, new in zip(summed, gradients, strict=True)]
        first, total = first + size, total + int(count)
    for expected, gradient in zip(whole, summed, strict=True):
        torch.testing.assert_close(gradient / total, expected, rtol=1e-6, atol=1e-12)


def test_the_examples_are_uneven(twelve: Questions) -> None:
    """Without this, the test above could not see padding."""
    answered = TASKS["question_answering"].model_validate(QUESTIONS).bind(twelve, seed=0)
    assert len({batch_of(answered, range(i, i + 2))["input_ids"].shape for i in range(0, 12, 2)}) > 1


def test_the_head_of_bert_is_applied_to_hidden_tokens_alone(text: Text) -> None:
    """It saves most of the head's work; catches logits of the wrong tokens, and a model that computes all of them."""
    task = TASKS["masked_lm"]().bind(text, seed=0)
    torch.manual_seed(0)
    model = MODELS["bert_nano"].model_validate(SMALL).build(task.head).double().eval()
    batch = batch_of(task, range(6))
    heads: list[tuple[int, ...]] = []
    model.cls.register_forward_hook(lambda head, inputs, logits: heads.append(tuple(logits.shape)))
    loss, count = task.loss(model, batch)
    assert heads == [(*batch["labels"].shape, task.head.outputs)]
    logits = model(batch["input_ids"]).logits
    labels = torch.full_like(batch["input_ids"], IGNORED).scatter(1, batch["positions"], batch["labels"])
    torch.testing.assert_close(loss, summed_cross_entropy(logits, labels))
    assert count == (labels != IGNORED).sum()


def test_gradients_of_single_examples_add_up(problem: tuple[Task, nn.Module]) -> None:
    """The measurement of noise takes them by torch.func; catches a loss that vmap cannot trace."""
    task, model = problem
    weights = dict(model.named_parameters())
    batch = batch_of(task, range(6))

    def loss_of_one(weights: dict[str, Tensor], example: dict[str, Tensor]) -> Tensor:
        one = {name: value.unsqueeze(0) for name, value in example.items()}
        return task.loss(lambda *args, **kwargs: functional_call(model, weights, args, kwargs), one)[0]  # type: ignore[arg-type]

    gradients = vmap(grad(loss_of_one), in_dims=(None, 0))(weights, batch)
    whole = torch.autograd.grad(task.loss(model, batch)[0], list(weights.values()))
    for expected, gradient in zip(whole, gradients.values(), strict=True):
        torch.testing.assert_close(gradient.sum(0), expected, rtol=1e-6, atol=1e-10)


def test_hessian_vector_products_are_differences_of_gradients(problem: tuple[Task, nn.Module]) -> None:
    """Catches a loss without a second derivative, or with a wrong one where logits are masked."""
    task, model = problem
    batch, step = batch_of(task, range(6)), 1e-6
    weights = list(model.parameters())
    generator = torch.Generator().manual_seed(0)
    vector = [torch.randn(weight.shape, generator=generator, dtype=weight.dtype) for weight in weights]
    gradient = torch.autograd.grad(mean_loss(task, model, batch), weights, create_graph=True)
    products = torch.autograd.grad(gradient, weights, grad_outputs=vector)

    def gradient_at(distance: float) -> tuple[Tensor, ...]:
        with torch.no_grad():
            for weight, direction in zip(weights, vector, strict=True):
                weight.add_(direction, alpha=distance)
        found = torch.autograd.grad(mean_loss(task, model, batch), weights)
        with torch.no_grad():
            for weight, direction in zip(weights, vector, strict=True):
                weight.sub_(direction, alpha=distance)
        return found

    for product, ahead, behind in zip(products, gradient_at(step), gradient_at(-step), strict=True):
        torch.testing.assert_close(product, (ahead - behind) / (2 * step), rtol=1e-4, atol=1e-6)


def test_scores_do_not_depend_on_the_batch_size(problem: tuple[Task, nn.Module]) -> None:
    task, model = problem
    model.float()
    examples = len(task.evaluation)

    def scores(size: int) -> tuple[float | None, ...]:
        cuts = [range(i, min(i + size, examples)) for i in range(0, examples, size)]
        found = task.evaluate(model, (task.evaluation.batch([(0, i) for i in cut]) for cut in cuts))
        return found.loss, found.perplexity, found.accuracy, found.exact_match, found.f1

    for one, other in zip(scores(5), scores(1000), strict=True):
        assert one == (other if other is None else pytest.approx(other, rel=1e-5))
