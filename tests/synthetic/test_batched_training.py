"""Many models trained at once are those trained alone; noise layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from whyadam.configs.load import parse_experiment
from whyadam.data import DATA
from whyadam.data.batches import BatchOrder
from whyadam.data.noise_laws import AlphaStable, Gaussian, NoiseLaw
from whyadam.models import MODELS, Head
from whyadam.optimizers import OPTIMIZERS, build_optimizer
from whyadam.synthetic.batched_training import LayerNoise, ManyModels, ManyOptimizer, Start, Training, start, train_many
from whyadam.training.run import run_experiment

CLASSES, SIZE, EXAMPLES = 4, 2, 20

RULES: list[dict[str, Any]] = [
    {"name": "sgd", "momentum": 0.9},
    {"name": "sgd", "momentum": 0.5, "nesterov": True},
    {"name": "adam"},
    {"name": "signum", "lr": 1},
    {"name": "cclip", "lr": 1, "clip": 0.02, "momentum": 0.9},
    {"name": "gclip", "lr": 1, "clip": 0.1, "momentum": 0.9},
    {"name": "acclip", "alpha": 1.5},
    {"name": "acclip_rms"},
]
MODEL_SETTINGS: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": (5,)},
    "scaled_mlp": {"hidden": (5,), "contrast": 3.0},
    "vit_nano": {"n_layer": 1, "n_embd": 8, "n_head": 1, "patch_size": 1, "attention": "eager"},
}


def begin(seed: int, model: str = "mlp") -> Start:
    torch.manual_seed(seed)
    head = Head("classification", CLASSES, SIZE)
    network = MODELS[model].model_validate(MODEL_SETTINGS[model]).build(head).double()
    inputs = torch.randn(EXAMPLES, 3, SIZE, SIZE, dtype=torch.float64)
    return Start(seed, network, inputs, torch.randint(CLASSES, (EXAMPLES,)))


def rule(settings: dict[str, Any]) -> Any:
    return OPTIMIZERS[settings["name"]].model_validate(settings)


def plain_run(begun: Start, settings: dict[str, Any], lr: float, training: Training) -> Tensor:
    """The losses of one model, trained by an ordinary loop."""
    model = type(begun.model)(*begun.model) if isinstance(begun.model, nn.Sequential) else begun.model
    optimizer = build_optimizer(rule(settings | {"lr": lr}), model.named_parameters())
    order = BatchOrder(EXAMPLES, training.batch_size or "full", begun.seed)
    for step in range(training.steps):
        indices = torch.tensor([index for _, index in order.keys(step)]) if training.batch_size else slice(None)
        optimizer.zero_grad()
        cross_entropy(model(begun.inputs[indices]), begun.labels[indices]).backward()
        optimizer.param_groups[0]["lr"] = lr * (1 - step / training.steps)
        optimizer.step()
    with torch.no_grad():
        return cross_entropy(model(begun.inputs), begun.labels, reduction="none")


@pytest.mark.parametrize("settings", RULES, ids=lambda settings: "-".join(map(str, settings.values())))
@pytest.mark.parametrize("batch_size", [None, 6])
def test_each_run_ends_as_it_does_alone(settings: dict[str, Any], batch_size: int | None) -> None:
    """A norm over the whole stack, a learning rate of a neighbour or another seed's batches would show here."""
    rates, training = [0.05, 0.2], Training(12, batch_size)
    found = train_many([begin(seed) for seed in range(3)], rule(settings), rates, training)
    for i, lr in enumerate(rates):
        for seed in range(3):
            alone = plain_run(begin(seed), settings, lr, training)
            torch.testing.assert_close(found[i, seed], alone, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("model", ["scaled_mlp", "vit_nano"])
def test_other_architectures_end_as_they_do_alone(model: str) -> None:
    """A fixed factor that is shared by all models, or attention that vmap computes wrongly."""
    training = Training(5, 6)
    found = train_many([begin(seed, model) for seed in range(2)], rule({"name": "adam"}), [0.01, 0.1], training)
    for i, lr in enumerate([0.01, 0.1]):
        for seed in range(2):
            alone = plain_run(begin(seed, model), {"name": "adam"}, lr, training)
            torch.testing.assert_close(found[i, seed], alone, rtol=1e-7, atol=1e-9)


def test_a_diverged_run_leaves_its_neighbours_alone() -> None:
    starts, sgd = [begin(0), begin(1)], rule({"name": "sgd"})
    with_diverged = train_many(starts, sgd, [0.1, 1e30], Training(6))
    assert not with_diverged[1].isfinite().all()
    torch.testing.assert_close(with_diverged[0], train_many(starts, sgd, [0.1], Training(6))[0], rtol=0, atol=0)


def test_starts_are_left_as_they_are() -> None:
    """Else the second rule of a comparison would begin where the first ended."""
    begun = begin(0)
    before = [value.clone() for value in begun.model.parameters()]
    train_many([begun], rule({"name": "sgd"}), [1.0], Training(3))
    assert all(torch.equal(*pair) for pair in zip(before, begun.model.parameters(), strict=True))


def test_models_keep_buffers_of_their_own() -> None:
    """The perceptron's contrast is a buffer: shared, all models would have the first one's."""
    head = Head("classification", CLASSES, SIZE)
    build = MODELS["scaled_mlp"].model_validate
    models = [build({"hidden": (5,), "contrast": contrast}).build(head).double() for contrast in (1.0, 4.0)]
    inputs = torch.randn(EXAMPLES, 3, SIZE, SIZE, dtype=torch.float64)
    labels = torch.zeros(EXAMPLES, dtype=torch.int64)
    losses = ManyModels(models).example_losses(inputs.expand(2, *inputs.shape), labels.expand(2, -1))
    for model, found in zip(models, losses, strict=True):
        torch.testing.assert_close(found, cross_entropy(model(inputs), labels, reduction="none"))


def test_start_is_that_of_a_config_with_the_seed() -> None:
    """The same seed gives the same weights and examples; another seed, other weights."""
    model = MODELS["mlp"].model_validate({"hidden": (3,)})
    data = DATA["zipf"].model_validate({"image_size": 2, "classes": 3, "examples": 9, "evaluation_examples": 9})
    first, again, other = start(model, data, 5), start(model, data, 5), start(model, data, 6)
    assert first.inputs.shape == (9, 3, 2, 2)
    assert torch.equal(first.inputs, again.inputs)
    weights = [next(begun.model.parameters()) for begun in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "adam", "weight_decay": 0.1}, "^optimizer.weight_decay: must be 0"),
        ({"name": "normalized_sgd", "lr": 1}, "^optimizer.name: normalized_sgd cannot"),
    ],
)
def test_what_cannot_be_stacked_is_refused(settings: dict[str, Any], message: str) -> None:
    """Weight decay would silently do nothing, and a norm over the stack would mix the models."""
    with pytest.raises(ValueError, match=message):
        ManyOptimizer(rule(settings), {"w": torch.zeros(2, 3)}, torch.ones(2))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_run_of_a_stack_is_that_of_the_command(optimizer: str, tmp_path: Path) -> None:
    """Same weights, batches and schedule as ``whyadam train`` with the same settings and seed."""
    config = {
        "name": "same",
        "seed": 7,
        "model": {"name": "scaled_mlp", "hidden": [6], "contrast": 2.0},
        "data": {"name": "zipf", "image_size": 2, "classes": 3, "examples": 40, "evaluation_examples": 20},
        "task": {"name": "classification"},
        "optimizer": {"name": optimizer, "lr": 0.1},
        "schedule": {"name": "linear"},
        "training": {"steps": 12, "batch_size": 8},
    }
    experiment = parse_experiment(config, "test")
    folder = run_experiment(experiment, tmp_path).folder
    begun = start(experiment.model, experiment.data, 7)
    found = train_many([begun], experiment.optimizer, [0.01, 0.1], Training(12, 8))[1, 0]
    checkpoint = torch.load(next(folder.checkpoints.glob("*12.pt")), weights_only=True)
    begun.model.load_state_dict(checkpoint["model"])
    losses = cross_entropy(begun.model(begun.inputs), begun.labels, reduction="none")
    torch.testing.assert_close(found, losses.detach(), rtol=1e-4, atol=1e-5)


def gradients(models: int, size: int = 2000) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, size, generator=generator, dtype=torch.float64)
    return {"a": a.expand(models, -1), "b": 100 * b.view(-1, 2).expand(models, -1, -1)}


@pytest.mark.parametrize("law", [Gaussian(), AlphaStable(alpha=1.5)])
def test_median_norm_of_the_noise_is_the_ratio_of_each_layers_gradient(law: NoiseLaw) -> None:
    """Scaled by the norm of all layers together, the small layer would drown."""
    clean = gradients(1, 500)
    noise = LayerNoise(law, ratio=0.5)
    steps = [noise.added(clean, [3], step) for step in range(200)]
    for name, gradient in clean.items():
        ratios = torch.stack([(noisy[name] - gradient).norm() / gradient.norm() for noisy in steps])
        assert float(ratios.median()) == pytest.approx(0.5, rel=0.15)


def test_noise_is_that_of_the_seed_and_the_step() -> None:
    """Runs that are compared must meet the same noise, runs that are averaged must not."""
    noise, clean = LayerNoise(Gaussian(), 1.0), gradients(4)
    first = noise.added(clean, [1, 2], step=0)["a"]
    assert torch.equal(first[:2], first[2:])  # two copies of the two seeds
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first, noise.added(clean, [1, 2], step=0)["a"])
    assert not torch.equal(first, noise.added(clean, [1, 2], step=1)["a"])
    assert torch.equal(first[1], noise.added(gradients(1), [2], step=0)["a"][0])


def test_a_layer_written_in_other_units_has_the_same_noise_in_those_units() -> None:
    """So the perceptron's contrast does not change how noisy its gradients are."""
    noise, clean = LayerNoise(AlphaStable(alpha=1.5), 1.0), gradients(1)
    scaled = {"a": 8 * clean["a"], "b": clean["b"] / 8}
    one, other = noise.added(clean, [0], step=0), noise.added(scaled, [0], step=0)
    torch.testing.assert_close(other["a"], 8 * one["a"])
    torch.testing.assert_close(other["b"], one["b"] / 8)
