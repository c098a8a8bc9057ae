"""The Hessian of a model's mean loss, or a diagonal block of it, as a product with vectors.

Evaluating a loss so that it can be differentiated twice, without leaving a trace in the model.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..errors import UserError
from ..models.modules import in_mode
from ..tasks.base import Loss
from .blocks import Block, select_parameters


def loss_at(model: nn.Module, loss_fn: Loss, batch: Any, values: Mapping[str, Tensor]) -> tuple[Tensor, float]:
    """The summed loss of a batch and the number of its terms, with other values in place of the model's parameters.

    The model computes in evaluation mode, without dropout. Fused attention has no second derivative, so torch's is
    replaced by the plain computation of the same thing.

    Args:
        model: left as it was found.
        loss_fn: must call the model that it is given.
        batch: what ``loss_fn`` understands.
        values: by the names of ``named_parameters``; gradients flow to them.

    Raises:
        NoFiniteLossError: the loss is no finite number.
    """
    called = _Called(model, loss_fn)
    inside = {f"model.{name}": value for name, value in values.items()}
    with in_mode(model, training=False), sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
        loss, count = functional_call(called, inside, (batch,))
    if not torch.isfinite(loss):
        raise NoFiniteLossError(f"the loss of a batch is {float(loss)}: there is no curvature to measure here")
    return loss, float(count)


class NoFiniteLossError(UserError, FloatingPointError):
    """The loss is infinite or no number, so there is no curvature."""


@contextmanager
def refusing_clearly() -> Iterator[None]:
    """Say in one line that an operation has no second derivative.

    Raises:
        UserError: torch said so inside.
    """
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        if "derivative" not in reason and "differentiat" not in reason:
            raise
        raise UserError(
            f"an operation of the model has no second derivative ({reason}); "
            'attention must be computed plainly, in transformers with attn_implementation="eager"'
        ) from error


def refuse_single_derivatives(gradients: Iterable[Tensor]) -> None:
    """Refuse gradients that went through an operation marked as once differentiable.

    Torch would leave that operation out of the derivatives with respect to chosen parameters, and not say so.

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


class _Called(nn.Module):
    """A loss as a module, so that torch can swap the model's parameters during the call."""

    def __init__(self, model: nn.Module, loss_fn: Loss) -> None:
        super().__init__()
        self.model = model
        # A loss may itself be a module; in a tuple, its parameters do not count as the model's.
        self._loss_fn = (loss_fn,)

    def forward(self, batch: Any) -> tuple[Tensor, Tensor | float]:
        return self._loss_fn[0](self.model, batch)


REPEATABLE = 1e-4
"""Relative difference of two gradients at the same point that rounding explains, on a GPU too."""


class HessianOperator:
    """H = ∂²L/∂w², L the mean loss over all terms of fixed batches, w the parameters of a block.

    ``matvec`` is the derivative of g(w)·v, g the gradient (Pearlmutter 1994). Only the block is differentiated twice,
    and the graph of its gradient is kept from product to product. The model computes in evaluation mode and in its own
    precision; it is left as it was found.

    Attributes:
        block: what the entries of a vector are.
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
        """Check the model and build the graphs that are kept.

        Args:
            model: any module.
            loss_fn: from the model and a batch to the summed loss and the number of its terms. It must call the model
                that it is given.
            batches: what ``loss_fn`` understands; they are read once and kept.
            params: the block; or names or globs of parameters, or of blocks of the default partition. All by default.
            kept_graphs: how many batches' graphs stay in memory; those of the others are built for each product.
            at_once: how many products are computed at once; memory for activations grows with it.

        Raises:
            UserError: there is nothing to differentiate, the loss is no finite number, two evaluations differ, or an
                operation can be differentiated only once.
        """
        self._model, self._loss_fn, self._batches = model, loss_fn, list(batches)
        self._at_once = at_once
        self.block = params if isinstance(params, Block) else select_parameters(model, params)
        self._values = {name: parameter.detach() for name, parameter in model.named_parameters()}
        self._leaves = [
            piece.of(self._values[piece.parameter]).clone(memory_format=torch.contiguous_format).requires_grad_()
            for piece in self.block.pieces
        ]
        self.size = sum(leaf.numel() for leaf in self._leaves)
        self.dtype, self.device = self._leaves[0].dtype, self._leaves[0].device
        self._count = sum(loss_at(model, loss_fn, batch, self._values)[1] for batch in self._batches)
        if not self._count > 0:
            raise UserError("the batches have no loss term: there is nothing to differentiate")
        graphs = [self._gradients(batch) for batch in self._batches[: max(1, kept_graphs)]]
        refuse_single_derivatives(graphs[0])
        self._refuse_randomness(graphs[0])
        self._graphs = graphs[:kept_graphs]

    def matvec(self, vector: Tensor) -> Tensor:
        """H·v for v of shape ``[size]``, in v's floating-point type.

        Raises:
            UserError: an operation of the model has no second derivative.
        """
        return self.matmat(vector[None])[0]

    def matmat(self, vectors: Tensor) -> Tensor:
        """The products with several vectors ``[k, size]``, one a row; raises what ``matvec`` does."""
        return torch.cat([self._products(part) for part in vectors.split(self._at_once)])

    def gradient(self) -> Tensor:
        """The gradient of the mean loss with respect to the block, ``[size]``, in float64."""
        total = torch.zeros(self.size, dtype=torch.float64, device=self.device)
        for gradients in self._all_gradients():
            total += _flat(gradients).detach()
        return total

    def unflatten(self, vector: Tensor) -> list[Tensor]:
        """A vector ``[..., size]`` as one tensor a piece of the block, ``[..., *piece]``."""
        parts = vector.split([leaf.numel() for leaf in self._leaves], dim=-1)
        return [part.reshape(part.shape[:-1] + leaf.shape) for part, leaf in zip(parts, self._leaves, strict=True)]

    def _products(self, vectors: Tensor) -> Tensor:
        if len(vectors) > 1:
            try:
                return self._products_at_once(vectors)
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
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
        # A gradient that is the same whatever the parameters are has nothing to differentiate.
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

    def _gradients(self, batch: Any) -> Sequence[Tensor]:
        """One batch's share of the mean loss's gradient, with the graph that leads to it."""
        values = dict(self._values)
        for piece, leaf in zip(self.block.pieces, self._leaves, strict=True):
            values[piece.parameter] = piece.put(leaf, values[piece.parameter])
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
    """The gradient of the mean loss, one tensor a trained parameter, in float64.

    Args:
        model: any module.
        loss_fn: from the model and a batch to the summed loss and the number of its terms.
        batches: what ``loss_fn`` understands.

    Raises:
        UserError: see ``HessianOperator``.
    """
    operator = HessianOperator(model, loss_fn, batches, kept_graphs=0)
    names = [piece.parameter for piece in operator.block.pieces]
    return dict(zip(names, operator.unflatten(operator.gradient()), strict=True))


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])
