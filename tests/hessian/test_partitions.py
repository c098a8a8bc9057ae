"""Which parameters form a block, model by model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from whyadam.errors import UserError
from whyadam.hessian import Block, ParameterSlice, matching, partition, select_blocks
from whyadam.models import MODELS, Head

TINY = {"n_layer": 1, "n_embd": 16, "n_head": 2, "dropout": 0.0}
STAGES = [1, 1, 1, 1]
REGISTRY: dict[str, tuple[dict[str, Any], Head]] = {
    "mlp": ({"hidden": [4]}, Head("classification", 3, 8)),
    "resnet18": ({"layers": STAGES, "stem": "small"}, Head("classification", 3, 8)),
    "vgg16": ({"layers": [1, *STAGES], "head": "small"}, Head("classification", 3, 32)),
    "vit_nano": ({**TINY, "patch_size": 4}, Head("classification", 3, 8)),
    "gpt2_nano": ({**TINY, "n_positions": 4}, Head("causal_lm", 7)),
    "bert_nano": ({**TINY, "n_positions": 4}, Head("masked_lm", 7)),
}


def build(name: str) -> nn.Module:
    options, head = REGISTRY[name]
    return MODELS[name].model_validate({"name": name, **options}).build(head)


def names(model: nn.Module, kind: str = "default") -> list[str]:
    return [block.name for block in partition(model, kind)]


def entries(model: nn.Module, blocks: list[Block]) -> list[int]:
    """How often the blocks hold each parameter's entries, smallest and largest."""
    counts = {name: torch.zeros(parameter.shape) for name, parameter in model.named_parameters()}
    for block in blocks:
        for part in block.slices:
            part.of(counts[part.parameter]).add_(1)
    flat = torch.cat([count.flatten() for count in counts.values()])
    return [int(flat.min()), int(flat.max())]


@pytest.mark.parametrize("name", REGISTRY)
def test_default_partition_holds_every_parameter_once(name: str) -> None:
    """A part cut from the wrong dimension would overlap or miss another."""
    model = build(name)
    assert entries(model, partition(model)) == [1, 1]
    assert len(set(names(model))) == len(names(model))


@pytest.mark.parametrize("name", ["vit_nano", "gpt2_nano", "bert_nano"])
def test_attention_is_query_key_and_value(name: str) -> None:
    """As many of each as layers, of the same size, in that order."""
    model = build(name)
    sizes = dict(model.named_parameters())
    blocks = partition(model, "weights")
    for part in ("query", "key", "value"):
        (block,) = (block for block in blocks if part in block.name.split("."))
        assert block.of(sizes).numel() == 16 * 16
    order = [part for block in blocks for part in ("query", "key", "value") if part in block.name]
    assert order == ["query", "key", "value"]


def test_gpt2_value_is_the_last_third_of_the_columns() -> None:
    model = build("gpt2_nano")
    (value,) = matching(partition(model), ["*c_attn.weight.value"])
    weight = model.get_parameter("transformer.h.0.attn.c_attn.weight")
    assert torch.equal(value.of(dict(model.named_parameters())), weight[:, 32:].flatten())


def test_torch_attention_is_cut_by_rows() -> None:
    model = nn.MultiheadAttention(4, 2)
    (key,) = matching(partition(model), ["in_proj_weight.key"])
    assert torch.equal(key.of(dict(model.named_parameters())), model.in_proj_weight[4:8].flatten())
    assert "out_proj.weight" in names(model)


def test_linear_c_attn_is_cut_by_rows_and_other_linear_layers_are_not() -> None:
    """As in nanoGPT, whose fused projection is a plain linear layer."""
    model = nn.ModuleDict({"c_attn": nn.Linear(4, 12), "wide": nn.Linear(4, 12)})
    assert names(model) == [
        *(f"c_attn.{kind}.{part}" for kind in ("weight", "bias") for part in ("query", "key", "value")),
        "wide.weight",
        "wide.bias",
    ]


def test_cross_attention_holds_key_and_value() -> None:
    model = nn.ModuleDict({"c_attn": nn.Linear(4, 8, bias=False)})
    assert names(model) == ["c_attn.weight.key", "c_attn.weight.value"]


@pytest.mark.parametrize("name", REGISTRY)
def test_weights_leave_out_biases_and_norms(name: str) -> None:
    found = names(build(name), "weights")
    assert not [name for name in found if "bias" in name or "norm" in name.lower() or ".bn" in name or "ln_" in name]
    assert found


@pytest.mark.parametrize("name", ["vit_nano", "gpt2_nano", "bert_nano"])
def test_heads_cut_query_key_and_value(name: str) -> None:
    """The heads of a part, put together, are the part."""
    model = build(name)
    parameters = dict(model.named_parameters())
    heads = partition(model, "heads")
    assert len(heads) == 3 * 2
    for part in ("query", "key", "value"):
        (whole,) = (block for block in partition(model, "weights") if part in block.name.split("."))
        slices = [
            block.slices[0].of(parameters[block.slices[0].parameter]) for block in heads if whole.name in block.name
        ]
        dim = whole.slices[0].dim
        together = torch.cat(slices, dim)
        assert torch.equal(together, whole.slices[0].of(parameters[whole.slices[0].parameter]))


def test_neurons_are_rows_of_linear_and_filters_of_convolutional_weights() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(3, 2), nn.LayerNorm((2, 2)), nn.Embedding(4, 2))
    blocks = partition(model, "neurons")
    assert [block.name for block in blocks] == ["0.weight.0", "0.weight.1", "0.weight.2", "2.weight.0", "2.weight.1"]
    parameters = dict(model.named_parameters())
    assert torch.equal(blocks[1].of(parameters), model[0].weight[1].flatten())
    assert torch.equal(blocks[4].of(parameters), model[2].weight[1])


def test_neurons_of_gpt2_are_columns() -> None:
    model = build("gpt2_nano")
    (neuron,) = matching(partition(model, "neurons"), ["*mlp.c_fc.weight.5"])
    weight = model.get_parameter("transformer.h.0.mlp.c_fc.weight")
    assert torch.equal(neuron.of(dict(model.named_parameters())), weight[:, 5])


def test_full_is_one_block_of_the_trained_parameters() -> None:
    model = build("mlp")
    model[1].weight.requires_grad_(False)
    (full,) = partition(model, "full")
    assert [part.parameter for part in full.slices] == ["1.bias", "3.weight", "3.bias"]


def test_globs_keep_the_order_of_the_network() -> None:
    model = build("gpt2_nano")
    chosen = select_blocks(model, ["*mlp.c_proj.weight", "*.value", "transformer.wte.weight"])
    assert [block.name.split(".", 1)[1] for block in chosen] == [
        "wte.weight",
        "h.0.attn.c_attn.weight.value",
        "h.0.attn.c_attn.bias.value",
        "h.0.mlp.c_proj.weight",
    ]


def test_selection_takes_partitions_globs_and_blocks() -> None:
    model = build("mlp")
    own = [Block("first row", (ParameterSlice("1.weight", 0, 0, 1),))]
    assert select_blocks(model, own) == own
    assert select_blocks(model, "weights") == partition(model, "weights")
    assert [block.name for block in select_blocks(model, "3.*")] == ["3.weight", "3.bias"]


@pytest.mark.parametrize(
    ("blocks", "fault"),
    [
        ("3.wieght", r"'3.wieght' fits no parameter; did you mean 3.weight\?"),
        (["3.*", "4.*"], r"'4.\*' fits no parameter"),
        ("heads", "no trained parameters for the partition heads"),
    ],
)
def test_blocks_that_are_not_there_are_refused(blocks: Any, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        select_blocks(build("mlp"), blocks)


def test_unknown_partition_is_refused() -> None:
    with pytest.raises(UserError, match=r"no partition 'head'; did you mean heads\?"):
        partition(build("gpt2_nano"), "head")


def test_attention_that_does_not_know_its_heads_is_refused() -> None:
    with pytest.raises(UserError, match="how many heads"):
        partition(nn.ModuleDict({"query": nn.Linear(4, 4)}), "heads")


def test_piece_is_put_back_where_it_came_from() -> None:
    whole, part = torch.arange(12.0).view(3, 4), ParameterSlice("w", 1, 1, 2)
    changed = part.put(-part.of(whole), whole)
    assert changed.tolist() == [[0, -1, -2, 3], [4, -5, -6, 7], [8, -9, -10, 11]]
    assert whole.min() == 0
