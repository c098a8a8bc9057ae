"""Masks, second derivatives and per-example gradients."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from whyadam.models.modules import additive_mask

LANGUAGE = ["gpt2", "bert", "bert answers"]
ATTENTIONS = ["eager", "sdpa"]


def evaluation_model(tiny) -> nn.Module:
    """In float64, dropout off, and moved off the points where an initialisation of zero hides a derivative."""
    model = tiny.build().double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def mean_loss(tiny, model: nn.Module) -> Tensor:
    logits = tiny.logits(model).flatten(0, -2)
    return cross_entropy(logits, torch.arange(len(logits)) % logits.shape[-1])


def hessian_vector_product(tiny, model: nn.Module, direction: list[Tensor]) -> list[Tensor]:
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(mean_loss(tiny, model), parameters, create_graph=True)
    return list(torch.autograd.grad(gradients, parameters, direction))


def difference_of_gradients(tiny, model: nn.Module, direction: list[Tensor], step: float) -> list[Tensor]:
    parameters = list(model.parameters())
    gradients = []
    for move in (step, -2 * step):
        with torch.no_grad():
            for parameter, change in zip(parameters, direction, strict=True):
                parameter.add_(change, alpha=move)
        gradients.append(torch.autograd.grad(mean_loss(tiny, model), parameters))
    return [(ahead - behind) / (2 * step) for ahead, behind in zip(*gradients, strict=True)]


def assert_second_derivative_is_right(tiny) -> None:
    model = evaluation_model(tiny)
    direction = [torch.randn_like(parameter) for parameter in model.parameters()]
    norm = torch.cat([part.flatten() for part in direction]).norm()
    direction = [part / norm for part in direction]
    product = torch.cat([part.flatten() for part in hessian_vector_product(tiny, model, direction)])
    reference = torch.cat([part.flatten() for part in difference_of_gradients(tiny, model, direction, 1e-5)])
    assert product.norm() > 1e-6
    assert (product - reference).norm() < 1e-6 * reference.norm()


def test_hessian_vector_product_equals_a_difference_of_gradients(tiny, tiny_named, request) -> None:
    """Fused attention has no second derivative; an eager model must not come upon it anywhere."""
    if hasattr(tiny.settings, "attention"):
        tiny = tiny_named(request.node.callspec.params["tiny"], attention="eager")
    assert_second_derivative_is_right(tiny)


@pytest.mark.parametrize("name", ["vit", *LANGUAGE])
def test_torchs_math_kernel_gives_a_model_with_sdpa_its_second_derivative(tiny_named, name: str) -> None:
    """What curvature may rely on for a model that trains with fused attention, without building it anew."""
    with sdpa_kernel(SDPBackend.MATH):
        assert_second_derivative_is_right(tiny_named(name))


@pytest.mark.parametrize("name", ["vit", *LANGUAGE])
def test_eager_and_fused_attention_are_the_same_function(tiny_named, name: str) -> None:
    models = [evaluation_model(tiny_named(name, attention=attention)) for attention in ATTENTIONS]
    eager, fused = (tiny_named(name).logits(model) for model in models)
    torch.testing.assert_close(eager, fused, rtol=1e-9, atol=1e-12)


def test_eager_vit_drops_attention_weights() -> None:
    """Asking for the weights takes another path through torch, which must not lose the dropout."""
    from whyadam.models.modules import attend_eagerly

    attention = nn.MultiheadAttention(8, 2, dropout=0.5)
    attend_eagerly(attention)
    tokens = torch.randn(4, 3, 8)
    outputs = [attention(tokens, tokens, tokens, need_weights=False)[0] for _ in range(2)]
    assert not torch.equal(*outputs)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("name", LANGUAGE)
def test_masks_mean_what_they_mean_to_transformers(tiny_named, name: str, attention: str) -> None:
    """Our additive mask against the library's own handling of the 2-D mask, on the same weights."""
    tiny = tiny_named(name, attention=attention)
    ours = evaluation_model(tiny)
    stock = type(ours)(copy.deepcopy(ours.config)).double().eval()
    stock.load_state_dict(ours.state_dict())
    real = tiny.batch["attention_mask"].bool()
    torch.testing.assert_close(tiny.logits(ours)[real], tiny.logits(stock)[real], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("name", LANGUAGE)
def test_no_mask_is_a_mask_of_ones(tiny_named, name: str, attention: str) -> None:
    tiny = tiny_named(name, attention=attention)
    model = evaluation_model(tiny)
    ids = tiny.batch["input_ids"]
    without = tiny.logits(model, {"input_ids": ids})
    with_ones = tiny.logits(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    torch.testing.assert_close(without, with_ones, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", LANGUAGE)
def test_padding_is_not_looked_at(tiny_named, name: str) -> None:
    tiny = tiny_named(name)
    model = evaluation_model(tiny)
    real = tiny.batch["attention_mask"].bool()
    other = torch.where(real, tiny.batch["input_ids"], (tiny.batch["input_ids"] + 1) % tiny.head.outputs)
    before, after = (
        tiny.logits(model, {**tiny.batch, "input_ids": ids})[real] for ids in (other, tiny.batch["input_ids"])
    )
    assert torch.equal(before, after)


def test_gpt2_does_not_look_ahead(tiny_named) -> None:
    tiny = tiny_named("gpt2")
    model = evaluation_model(tiny)
    ids = tiny.batch["input_ids"].clone()
    before = tiny.logits(model)
    ids[:, 3:] = (ids[:, 3:] + 1) % tiny.head.outputs
    after = tiny.logits(model, {**tiny.batch, "input_ids": ids})
    torch.testing.assert_close(before[:, :3], after[:, :3], rtol=0, atol=1e-12)
    assert not torch.allclose(before[0, 3:], after[0, 3:])


def test_additive_mask_by_hand() -> None:
    low = torch.finfo(torch.float32).min
    mask = torch.tensor([[1, 1, 0]])
    assert additive_mask(mask, causal=False, dtype=torch.float32).tolist() == [[[[0, 0, low]]]]
    causal = additive_mask(mask, causal=True, dtype=torch.float32)
    assert causal.tolist() == [[[[0, low, low], [0, 0, low], [0, 0, low]]]]


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("name", ["vit", *LANGUAGE])
def test_vmap_gives_the_gradient_of_each_example(tiny_named, name: str, attention: str, masked: bool) -> None:
    """Against one backward pass an example; weights used twice (tied embeddings) must get both parts."""
    tiny = tiny_named(name, attention=attention)
    model = evaluation_model(tiny)
    batch = {key: value for key, value in tiny.batch.items() if masked or key != "attention_mask"}
    weights = {key: value.detach() for key, value in model.named_parameters()}

    def loss(weights: dict[str, Tensor], example: dict[str, Tensor]) -> Tensor:
        def call(*args: Tensor, **kwargs: Tensor) -> object:
            return functional_call(model, weights, args, kwargs)

        one = {key: value[None].double() if key == "images" else value[None] for key, value in example.items()}
        output = call(one["images"]) if "images" in one else call(**one)
        logits = output if isinstance(output, Tensor) else torch.cat(list(output.values()), dim=-1)
        return logits.square().sum()

    each = vmap(grad(loss), in_dims=(None, 0))(weights, batch)
    for index in range(3):
        model.zero_grad()
        example = {key: value[index : index + 1] for key, value in batch.items()}
        tiny.logits(model, example).square().sum().backward()
        for key, parameter in model.named_parameters():
            torch.testing.assert_close(each[key][index], parameter.grad, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["vit", *LANGUAGE])
def test_models_can_be_copied_and_sent_to_another_process(tiny_named, name: str) -> None:
    tiny = tiny_named(name, attention="eager")
    model = evaluation_model(tiny)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(tiny.logits(twin), tiny.logits(model))
