"""Products against dense Hessians, and the models and losses that are refused.

Double backward is compared with torch.func's forward over reverse: a mistake in both at once would not be seen. The
closed form of a quadratic covers that for the scale.
"""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from whyadam.errors import UserError
from whyadam.hessian import HessianOperator, block_spectra, dense_matrix, mean_gradient, partition


def dense(operator: HessianOperator) -> Tensor:
    return dense_matrix(operator.matmat, operator.size)


def places(model: nn.Module) -> dict[str, Tensor]:
    """For every parameter the positions of its entries in the flat vector."""
    positions, start = {}, 0
    for name, parameter in model.named_parameters():
        positions[name] = torch.arange(start, start + parameter.numel()).view(parameter.shape)
        start += parameter.numel()
    return positions


def test_full_and_every_block_equal_the_dense_hessian(case: Any, loss: Any) -> None:
    """A wrong scale, order, slice of a fused matrix, or a lost cross term of tied weights would show."""
    expected = case.dense()
    assert expected.abs().max() > 1e-3
    full = dense(HessianOperator(case.model, loss, case.batches))
    torch.testing.assert_close(full, expected, rtol=0, atol=1e-8)
    where = places(case.model)
    for block in partition(case.model) + partition(case.model, "neurons")[::7]:
        rows = block.of(where)
        found = dense(HessianOperator(case.model, loss, case.batches, block))
        torch.testing.assert_close(found, expected[rows][:, rows], rtol=0, atol=1e-8, msg=block.name)


def test_quadratic_has_the_hessian_it_was_made_of(symmetric: Callable[[Tensor], Tensor]) -> None:
    """Summing over batches instead of taking the mean would multiply the matrix."""
    matrix = symmetric(torch.tensor([-1.0, 2.0, 5.0]))
    model = nn.Linear(3, 1, bias=False).double()

    def quadratic(model: nn.Module, count: int) -> tuple[Tensor, int]:
        w = next(model.parameters())[0]
        return count * 0.5 * w @ matrix @ w, count

    found = dense(HessianOperator(model, quadratic, [1, 4, 2]))
    torch.testing.assert_close(found, matrix)


@pytest.mark.parametrize("kept_graphs", [0, 1, 4])
def test_splitting_batches_changes_nothing(case_named: Any, loss: Any, kept_graphs: int) -> None:
    """Batches weighted alike, whatever their size, or a graph used for the wrong batch, would show."""
    case = case_named("mlp")
    whole = tuple(torch.cat(parts) for parts in zip(*case.batches, strict=True))
    expected = dense(HessianOperator(case.model, loss, [whole]))
    found = dense(HessianOperator(case.model, loss, case.batches, kept_graphs=kept_graphs))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_products_at_once_equal_products_one_by_one(case: Any, loss: Any) -> None:
    """A batching rule of vmap that mixes up vectors would show."""
    vectors = torch.randn(3, HessianOperator(case.model, loss, case.batches).size, dtype=torch.float64)
    together, alone = (
        HessianOperator(case.model, loss, case.batches, at_once=at_once).matmat(vectors) for at_once in (3, 1)
    )
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_fused_attention_is_replaced_by_the_plain_computation(case_named: Any, loss: Any, family: str) -> None:
    """With transformers' default attention the second derivative would be missing."""
    fused, plain = case_named(family, attention="sdpa"), case_named(family)
    found, expected = (dense(HessianOperator(case.model, loss, plain.batches)) for case in (fused, plain))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_globs_choose_parameters_and_parts_of_fused_ones(case_named: Any, loss: Any) -> None:
    case = case_named("gpt2")
    names = ["transformer.h.1.mlp.*.weight", "*h.0*c_attn.weight.query"]
    operator = HessianOperator(case.model, loss, case.batches, names)
    assert [(part.parameter.removeprefix("transformer.h."), part.length) for part in operator.block.slices] == [
        ("1.mlp.c_fc.weight", None),
        ("1.mlp.c_proj.weight", None),
        ("0.attn.c_attn.weight", 4),
    ]
    where = places(case.model)
    rows = operator.block.of(where)
    torch.testing.assert_close(dense(operator), case.dense()[rows][:, rows], rtol=0, atol=1e-8)


def test_gradient_is_that_of_the_mean_loss(case: Any, loss: Any) -> None:
    case.model.eval()
    total, count = zip(*(loss(case.model, batch) for batch in case.batches), strict=True)
    (sum(total) / sum(count)).backward()
    found = mean_gradient(case.model, loss, case.batches)
    for name, parameter in case.model.named_parameters():
        expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(found[name], expected)


def test_model_is_left_as_it_was_found(case_named: Any, loss: Any) -> None:
    """A model that goes on training must keep its modes, gradients, weights and running statistics."""
    model = case_named("resnet").model.train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    operator = HessianOperator(model, loss, case_named("resnet").batches, kept_graphs=0)
    operator.matvec(torch.ones(operator.size))
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_frozen_parameters_are_left_out(case_named: Any, loss: Any) -> None:
    case = case_named("mlp")
    case.model[1].requires_grad_(False)
    assert HessianOperator(case.model, loss, case.batches).size == 4 * 3


def test_block_that_the_loss_does_not_depend_on_is_zero(loss: Any, case_named: Any) -> None:
    case = case_named("mlp")
    case.model.register_parameter("idle", nn.Parameter(torch.ones(3, dtype=torch.float64)))
    assert not dense(HessianOperator(case.model, loss, case.batches, "idle")).any()


def test_block_in_which_the_loss_is_linear_is_zero() -> None:
    model = nn.Linear(2, 1).double()
    operator = HessianOperator(
        model, lambda model, batch: (model(batch).sum(), len(batch)), [torch.ones(3, 2).double()]
    )
    assert not dense(operator).any()


def test_parameter_without_dimensions_has_a_curvature() -> None:
    """A learned temperature, for instance."""
    model = nn.ParameterDict({"scale": torch.tensor(2.0), "weight": torch.ones(1, 2)}).double()

    def product(model: nn.ParameterDict, batch: None) -> tuple[Tensor, int]:
        return (model["scale"] ** 2 * model["weight"]).sum(), 1

    expected = torch.tensor([[4.0, 4.0, 4.0], [4.0, 0.0, 0.0], [4.0, 0.0, 0.0]]).double()
    torch.testing.assert_close(dense(HessianOperator(model, product, [None])), expected)
    assert [block.name for block in partition(model)] == ["scale", "weight"]


def test_single_precision_model_gives_vectors_in_the_type_they_came(case_named: Any, loss: Any) -> None:
    case = case_named("mlp")
    vector = torch.randn(3, dtype=torch.float64)
    expected = HessianOperator(case.model, loss, case.batches, "3.bias").matvec(vector)
    batches = [(images.float(), labels) for images, labels in case.batches]
    found = HessianOperator(case.model.float(), loss, batches, "3.bias").matvec(vector)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_parameter_without_second_derivative_beside_one_that_has_it() -> None:
    """Products at once must be zero there, and of the right shape."""
    model = nn.ParameterDict({"a": torch.ones(2), "b": torch.ones(3)}).double()

    def mixed(model: nn.ParameterDict, batch: None) -> tuple[Tensor, int]:
        return model["a"].pow(2).sum() + model["b"].sum(), 1

    expected = torch.diag(torch.tensor([2.0, 2.0, 0.0, 0.0, 0.0]).double())
    torch.testing.assert_close(dense(HessianOperator(model, mixed, [None])), expected)


class PeekingCube(torch.autograd.Function):
    """A cube whose backward looks at its gradient's values, which vmap forbids."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return Peeking.apply(gradient * 3 * x**2)


class Peeking(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient if float(gradient.sum()) > 0 else 1.0 * gradient


def test_operation_that_vmap_cannot_batch_is_multiplied_one_by_one() -> None:
    model = nn.Linear(2, 1, bias=False).double()

    def cubes(model: nn.Module, batch: Tensor) -> tuple[Tensor, int]:
        return PeekingCube.apply(model(batch)).sum(), len(batch)

    operator = HessianOperator(model, cubes, [torch.eye(2, dtype=torch.float64)])
    with pytest.warns(UserWarning, match="one by one"):
        found = operator.matmat(torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close(found, torch.diag(6 * model.weight.detach()[0]) / 2)


@pytest.mark.parametrize("kept_graphs", [0, 4])
def test_memory_is_flat_over_100_products(case_named: Any, loss: Any, kept_graphs: int) -> None:
    """A graph that survives its product (as after backward with create_graph) would add about 4 MB each time."""
    status = Path("/proc/self/statm")
    if not status.exists():
        pytest.skip("the size of a process is read from /proc")
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.Tanh(), nn.Linear(64, 3))
    batch = (torch.randn(4096, 3, 8, 8), torch.randint(3, (4096,)))
    operator = HessianOperator(model, loss, [batch], "1.weight", kept_graphs=kept_graphs)
    vector = torch.randn(operator.size)

    def megabytes_after(products: int) -> float:
        for _ in range(products):
            operator.matvec(vector)
        gc.collect()
        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    before = megabytes_after(10)
    assert megabytes_after(100) - before < 60


def test_random_loss_is_refused(case_named: Any, loss: Any) -> None:
    """Dropout that evaluation mode does not switch off would make every product a different one."""
    case = case_named("mlp")

    def noisy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, int]:
        images, labels = batch
        return loss(model, (nn.functional.dropout(images, 0.5, training=True), labels))

    with pytest.raises(UserError, match="random numbers"):
        HessianOperator(case.model, noisy, case.batches)


def test_infinite_loss_is_refused(case_named: Any, loss: Any) -> None:
    case = case_named("mlp")
    with torch.no_grad():
        case.model[1].weight[0, 0] = torch.nan
    with pytest.raises(UserError, match="loss of a batch is nan"):
        HessianOperator(case.model, loss, case.batches)


@pytest.mark.parametrize("batches", [[], [(torch.zeros(0, 3, 8, 8).double(), torch.zeros(0).long())]])
def test_no_loss_term_is_refused(case_named: Any, loss: Any, batches: list[Any]) -> None:
    with pytest.raises(UserError, match="no loss term"):
        HessianOperator(case_named("mlp").model, loss, batches)


def test_unknown_name_is_refused_with_the_nearest(case_named: Any, loss: Any) -> None:
    case = case_named("mlp")
    with pytest.raises(UserError, match=r"'1.weigth' fits no parameter; did you mean 1.weight\?"):
        HessianOperator(case.model, loss, case.batches, "1.weigth")


class OnceOnly(torch.autograd.Function):
    """Doubles, and has a first derivative only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient


def test_operation_to_be_differentiated_once_is_refused(case_named: Any, loss: Any) -> None:
    """Torch leaves its contribution out without a word when the gradient of chosen parameters is asked for."""
    case = case_named("mlp")

    def doubled(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, int]:
        images, labels = batch
        return loss(lambda images: OnceOnly.apply(model(images)), (images, labels))

    with pytest.raises(UserError, match="only once"):
        HessianOperator(case.model, doubled, case.batches)


@pytest.mark.parametrize("at_once", [1, 10])
def test_operation_without_second_derivative_is_refused(at_once: int) -> None:
    """Fused attention that a model insists on."""
    model = nn.Linear(4, 4)

    def attend(model: nn.Module, tokens: Tensor) -> tuple[Tensor, int]:
        x = model(tokens)
        output = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(x, x, x)[0]
        return output.square().sum(), len(tokens)

    operator = HessianOperator(model, attend, [torch.randn(2, 1, 3, 4)], at_once=at_once)
    with pytest.raises(UserError, match=r'no second derivative.*attn_implementation="eager"'):
        operator.matmat(torch.ones(2, operator.size))


def weight_normed(kind: str, dtype: torch.dtype) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    layer = {"parametrization": nn.utils.parametrizations.weight_norm, "hook": nn.utils.weight_norm}[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the hook is deprecated
        model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), layer(nn.Linear(4, 3))).to(dtype)
    return model, (torch.randn(9, 5, dtype=dtype), torch.randint(3, (9,)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", ["parametrization", "hook"])
def test_wrong_second_derivative_is_refused_with_its_layer(loss: Any, kind: str, dtype: torch.dtype) -> None:
    """Torch's fused weight_norm fails gradgradcheck; eigenvalues of its Hessian are wrong by a tenth and more."""
    model, batch = weight_normed(kind, dtype)
    operator = HessianOperator(model, loss, [batch])
    with pytest.raises(UserError, match=r"not symmetric.* in 2 \(Linear, weight_norm\);.*remove_parametrizations"):
        operator.matvec(torch.ones(operator.size))
    (direction,) = (name for name, parameter in model.named_parameters() if parameter.shape == (3, 4))
    with pytest.raises(UserError, match=r"in 2 \(Linear, weight_norm\)"):
        block_spectra(model, loss, [batch], ["2.*"])
    with pytest.raises(UserError, match=r"in 2 \(Linear, weight_norm\)"):
        HessianOperator(model, loss, [batch], direction).check_symmetry()
    block_spectra(model, loss, [batch], ["0.*"], steps=2, probes=2)


def test_weight_norm_written_out_is_accepted(loss: Any) -> None:
    model, batch = weight_normed("parametrization", torch.float64)

    class WrittenOut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.g = nn.Sequential(model[0], model[1]), nn.Parameter(torch.ones(3, 1).double())
            self.v = nn.Parameter(torch.randn(3, 4).double())

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x) @ (self.g * self.v / self.v.norm(dim=1, keepdim=True)).T

    HessianOperator(WrittenOut(), loss, [batch]).check_symmetry()


class HalfForgotten(torch.autograd.Function):
    """x · y whose backward forgets that the gradient of x depends on y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, y = ctx.saved_tensors
        return gradient * y.detach(), gradient * x


def test_asymmetry_between_layers_is_refused_too(loss: Any) -> None:
    """Each layer's own block is right; the block between them is there once, and zero the other time."""
    torch.manual_seed(0)
    gates = nn.ModuleDict({"a": nn.Linear(5, 3), "b": nn.Linear(5, 3)}).double()

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gates = gates

        def forward(self, x: Tensor) -> Tensor:
            return HalfForgotten.apply(self.gates["a"](x), self.gates["b"](x))

    batch = (torch.randn(9, 5).double(), torch.randint(3, (9,)))
    with pytest.raises(UserError, match=r"not symmetric.*a layer that could not be found; write it in elementary"):
        HessianOperator(Gated(), loss, [batch]).check_symmetry()


def test_rounding_of_a_hessian_that_is_zero_is_no_asymmetry() -> None:
    """A shift of all logits changes no cross-entropy: the shift's Hessian is zero, and what is computed is rounding."""
    torch.manual_seed(0)
    x, y = torch.randn(50, 5), torch.randint(7, (50,))

    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.shift = nn.Linear(5, 7), nn.Linear(5, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) + self.shift(x).sin() * 3

    def summed(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, int]:
        return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="sum"), len(batch[1])

    operator = HessianOperator(Shifted(), summed, [(x, y)], ["shift.*"])
    operator.check_symmetry()
    matrix = operator.matmat(torch.eye(operator.size))
    assert 0 < float((matrix - matrix.T).norm()) > 1e-3 * float(matrix.norm()), "the case is one that needs the test"
