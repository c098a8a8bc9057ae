"""Second derivatives of operations for which torch has only first ones, where there is another way to compute them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode


@contextmanager
def twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Inside, recurrent layers compute without cuDNN, and hard sigmoids (as in MobileNetV3) from ReLU6.

    The values are the same but for rounding. Fused attention is replaced where the curvature is computed.
    """
    is_recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    with torch.backends.cudnn.flags(enabled=False) if is_recurrent else nullcontext(), _Substituting():
        yield


def _hardsigmoid(values: Tensor, inplace: bool = False) -> Tensor:
    return functional.relu6(values + 3) / 6


SUBSTITUTES: Mapping[Callable[..., Any], Callable[..., Any]] = {functional.hardsigmoid: _hardsigmoid}


class _Substituting(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return SUBSTITUTES.get(func, func)(*args, **(kwargs or {}))
