"""Blocks of parameters, the diagonal blocks of the Hessian: cutting a model into them, and choosing them by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..settings import nearest


@dataclass(frozen=True)
class ParameterSlice:
    """A parameter, or the entries between two indices of one of its dimensions.

    Attributes:
        parameter: its name in ``named_parameters``.
        dim: the dimension that is sliced.
        start: first index.
        length: number of indices; None for the whole parameter.
    """

    parameter: str
    dim: int = 0
    start: int = 0
    length: int | None = None

    def of(self, tensor: Tensor) -> Tensor:
        """The slice of the parameter, or of any tensor of its shape; a view."""
        return tensor if self.length is None else tensor.narrow(self.dim, self.start, self.length)

    def put(self, part: Tensor, tensor: Tensor) -> Tensor:
        """A copy of ``tensor`` with this slice replaced by ``part``; differentiable in ``part``."""
        if self.length is None:
            return part
        return torch.slice_scatter(tensor, part, self.dim, self.start, self.start + self.length)


@dataclass(frozen=True)
class Block:
    """Parameters, or slices of them, that form one diagonal block of the Hessian.

    Attributes:
        name: in tables and pictures.
        slices: in the order of a vector's entries.
    """

    name: str
    slices: tuple[ParameterSlice, ...]

    def of(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The block's entries ``[size]`` of one tensor per parameter: of a gradient, or of an optimizer's state."""
        return torch.cat([part.of(tensors[part.parameter]).flatten() for part in self.slices])

    def size(self, tensors: Mapping[str, Tensor]) -> int:
        """Number of entries, given one tensor per parameter."""
        return sum(part.of(tensors[part.parameter]).numel() for part in self.slices)


QUERY_KEY_VALUE = ("query", "key", "value")
"""The order of the parts in fused attention projections."""

FUSED_PROJECTIONS = ("c_attn", "qkv")
"""Names of linear layers that concatenate the attention projections."""

PARTS_BY_WIDTH: dict[float, tuple[str, ...]] = {3: QUERY_KEY_VALUE, 2: QUERY_KEY_VALUE[1:]}
"""Parts of a fused projection by outputs per input; GPT2's cross-attention has a separate query layer."""

HEAD_COUNTS = ("num_heads", "num_attention_heads", "n_head")
"""Attributes of attention modules that hold the number of heads."""

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.MultiheadAttention)
"""Layers whose weights have one row per output neuron."""

NORMS = (nn.LayerNorm, nn.RMSNorm)
"""Normalisation layers whose weights may have more than one dimension."""


def partition(model: nn.Module, kind: str = "default") -> list[Block]:
    """Cut the trained parameters of a model into blocks, in the order of ``named_parameters``.

    Args:
        model: any module.
        kind: how to cut:

            - ``default``: one block per parameter; the fused projections of GPT2 (``c_attn``), timm (``qkv``) and
              ``nn.MultiheadAttention`` (``in_proj``) become query, key and value;
            - ``weights``: the same without biases and normalisation layers;
            - ``heads``: query, key and value weights only, cut by attention head;
            - ``neurons``: linear and convolutional weights only, cut by output neuron or channel;
            - ``full``: one block of all.

    Raises:
        UserError: the kind is unknown, or the model has no such block.
    """
    if kind not in PARTITIONS:
        raise UserError(f"hessian.blocks: there is no partition {kind!r}; {nearest(kind, PARTITIONS)}")
    blocks = [block for name, tensor in _trained(model) for block in PARTITIONS[kind](model, name, tensor)]
    if not blocks:
        raise UserError(f"hessian.blocks: a {type(model).__name__} has no trained parameters for the partition {kind}")
    if kind == "full":
        return [Block("full", tuple(part for block in blocks for part in block.slices))]
    return blocks


def covering(blocks: Sequence[Block]) -> Block:
    """One block of all parameters of which some blocks have a slice."""
    names = dict.fromkeys(part.parameter for block in blocks for part in block.slices)
    return Block("all", tuple(ParameterSlice(name) for name in names))


def _trained(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, tensor) for name, tensor in model.named_parameters() if tensor.requires_grad]


def _whole(model: nn.Module, name: str, tensor: Tensor) -> list[Block]:
    return [Block(name, (ParameterSlice(name),))]


def _attention_parts(model: nn.Module, name: str, tensor: Tensor) -> list[Block]:
    """A parameter as one block, or as several where it is a fused attention projection."""
    layer, _, own_name = name.rpartition(".")
    module = model.get_submodule(layer)
    parts = _fused_parts(module, layer.rpartition(".")[2], own_name)
    if not parts:
        return _whole(model, name, tensor)
    dim = _output_dim(module, tensor)
    length = tensor.shape[dim] // len(parts)
    return [Block(f"{name}.{part}", (ParameterSlice(name, dim, i * length, length),)) for i, part in enumerate(parts)]


def _fused_parts(module: nn.Module, layer: str, own_name: str) -> tuple[str, ...]:
    """The projections concatenated in a parameter; none if it is not fused."""
    if isinstance(module, nn.MultiheadAttention):
        return QUERY_KEY_VALUE if own_name.startswith("in_proj") else ()
    if layer not in FUSED_PROJECTIONS:
        return ()
    weight = module.get_parameter("weight")
    dim = _output_dim(module, weight)
    return PARTS_BY_WIDTH.get(weight.shape[dim] / weight.shape[1 - dim], ())


def _weights(model: nn.Module, name: str, tensor: Tensor) -> list[Block]:
    module = model.get_submodule(name.rpartition(".")[0])
    if tensor.dim() < 2 or isinstance(module, NORMS):
        return []
    return _attention_parts(model, name, tensor)


def _heads(model: nn.Module, name: str, tensor: Tensor) -> list[Block]:
    blocks = []
    for block in _weights(model, name, tensor):
        if not set(QUERY_KEY_VALUE) & set(block.name.split(".")[-2:]):
            continue
        (part,) = block.slices
        dim = _output_dim(model.get_submodule(name.rpartition(".")[0]), tensor)
        heads = _head_count(model, name)
        length = part.of(tensor).shape[dim] // heads
        blocks += [
            Block(f"{block.name}.head{head}", (ParameterSlice(name, dim, part.start + head * length, length),))
            for head in range(heads)
        ]
    return blocks


def _head_count(model: nn.Module, name: str) -> int:
    """The number of heads, from the nearest enclosing module that has it."""
    path = name.split(".")
    for depth in range(len(path) - 1, -1, -1):
        module = model.get_submodule(".".join(path[:depth]))
        for attribute in HEAD_COUNTS:
            if isinstance(count := getattr(module, attribute, None), int):
                return count
    raise UserError(f"hessian.blocks: no module around {name} says how many heads it has")


def _neurons(model: nn.Module, name: str, tensor: Tensor) -> list[Block]:
    module = model.get_submodule(name.rpartition(".")[0])
    if tensor.dim() < 2 or not (isinstance(module, LAYERS) or _is_transposed_linear(module)):
        return []
    dim = _output_dim(module, tensor)
    return [Block(f"{name}.{neuron}", (ParameterSlice(name, dim, neuron, 1),)) for neuron in range(tensor.shape[dim])]


def _output_dim(module: nn.Module, tensor: Tensor) -> int:
    """The dimension of a weight or bias that indexes outputs."""
    return tensor.dim() - 1 if _is_transposed_linear(module) else 0


def _is_transposed_linear(module: nn.Module) -> bool:
    """Whether it is transformers' Conv1D, whose weights are [inputs, outputs]."""
    return type(module).__name__ == "Conv1D"


PARTITIONS = {
    "default": _attention_parts,
    "weights": _weights,
    "heads": _heads,
    "neurons": _neurons,
    "full": _whole,
}
"""How each kind of partition cuts one parameter."""


def select_blocks(model: nn.Module, blocks: str | Sequence[str] | Sequence[Block]) -> list[Block]:
    """The blocks of a partition, or those that match globs.

    Args:
        model: any module.
        blocks: a kind of ``partition``, one or several globs for names of the default partition, or blocks.

    Raises:
        UserError: nothing has such a name.
    """
    if isinstance(blocks, str):
        if blocks in PARTITIONS:
            return partition(model, blocks)
        blocks = [blocks]
    if own := [block for block in blocks if isinstance(block, Block)]:
        return own
    return matching(partition(model), [str(glob) for glob in blocks])


def select_parameters(model: nn.Module, names: str | Sequence[str] | None) -> Block:
    """One block of all parameters, or else blocks of the default partition, that match the names or globs.

    Args:
        model: any module.
        names: names or globs; all trained parameters by default.

    Raises:
        UserError: a glob matches nothing.
    """
    whole = partition(model, "full")[0]
    if names is None:
        return whole
    names = [names] if isinstance(names, str) else list(names)
    slices: list[ParameterSlice] = []
    for glob in names:
        fitting = [part for part in whole.slices if fnmatchcase(part.parameter, glob)]
        slices += fitting or [part for block in matching(partition(model), [glob]) for part in block.slices]
    return Block(", ".join(names), tuple(dict.fromkeys(slices)))


def matching(blocks: Sequence[Block], globs: Sequence[str]) -> list[Block]:
    """The blocks whose name matches one of the globs (``*`` matches dots too), in their order.

    Raises:
        UserError: a glob matches no block.
    """
    names = [block.name for block in blocks]
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in names):
            raise UserError(f"hessian.blocks: {glob!r} fits no parameter; {nearest(glob, names)}")
    return [block for block in blocks if any(fnmatchcase(block.name, glob) for glob in globs)]
