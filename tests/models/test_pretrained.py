"""A checkpoint on disk becomes the model that the settings describe, or is refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from whyadam.models import MODELS, Head

SIZES: dict[str, Any] = {"n_layer": 2, "n_embd": 16, "n_head": 2, "n_positions": 8}


def build(name: str, head: Head, **keys: Any) -> nn.Module:
    return MODELS[name].model_validate({"name": name, **SIZES, **keys}).build(head)


def saved(folder: Path, name: str, head: Head, **keys: Any) -> nn.Module:
    torch.manual_seed(3)
    model = build(name, head, **keys)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize(("name", "task"), [("gpt2_nano", "causal_lm"), ("bert_nano", "masked_lm")])
def test_weights_come_from_the_folder(tmp_path: Path, name: str, task: str) -> None:
    original = saved(tmp_path, name, Head(task, 30), dropout=0.3)
    torch.manual_seed(4)
    loaded = build(name, Head(task, 30), pretrained=str(tmp_path), dropout=0.2, attention="eager")
    weights = loaded.state_dict()
    assert all(torch.equal(tensor, weights[key]) for key, tensor in original.state_dict().items())
    assert all(module.training for module in loaded.modules())
    assert {module.p for module in loaded.modules() if isinstance(module, nn.Dropout)} == {0.2}
    assert loaded.config._attn_implementation == "eager"
    assert loaded.config.use_cache is False


def test_a_folder_below_the_home_folder_may_be_written_with_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "checkpoint", "gpt2_nano", Head("causal_lm", 30))
    monkeypatch.setenv("HOME", str(tmp_path))
    build("gpt2_nano", Head("causal_lm", 30), pretrained="~/checkpoint")


def test_loading_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Transformers reports what it loads, with a bar; a missing head makes it say more."""
    saved(tmp_path, "bert_nano", Head("masked_lm", 30))
    capfd.readouterr()
    with caplog.at_level(logging.INFO):
        build("bert_nano", Head("question_answering", 30), pretrained=str(tmp_path))
    assert capfd.readouterr() == ("", "")
    assert caplog.messages == []


def test_a_new_head_is_random_and_the_body_is_loaded(tmp_path: Path) -> None:
    original = saved(tmp_path, "bert_nano", Head("masked_lm", 30))
    heads = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        model = build("bert_nano", Head("question_answering", 30), pretrained=str(tmp_path))
        body = model.bert.state_dict()
        assert all(torch.equal(tensor, body[key]) for key, tensor in original.bert.state_dict().items())
        heads.append(model.qa_outputs.weight)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_half_precision_checkpoints_are_loaded_in_float32(tmp_path: Path) -> None:
    saved(tmp_path, "gpt2_nano", Head("causal_lm", 30)).half().save_pretrained(tmp_path)
    loaded = build("gpt2_nano", Head("causal_lm", 30), pretrained=str(tmp_path))
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("keys", "outputs", "line"),
    [
        ({"n_layer": 3}, 30, r"^model.n_layer: .* has 2, not 3; set it to that$"),
        ({"n_head": 4}, 30, r"^model.n_head: .* has 2, not 4"),
        ({"n_embd": 32}, 30, r"^model.n_embd: .* has 16, not 32"),
        ({"n_positions": 9}, 30, r"^model.n_positions: .* has 8, not 9"),
        ({}, 31, r"^model.pretrained: .* knows 30 tokens, the data's tokenizer 31; they must be the same$"),
    ],
)
def test_other_sizes_are_refused(tmp_path: Path, keys: dict[str, Any], outputs: int, line: str) -> None:
    saved(tmp_path, "gpt2_nano", Head("causal_lm", 30))
    with pytest.raises(ValueError, match=line):
        build("gpt2_nano", Head("causal_lm", outputs), pretrained=str(tmp_path), **keys)


@pytest.mark.parametrize(("name", "task"), [("gpt2_nano", "causal_lm"), ("bert_nano", "masked_lm")])
def test_another_inner_width_is_refused(tmp_path: Path, name: str, task: str) -> None:
    """Transformers' families call it by different names, and GPT-2's configuration may leave it out."""
    saved(tmp_path, name, Head(task, 30), n_inner=40)
    with pytest.raises(ValueError, match=r"^model.n_inner: .* has 40, not 64; set it to that$"):
        build(name, Head(task, 30), pretrained=str(tmp_path))


def test_a_stock_gpt2_checkpoint_has_four_times_the_width_inside(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    stock = GPT2Config(vocab_size=30, n_layer=2, n_embd=16, n_head=2, n_positions=8, bos_token_id=1, eos_token_id=1)
    assert stock.n_inner is None
    GPT2LMHeadModel(stock).save_pretrained(tmp_path)
    build("gpt2_nano", Head("causal_lm", 30), pretrained=str(tmp_path))


def test_another_family_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, "gpt2_nano", Head("causal_lm", 30))
    with pytest.raises(ValueError, match=r"^model.pretrained: .* is a gpt2, not a bert$"):
        build("bert_nano", Head("masked_lm", 30), pretrained=str(tmp_path))


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^model.pretrained: cannot load .*$") as refusal:
        build("gpt2_nano", Head("causal_lm", 30), pretrained=str(tmp_path))
    assert "\n" not in str(refusal.value)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Transformers would take the path for a name on its hub."""
    with pytest.raises(ValueError, match=r"^model.pretrained: there is no folder .*nowhere$"):
        build("gpt2_nano", Head("causal_lm", 30), pretrained=str(tmp_path / "nowhere"))


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, "gpt2_nano", Head("causal_lm", 30))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"^model.pretrained: cannot load .*$") as refusal:
        build("gpt2_nano", Head("causal_lm", 30), pretrained=str(tmp_path))
    assert "\n" not in str(refusal.value)


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    """Transformers would fill the gap with random numbers."""
    saved(tmp_path, "gpt2_nano", Head("causal_lm", 30))
    weights = load_file(tmp_path / "model.safetensors")
    del weights["transformer.h.1.mlp.c_fc.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks weights, transformer.h.1.mlp.c_fc.weight for one$"):
        build("gpt2_nano", Head("causal_lm", 30), pretrained=str(tmp_path))
