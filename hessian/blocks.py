"""Blocks: the groups of parameters whose own Hessians are measured.

Cutting the parameters of a model into blocks.

Choosing blocks by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..settings import nearest


@dataclass(frozen=True)
class Piece:
    """A parameter, or what lies between two indices of one of its dimensions.

    Attributes:
        parameter: its name in ``named_parameters``.
        dim: the dimension that is cut.
        start: first index.
        length: number of indices; None for the whole parameter.
    """

    parameter: str
    dim: int = 0
    start: int = 0
    length: int | None = None

    def of(self, tensor: Tensor) -> Tensor:
        """The piece of the parameter's value, or of anything with its shape; a view."""
        return tensor if self.length is None else tensor.narrow(self.dim, self.start, self.length)

    def put(self, piece: Tensor, tensor: Tensor) -> Tensor:
        """A copy of ``tensor`` with this piece of it replaced; differentiable in ``piece``."""
        if self.length is None:
            return piece
        return torch.slice_scatter(tensor, piece, self.dim, self.start, self.start + self.length)


@dataclass(frozen=True)
class Block:
    """Parameters, or pieces of them, that form one diagonal block of the Hessian.

    Attributes:
        name: what tables and pictures call it.
        pieces: what it is made of, in the order in which vectors hold it.
    """

    name: str
    pieces: tuple[Piece, ...]

    def of(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The block's entries ``[size]`` of one tensor a parameter: of a gradient, or of an optimizer's state."""
        return torch.cat([piece.of(tensors[piece.parameter]).flatten() for piece in self.pieces])

    def size(self, tensors: Mapping[str, Tensor]) -> int:
        """Number of entries, given one tensor a parameter."""
        return sum(piece.of(tensors[piece.parameter]).numel() for piece in self.pieces)


QUERY_KEY_VALUE = ("query", "key", "value")
"""The order in which fused attention projections hold their parts."""

FUSED_PROJECTIONS = ("c_attn", "qkv")
"""Names of linear layers that are the three attention projections at once, one after the other."""

PARTS_BY_WIDTH: dict[float, tuple[str, ...]] = {3: QUERY_KEY_VALUE, 2: QUERY_KEY_VALUE[1:]}
"""Parts of a fused projection by outputs per input; in GPT2's cross-attention the query has a layer of its own."""

HEAD_COUNTS = ("num_heads", "num_attention_heads", "n_head")
"""Names under which attention modules keep their number of heads."""

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.MultiheadAttention)
"""Layers whose weights have one row an output neuron."""

NORMS = (nn.LayerNorm, nn.RMSNorm)
"""Normalisation layers whose weights may have more than one dimension, like a matrix."""


def partition(model: nn.Module, kind: str = "default") -> list[Block]:
    """Cut the trained parameters of a model into blocks, in the order of ``named_parameters``.

    Args:
        model: any module.
        kind: how to cut:

            - ``default``: a block is a parameter; the fused projections of GPT2 (``c_attn``), timm (``qkv``) and
              ``nn.MultiheadAttention`` (``in_proj``) become query, key and value;
            - ``weights``: the same without biases and normalisation layers;
            - ``heads``: query, key and value weights alone, cut by attention head;
            - ``neurons``: linear and convolutional weights alone, cut by output neuron or channel;
            - ``full``: everything is one block.

    Raises:
        UserError: the kind is unknown, or the model has nothing of it.
    """
    if kind not in PARTITIONS:
        raise UserError(f"hessian.blocks: there is no partition {kind!r}; {nearest(kind, PARTITIONS)}")
    blocks = [block for name, tensor in _trained(model) for block in PARTITIONS[kind](model, name, tensor)]
    if not blocks:
        raise UserError(f"hessian.blocks: a {type(model).__name__} has no trained parameters for the partition {kind}")
    if kind == "full":
        return [Block("full", tuple(piece for block in blocks for piece in block.pieces))]
    return blocks


def _trained(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, tensor) for name, tensor in model.named_parameters() if tensor.requires_grad]


def _whole(model: nn.Module, name: str, tensor: Tensor) -> list[Block]:
    return [Block(name, (Piece(name),))]


def _attention_parts(model: nn.Module, name: str, tensor: Tensor) -> list[Block]:
    """A parameter as one block, or as several where it is a fused attention projection."""
    layer, _, own_name = name.rpartition(".")
    module = model.get_submodule(layer)
    parts = _fused_parts(module, layer.rpartition(".")[2], own_name)
    if not parts:
        return _whole(model, name, tensor)
    dim = _output_dim(module, tensor)
    length = tensor.shape[dim] // len(parts)
    return [Block(f"{name}.{part}", (Piece(name, dim, i * length, length),)) for i, part in enumerate(parts)]


def _fused_parts(module: nn.Module, layer: str, own_name: str) -> tuple[str, ...]:
    """The projections that a parameter holds one after the other; none if it is not fused."""
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
        (piece,) = block.pieces
        dim = _output_dim(model.get_submodule(name.rpartition(".")[0]), tensor)
        heads = _head_count(model, name)
        length = piece.of(tensor).shape[dim] // heads
        blocks += [
            Block(f"{block.name}.head{head}", (Piece(name, dim, piece.start + head * length, length),))
            for head in range(heads)
        ]
    return blocks


def _head_count(model: nn.Module, name: str) -> int:
    """The number of heads that the nearest module around a parameter knows."""
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
    return [Block(f"{name}.{neuron}", (Piece(name, dim, neuron, 1),)) for neuron in range(tensor.shape[dim])]


def _output_dim(module: nn.Module, tensor: Tensor) -> int:
    """The dimension of a weight or bias that counts outputs."""
    return tensor.dim() - 1 if _is_transposed_linear(module) else 0


def _is_transposed_linear(module: nn.Module) -> bool:
    """Whether it is one of the linear layers of GPT2 in transformers, whose weights are [inputs, outputs]."""
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
    """The blocks that a name of a partition, globs or a list of blocks stand for.

    Args:
        model: any module.
        blocks: what ``partition`` knows, or a glob or several for names of the default partition, or blocks.

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
    """One block of all that the names or globs stand for: parameters, else blocks of the default partition.

    Args:
        model: any module.
        names: names or globs; all trained parameters by default.

    Raises:
        UserError: a glob fits nothing.
    """
    whole = partition(model, "full")[0]
    if names is None:
        return whole
    names = [names] if isinstance(names, str) else list(names)
    pieces: list[Piece] = []
    for glob in names:
        fitting = [piece for piece in whole.pieces if fnmatchcase(piece.parameter, glob)]
        pieces += fitting or [piece for block in matching(partition(model), [glob]) for piece in block.pieces]
    return Block(", ".join(names), tuple(dict.fromkeys(pieces)))


def matching(blocks: Sequence[Block], globs: Sequence[str]) -> list[Block]:
    """Those blocks whose name fits one of the globs (``*`` fits dots too), in their own order.

    Raises:
        UserError: a glob fits no block.
    """
    names = [block.name for block in blocks]
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in names):
            raise UserError(f"hessian.blocks: {glob!r} fits no parameter; {nearest(glob, names)}")
    return [block for block in blocks if any(fnmatchcase(block.name, glob) for glob in globs)]
