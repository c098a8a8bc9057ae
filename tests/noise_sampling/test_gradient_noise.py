"""Reference gradient and mini-batch noise, against formulas and against all of it computed at once."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from whyadam.noise.gradients import batch_noise, reference_gradient
from whyadam.noise.measure import NoiseDraw, gradient_noise


class SmallNetwork(nn.Module):
    """BatchNorm, dropout, and a parameter that no loss uses."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
        self.unused = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def cross_entropy(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    labels = batch["labels"]
    loss = functional.cross_entropy(model(batch["x"]), labels, ignore_index=-100, reduction="sum")
    return loss, (labels != -100).sum()


@pytest.fixture
def network() -> SmallNetwork:
    torch.manual_seed(0)
    return SmallNetwork()


def make_batch(examples: int, seed: int = 0) -> dict[str, Tensor]:
    """A third of the labels is ignored."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (examples,), generator=generator)
    labels[torch.rand(examples, generator=generator) < 1 / 3] = -100
    return {"x": torch.randn(examples, 5, generator=generator), "labels": labels}


def cut(batch: dict[str, Tensor], ends: list[int]) -> list[dict[str, Tensor]]:
    return [{name: value[a:b] for name, value in batch.items()} for a, b in zip([0, *ends], ends, strict=False)]


def test_the_reference_is_the_gradient_of_the_mean_over_all_terms(network: SmallNetwork) -> None:
    """Catches a mean of batch means: the batches differ in size and in how many labels count."""
    batch = make_batch(40)
    reference = reference_gradient(network, cross_entropy, cut(batch, [7, 8, 30, 40]), mode="eval")
    network.eval()
    total, count = cross_entropy(network, batch)
    whole = torch.autograd.grad(total / count, list(network.parameters()), allow_unused=True, materialize_grads=True)
    for ours, wanted in zip(reference, whole, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-7)


def test_micro_batches_change_nothing(network: SmallNetwork) -> None:
    batch = make_batch(40)
    reference = reference_gradient(network, cross_entropy, [make_batch(90, seed=1)], mode="eval")
    whole, parts = (
        next(batch_noise(network, cross_entropy, [micro_batches], reference, mode="eval"))
        for micro_batches in ([batch], cut(batch, [3, 20, 40]))
    )
    for ours, wanted in zip(parts, whole, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-7)


def test_noise_of_least_squares_follows_the_formula(least_squares: Any) -> None:
    """Sample by sample: the mean gradient of the batch's examples less that of all of them."""
    draw = NoiseDraw(least_squares, batch_size=6, micro_batch_size=4, seed=3)
    gradients = least_squares.example_gradients()
    reference = reference_gradient(least_squares.model, least_squares.loss, draw.reference("full"))
    torch.testing.assert_close(reference[0][0], gradients.mean(0), rtol=1e-12, atol=0)
    noise = batch_noise(least_squares.model, least_squares.loss, draw.mini_batches(12), reference)
    for passes, (sample,) in zip(draw.mini_batches(12), noise, strict=True):
        rows = [index for keys in passes.keys for _, index in keys]
        wanted = gradients[rows].mean(0) - gradients.mean(0)
        torch.testing.assert_close(sample[0, 0], wanted, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("batch_size", [3, 12])
def test_variance_is_that_of_a_sample_without_replacement(least_squares: Any, batch_size: int) -> None:
    """E‖g_B − ∇f‖² = tr Σ/B · (M − B)/(M − 1); catches examples drawn twice, and batches that depend on each other."""
    draw = NoiseDraw(least_squares, batch_size, None, seed=0)
    reference = reference_gradient(least_squares.model, least_squares.loss, draw.reference("full"))
    samples = 4000 // batch_size
    noise = batch_noise(least_squares.model, least_squares.loss, draw.mini_batches(samples), reference)
    variance = sum(float((sample**2).sum()) for (sample,) in noise) / samples
    gradients = least_squares.example_gradients()
    trace = float(((gradients - gradients.mean(0)) ** 2).sum(1).mean())
    size = len(gradients)
    assert variance == pytest.approx(trace / batch_size * (size - batch_size) / (size - 1), rel=0.08)


def test_noise_of_one_epoch_sums_to_zero(least_squares: Any) -> None:
    """Every example once, and the reference exactly in the middle."""
    draw = NoiseDraw(least_squares, batch_size=6, micro_batch_size=None, seed=1)
    reference = reference_gradient(least_squares.model, least_squares.loss, draw.reference("full"))
    samples = [
        sample for (sample,) in batch_noise(least_squares.model, least_squares.loss, draw.mini_batches(10), reference)
    ]
    assert torch.stack(samples).sum(0).abs().max() < 1e-12
    assert torch.stack(samples).abs().max() > 0.1


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_model_is_left_as_it_was(network: SmallNetwork, mode: Any) -> None:
    """Weights, gradients, running statistics, modes of single modules, and PyTorch's random stream."""
    network.train()
    network.layers[2].eval()
    total, count = cross_entropy(network, make_batch(10, seed=5))
    (total / count).backward()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    gradients = [None if p.grad is None else p.grad.clone() for p in network.parameters()]
    modes = [module.training for module in network.modules()]
    state = torch.get_rng_state()

    reference = reference_gradient(network, cross_entropy, [make_batch(30)], mode=mode)
    for _ in batch_noise(network, cross_entropy, [[make_batch(8)]] * 3, reference, mode=mode):
        assert torch.equal(torch.get_rng_state(), state)
        assert [module.training for module in network.modules()] == modes

    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(parameter.grad, gradient)
    assert [module.training for module in network.modules()] == modes


def test_train_mode_has_dropout_and_batch_statistics_and_eval_mode_has_not(network: SmallNetwork) -> None:
    batch = make_batch(20)

    def noise(mode: Any, seed: int) -> Tensor:
        zero = [torch.zeros_like(parameter) for parameter in network.parameters()]
        sample = next(batch_noise(network, cross_entropy, [[batch]], zero, mode=mode, seed=seed))
        return torch.cat([layer.flatten() for layer in sample])

    assert not torch.equal(noise("train", 0), noise("train", 1))
    assert torch.equal(noise("train", 0), noise("train", 0))
    assert torch.equal(noise("eval", 0), noise("eval", 1))
    assert not torch.allclose(noise("eval", 0), noise("train", 0))


def test_what_the_loss_does_not_use_and_what_is_frozen(network: SmallNetwork) -> None:
    """An unused parameter has noise zero; one without requires_grad has none."""
    network.layers[0].weight.requires_grad_(False)
    reference = reference_gradient(network, cross_entropy, [make_batch(30)])
    (sample,) = batch_noise(network, cross_entropy, [[make_batch(8)]], reference)
    shapes = [tuple(layer.shape) for layer in sample]
    assert shapes == [(1, 4), (1, 8), (1, 8), (1, 8), (1, 3, 8), (1, 3)]
    assert not sample[0].any()


def test_a_gradient_that_is_not_finite_is_refused(network: SmallNetwork) -> None:
    with torch.no_grad():
        network.layers[3].bias[0] = torch.nan
    with pytest.raises(FloatingPointError, match="finite"):
        reference_gradient(network, cross_entropy, [make_batch(8)])


def test_no_gradient_is_kept() -> None:
    """The number of parameter-sized tensors alive is the same at the third and at the thirtieth sample."""
    size = 12_345
    model = nn.Linear(size, 1, bias=False)
    alive: list[int] = []

    def batches() -> Iterator[list[dict[str, Tensor]]]:
        for number in range(30):
            if number in (2, 29):
                gc.collect()
                tensors = (thing for thing in gc.get_objects() if type(thing) in (Tensor, nn.Parameter))
                alive.append(sum(tensor.numel() == size for tensor in tensors))
            yield [{"x": torch.randn(2, size), "y": torch.randn(2)}]

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return ((model(batch["x"]).squeeze(1) - batch["y"]) ** 2).sum(), torch.tensor(2)

    reference = reference_gradient(model, loss, [{"x": torch.randn(4, size), "y": torch.randn(4)}])
    for _ in batch_noise(model, loss, batches(), reference):
        pass
    assert alive[0] == alive[1] > 0


def test_the_function_for_other_programs_gives_the_same(least_squares: Any) -> None:
    gradients = least_squares.example_gradients()
    parts = [list(range(start, start + 5)) for start in range(0, 60, 5)]
    batches = [least_squares.batch([(0, index) for index in part]) for part in parts]
    noise = gradient_noise(least_squares.model, least_squares.loss, batches, batches)
    wanted = torch.stack([gradients[part].mean(0) - gradients.mean(0) for part in parts])
    assert list(noise) == ["weight", "all"]
    torch.testing.assert_close(torch.from_numpy(noise["all"].coordinates), wanted, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(torch.from_numpy(noise["all"].norms), wanted.norm(dim=1), rtol=1e-10, atol=1e-14)
