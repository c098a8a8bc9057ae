"""The Hessian of a model's mean loss, or a diagonal block of it, as products with vectors.

A product is the derivative of g(w)·v, g the gradient (Pearlmutter 1994). The model computes in evaluation mode and in
its own precision; its weights, ``.grad``, modes and buffers stay as they are.

An untrained network's running statistics are 0 and 1, so in evaluation mode its BatchNorm layers do nothing: signals
die out or grow from layer to layer as they never do in training. ``calibrated`` is the network as it evaluates after
some training steps at the same weights; ``batch`` is the function that training differentiates.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import UserError, first_line
from ..models.modules import in_mode
from ..tasks import gradients as tasks
from ..tasks.base import Loss
from .blocks import Block, ParameterSlice, select_parameters
from .settings import BatchNorm

REPEATABLE = 1e-4
"""Relative difference of two gradients at the same point that rounding explains, on a GPU too."""

ASYMMETRY = {torch.float64: 1e-6, torch.float32: 1e-3}
"""Relative difference of uᵀHv and vᵀHu that rounding explains, unless H is zero: there ``AGREEMENT`` decides."""

LOW_PRECISION_ASYMMETRY = 0.05
"""The same in half precision."""

AGREEMENT = 0.1
"""Relative change of an asymmetry under a tiny change of the weights, which draws rounding errors anew."""


class HessianOperator:
    """H = ∂²L/∂w², L the mean loss over all terms of fixed batches, w the parameters of a block.

    Only the block is differentiated twice, and the graph of its gradient stays in memory between products.

    Attributes:
        block: the parameters that the entries of a vector belong to.
        size: number of parameters in the block.
        dtype: precision of the model.
        device: of the model.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Loss,
        batches: Iterable[Any],
        params: Block | str | Sequence[str] | None = None,
        *,
        kept_graphs: int = 4,
        at_once: int = 10,
    ) -> None:
        """Check the model and build the graphs of the gradient.

        Args:
            model: any module.
            loss_fn: from the model and a batch to the summed loss and the number of its terms. It must call the model
                that it is given.
            batches: what ``loss_fn`` understands; read once.
            params: the block; or names or globs of parameters, or of blocks of the default partition. All by default.
            kept_graphs: how many batches' graphs stay in memory; those of the others are rebuilt for each product.
            at_once: products computed at once; memory for activations grows with it.

        Raises:
            UserError: there is nothing to differentiate, the loss is NaN or infinite, two evaluations differ, or an
                operation can be differentiated only once. The first product checks that products are symmetric.
        """
        self._model, self._loss_fn, self._batches = model, loss_fn, list(batches)
        self._at_once = at_once
        self.block = params if isinstance(params, Block) else select_parameters(model, params)
        self._values = {name: parameter.detach() for name, parameter in model.named_parameters()}
        self._leaves = [
            part.of(self._values[part.parameter]).clone(memory_format=torch.contiguous_format).requires_grad_()
            for part in self.block.slices
        ]
        self.size = sum(leaf.numel() for leaf in self._leaves)
        self.dtype, self.device = self._leaves[0].dtype, self._leaves[0].device
        self._count = count_terms(model, loss_fn, self._batches)
        graphs = [self._gradients(batch) for batch in self._batches[: max(1, kept_graphs)]]
        refuse_single_derivatives(graphs[0])
        self._refuse_randomness(graphs[0])
        self._graphs = graphs[:kept_graphs]
        self._is_checked = False

    def matvec(self, vector: Tensor) -> Tensor:
        """H·v for v of shape ``[size]``, in v's floating-point type.

        Raises:
            UserError: an operation of the model has no second derivative, or a wrong one (see ``check_symmetry``).
        """
        return self.matmat(vector[None])[0]

    def matmat(self, vectors: Tensor) -> Tensor:
        """The products with the rows of ``vectors``, ``[k, size]``; raises what ``matvec`` does."""
        self.check_symmetry()
        return torch.cat([self._products(part) for part in vectors.split(self._at_once)])

    def check_symmetry(self) -> None:
        """Check uᵀHv = vᵀHu for random u and v on the first batch, unless that is done already.

        Raises:
            UserError: the products are not symmetric, so an operation has a wrong second derivative; the message names
                the layers that are not symmetric themselves.
        """
        if self._is_checked:
            return
        self._is_checked = True
        if not (asymmetry := self._asymmetry()):
            return
        layers = [layer for layer, block in by_layer(self._model, self.block).items() if self._part(block)._asymmetry()]
        raise UserError(
            f"products with the Hessian are not symmetric (uᵀHv and vᵀHu differ by {asymmetry:.1%}): an operation has "
            f"a wrong second derivative in {', '.join(layers) or 'a layer that could not be found'}; "
            + (WEIGHT_NORM_ADVICE if "weight_norm" in " ".join(layers) else "write it in elementary operations")
        )

    def _part(self, block: Block) -> HessianOperator:
        """The operator of another block, of the first batch alone."""
        return HessianOperator(self._model, self._loss_fn, self._batches[:1], block, at_once=self._at_once)

    def _asymmetry(self) -> float:
        """‖UHUᵀ − UHᵀUᵀ‖ / ‖HUᵀ‖ for three random rows U, on the first batch; 0 if rounding explains it."""
        generator = torch.Generator().manual_seed(0)
        rows = torch.randn(3, self.size, generator=generator, dtype=torch.float64).to(self.device)
        gradients = self._graphs[0] if self._graphs else self._gradients(self._batches[0])
        differences, norm = self._differences(gradients, rows)
        size = float(torch.linalg.vector_norm(differences))
        limit = ASYMMETRY.get(self.dtype, LOW_PRECISION_ASYMMETRY)
        if not size > limit * norm:
            return 0.0
        for _ in range(2):
            again, _ = self._differences(self._gradients(self._batches[0], self._near_one(generator)), rows)
            if not torch.linalg.vector_norm(again - differences) < AGREEMENT * size:
                return 0.0
        return size / norm

    def _differences(self, gradients: Sequence[Tensor], rows: Tensor) -> tuple[Tensor, float]:
        """uᵀHv − vᵀHu of all pairs of rows, and the norm of the products."""
        directions = [self.unflatten(row[None].to(self.dtype)) for row in rows]
        products = [
            torch.cat([part.flatten() for part in self._differentiate_along(gradients, direction)]).double()
            for direction in directions
        ]
        forms = rows @ torch.stack(products).T
        return (forms - forms.T)[[0, 0, 1], [1, 2, 2]], float(torch.linalg.vector_norm(torch.stack(products)))

    def _near_one(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Factors 1 ± √eps for all weights."""
        share = torch.finfo(self.dtype).eps ** 0.5
        return {
            name: 1 + share * torch.randn(value.shape, generator=generator).to(value)
            for name, value in self._values.items()
        }

    def gradient(self) -> Tensor:
        """The gradient of the mean loss with respect to the block, ``[size]``, in float64."""
        total = torch.zeros(self.size, dtype=torch.float64, device=self.device)
        for gradients in self._all_gradients():
            total += _flat(gradients).detach()
        return total

    def unflatten(self, vector: Tensor) -> list[Tensor]:
        """A vector ``[..., size]`` as one tensor per parameter slice of the block, ``[..., *slice]``."""
        parts = vector.split([leaf.numel() for leaf in self._leaves], dim=-1)
        return [part.reshape(part.shape[:-1] + leaf.shape) for part, leaf in zip(parts, self._leaves, strict=True)]

    def _products(self, vectors: Tensor) -> Tensor:
        if len(vectors) > 1:
            try:
                return self._products_at_once(vectors)
            except RuntimeError as error:
                reason = first_line(error)
                warnings.warn(f"from here on Hessian products are computed one by one: {reason}", stacklevel=2)
                self._at_once = 1
        return torch.cat([self._products_at_once(vector[None]) for vector in vectors])

    def _products_at_once(self, vectors: Tensor) -> Tensor:
        directions = self.unflatten(vectors.to(self.dtype))
        total = torch.zeros_like(vectors)
        for gradients in self._all_gradients():
            products = self._differentiate_along(gradients, directions)
            total += torch.cat([product.reshape(len(vectors), -1) for product in products], dim=1)
        return total

    def _differentiate_along(self, gradients: Sequence[Tensor], directions: list[Tensor]) -> Sequence[Tensor]:
        """The derivatives of gradient · direction, with the directions' first dimension."""
        # A constant gradient has no graph.
        pairs = [pair for pair in zip(gradients, directions, strict=True) if pair[0].requires_grad]
        if not pairs:
            return [torch.zeros_like(direction) for direction in directions]
        outputs, along = zip(*pairs, strict=True)
        single = len(along[0]) == 1
        with refusing_clearly():
            products = torch.autograd.grad(
                outputs,
                self._leaves,
                [direction[0] for direction in along] if single else along,
                retain_graph=True,
                is_grads_batched=not single,
                allow_unused=True,
            )
        return [
            torch.zeros_like(direction) if product is None else product.view_as(direction)
            for product, direction in zip(products, directions, strict=True)
        ]

    def _all_gradients(self) -> Iterator[Sequence[Tensor]]:
        """The gradients of each batch, with the graphs that lead to them."""
        yield from self._graphs
        for batch in self._batches[len(self._graphs) :]:
            yield self._gradients(batch)

    def _gradients(self, batch: Any, factors: Mapping[str, Tensor] | None = None) -> Sequence[Tensor]:
        """One batch's share of the mean loss's gradient, with its graph; at the weights times ``factors``."""
        values = dict(self._values)
        for part, leaf in zip(self.block.slices, self._leaves, strict=True):
            values[part.parameter] = part.put(leaf, values[part.parameter])
        if factors is not None:
            values = {name: value * factors[name] for name, value in values.items()}
        loss = loss_at(self._model, self._loss_fn, batch, values)[0] / self._count
        if not loss.requires_grad:
            return [torch.zeros_like(leaf) for leaf in self._leaves]
        with refusing_clearly():
            return torch.autograd.grad(loss, self._leaves, create_graph=True, allow_unused=True, materialize_grads=True)

    def _refuse_randomness(self, gradients: Sequence[Tensor]) -> None:
        """Compare the gradients of the first batch with those of a second evaluation."""
        first, second = _flat(gradients).detach(), _flat(self._gradients(self._batches[0])).detach()
        if torch.linalg.vector_norm(first - second) > REPEATABLE * torch.linalg.vector_norm(first):
            raise UserError("two evaluations of the same batch differ: the model or the loss draws random numbers")


def mean_gradient(model: nn.Module, loss_fn: Loss, batches: Iterable[Any]) -> dict[str, Tensor]:
    """The gradient of the mean loss in evaluation mode, one tensor per trained parameter, in float64.

    Args:
        model: any module.
        loss_fn: from the model and a batch to the summed loss and the number of its terms.
        batches: what ``loss_fn`` understands.

    Raises:
        UserError: the loss is NaN or infinite, or has no term.
    """
    batches, parameters = list(batches), dict(model.named_parameters())

    def loss(model: nn.Module, batch: Any) -> tuple[Tensor, float]:
        return loss_at(model, loss_fn, batch, parameters)

    terms = count_terms(model, loss_fn, batches)
    return tasks.mean_gradient(model, loss, batches, terms=terms, dtype=torch.float64)


def count_terms(model: nn.Module, loss_fn: Loss, batches: Sequence[Any]) -> float:
    """The number of terms in the loss of all batches.

    Raises:
        UserError: there is none.
    """
    values = {name: parameter.detach() for name, parameter in model.named_parameters()}
    count = sum(loss_at(model, loss_fn, batch, values)[1] for batch in batches)
    if not count > 0:
        raise UserError("the batches have no loss term: there is nothing to differentiate")
    return count


def loss_at(model: nn.Module, loss_fn: Loss, batch: Any, values: Mapping[str, Tensor]) -> tuple[Tensor, float]:
    """The summed loss of a batch and the number of its terms, with other values in place of the model's parameters.

    The model computes in evaluation mode, without dropout. Torch's fused attention, which has no second derivative, is
    replaced by its MATH kernel.

    Args:
        model: unchanged afterwards.
        loss_fn: must call the model that it is given.
        batch: what ``loss_fn`` understands.
        values: by the names of ``named_parameters``; gradients flow to them.

    Raises:
        NonFiniteLossError: the loss is NaN or infinite.
    """
    with in_mode(model, training=False), sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
        loss, count = tasks.loss_with(model, loss_fn, values, batch)
    if not torch.isfinite(loss):
        raise NonFiniteLossError(f"the loss of a batch is {float(loss)}: there is no curvature to measure here")
    return loss, float(count)


class NonFiniteLossError(UserError, FloatingPointError):
    """The loss is NaN or infinite, so there is no curvature."""


@contextmanager
def refusing_clearly() -> Iterator[None]:
    """Report an operation without a second derivative in one line.

    Raises:
        UserError: torch said so inside.
    """
    try:
        yield
    except RuntimeError as error:
        reason = first_line(error)
        if "derivative" not in reason and "differentiat" not in reason:
            raise
        raise UserError(
            f"an operation of the model has no second derivative ({reason}); "
            'attention must not be fused, in transformers attn_implementation="eager"'
        ) from error


def refuse_single_derivatives(gradients: Iterable[Tensor]) -> None:
    """Refuse gradients that passed through an operation marked as once differentiable.

    Torch silently leaves such an operation out of derivatives with respect to chosen parameters.

    Args:
        gradients: with the graphs that lead to them.

    Raises:
        UserError: such an operation is in a graph.
    """
    nodes = [gradient.grad_fn for gradient in gradients if gradient.grad_fn is not None]
    seen = set(nodes)
    while nodes:
        node = nodes.pop()
        if node.name() == "torch::autograd::Error":
            raise UserError("an operation of the model is marked as differentiable only once: it has no curvature")
        following = {earlier for earlier, _ in node.next_functions if earlier is not None} - seen
        seen |= following
        nodes += following


WEIGHT_NORM_ADVICE = (
    "torch's weight_norm is known for it: remove it with torch.nn.utils.parametrize.remove_parametrizations "
    "(torch.nn.utils.remove_weight_norm for the old form), or write g * v / v.norm() out"
)


def by_layer(model: nn.Module, block: Block) -> dict[str, Block]:
    """The parameters of a block by the layer that owns them: its name, its class and its parametrizations."""
    slices: dict[str, list[ParameterSlice]] = {}
    for part in block.slices:
        path = part.parameter.split(".parametrizations.")[0] if ".parametrizations." in part.parameter else None
        if path is None and part.parameter.startswith("parametrizations."):
            path = ""
        slices.setdefault(part.parameter.rpartition(".")[0] if path is None else path, []).append(part)
    return {_describe_layer(model, path): Block(path, tuple(parts)) for path, parts in slices.items()}


def _describe_layer(model: nn.Module, path: str) -> str:
    layer = model.get_submodule(path)
    hooks = [type(hook).__name__ for hook in layer._forward_pre_hooks.values() if hasattr(hook, "compute_weight")]
    lists = getattr(layer, "parametrizations", {}).values()
    applied = [type(each).__name__ for parametrizations in lists for each in parametrizations]
    extras = {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.lstrip("_")).lower() for name in [*hooks, *applied]}
    kind = type(layer).__name__.removeprefix("Parametrized")
    return f"{path or 'the model itself'} ({', '.join([kind, *sorted(extras)])})"


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


@contextmanager
def batch_norm_statistics(
    model: nn.Module, loss_fn: Loss, batches: Iterable[Any], statistics: BatchNorm
) -> Iterator[None]:
    """Inside, BatchNorm layers in evaluation mode normalise by the given statistics; afterwards as before.

    Args:
        model: restored afterwards: running statistics to the bit, modes, momentum.
        loss_fn: from the model and a batch to the summed loss and the number of its terms.
        batches: those over which the curvature is measured.
        statistics: ``running``, as they are; ``calibrated``, the mean over ``batches`` of each batch's mean and
            unbiased variance, as ``torch.optim.swa_utils.update_bn`` computes them, but without dropout; or ``batch``,
            those of the batch in the forward pass, through which gradients flow, as in training.

    Raises:
        UserError: a layer has one value per channel in a batch, whose variance is unknown.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.running_mean is not None]
    if not layers or statistics == "running":
        yield
        return
    before = [(layer, dict(layer.named_buffers(recurse=False)), layer.momentum) for layer in layers]
    try:
        if statistics == "batch":
            for layer in layers:
                # Without running statistics a layer uses the batch's in evaluation mode too.
                layer.running_mean = layer.running_var = None
        else:
            _calibrate(model, layers, loss_fn, batches)
        yield
    except ValueError as error:
        if "value per channel" not in str(error):
            raise
        raise UserError(
            f"hessian.batch_norm: {statistics} needs several values per channel in each batch ({error}); "
            "give a larger hessian.batch_size or hessian.batch_norm=running"
        ) from error
    finally:
        for layer, buffers, momentum in before:
            layer.momentum = momentum
            for name, buffer in buffers.items():
                setattr(layer, name, buffer)


def _calibrate(model: nn.Module, layers: list[_BatchNorm], loss_fn: Loss, batches: Iterable[Any]) -> None:
    """Give the layers new buffers with the statistics of the batches."""
    for layer in layers:
        for name, buffer in list(layer.named_buffers(recurse=False)):
            setattr(layer, name, buffer.clone())
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative average
    with in_mode(model, training=False), torch.no_grad():
        for layer in layers:
            layer.training = True
        for batch in batches:
            loss_fn(model, batch)
