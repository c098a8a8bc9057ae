"""Modules of our own, training and evaluation mode, and attention that supports second derivatives and ``vmap``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@contextmanager
def in_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Training or evaluation mode inside; afterwards each module is in the mode that it was in before."""
    modes = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def has_batch_norm(model: nn.Module) -> bool:
    """Whether a layer of the model is a BatchNorm, which in training mode normalises by statistics of the batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def uses_batch_statistics(model: nn.Module) -> bool:
    """Whether a layer normalises by statistics of the batch in the mode that it is in: frozen BatchNorm does not."""
    return any(
        isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None)
        for module in model.modules()
    )


def additive_mask(attention_mask: Tensor, causal: bool, dtype: torch.dtype) -> Tensor:
    """What is added to the attention scores so that no token looks at padding, nor ahead if ``causal``.

    Args:
        attention_mask: ``[batch, length]``, 1 for a token and 0 for padding.
        causal: whether a token sees only itself and what is before it.
        dtype: floating-point type of the scores.

    Returns:
        ``[batch, 1, length or 1, length]``, 0 where the row's token sees the column's, the lowest number elsewhere.
    """
    seen = attention_mask[:, None, None, :].bool()
    if causal:
        length = attention_mask.shape[1]
        seen = seen & torch.ones(length, length, dtype=torch.bool, device=attention_mask.device).tril()
    return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)


def spell_out_masks(model: nn.Module, causal: bool) -> None:
    """Let a transformers model receive every ``attention_mask`` of shape ``[batch, length]`` as an additive one.

    Given the mask itself, transformers looks whether anything is padded at all. A branch on data makes the GPU wait,
    and ``torch.func.vmap`` refuses it. A model called without a mask is left alone: it may use the kernels that need
    none, so leave the mask out where nothing is padded.
    """
    model.register_forward_pre_hook(partial(_spell_out_mask, causal), with_kwargs=True)


def _spell_out_mask(causal: bool, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    mask = kwargs.get("attention_mask")
    if mask is not None and mask.dim() == 2:
        kwargs = {**kwargs, "attention_mask": additive_mask(mask, causal, model.dtype)}
    return args, kwargs


def attend_eagerly(model: nn.Module) -> None:
    """Let every ``nn.MultiheadAttention`` of a model use plain matrix products, which have all derivatives.

    Torch does so where the attention weights are asked for; they are computed and not used.
    """
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.register_forward_pre_hook(_ask_for_weights, with_kwargs=True)


def _ask_for_weights(attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    return args, {**kwargs, "need_weights": True}


class ScaledLinear(nn.Linear):
    """y = (factor · weight) x; the weight starts at 1/factor times that of He et al. 2015 before a ReLU.

    Args:
        inputs: features in.
        outputs: features out.
        factor: above 0; a buffer, so that it may differ between models that are computed at once.
    """

    factor: Tensor

    def __init__(self, inputs: int, outputs: int, factor: float) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.register_buffer("factor", torch.tensor(factor))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        with torch.no_grad():
            self.weight /= self.factor

    def forward(self, values: Tensor) -> Tensor:
        """From ``[…, inputs]`` to ``[…, outputs]``."""
        return nn.functional.linear(values, self.factor * self.weight)


class Blocks(nn.Module):
    """A point as several parameters; called without an input, it returns the point ``[size]``.

    Args:
        start: ``[size]``.
        sizes: of the parameters; they add up to ``size``.
    """

    def __init__(self, start: Tensor, sizes: Sequence[int]) -> None:
        super().__init__()
        self.blocks = nn.ParameterList(start.split(list(sizes)))

    def forward(self) -> Tensor:
        """The point ``[size]``."""
        return torch.cat(list(self.blocks))
