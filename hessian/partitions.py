"""Cutting the parameters of a model into blocks."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import UserError
from ..names import nearest
from .blocks import Block, Piece

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
