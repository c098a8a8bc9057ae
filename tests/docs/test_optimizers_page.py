"""Runs every program of docs/optimizers.md, each in a folder with the others, as a reader would save them."""

from __future__ import annotations

import ast
import importlib.util
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "optimizers.md"
SHARED = "network.py"
QUICK = ["signatures.py", "loop.py", "schedule.py", "clip_grad_norm.py", "save_and_load.py", "grad_scaler.py"]
LONG = ["compile.py", "trainer.py", "lightning_module.py", "accelerated.py"]
LAUNCHED = "ddp.py"


@pytest.fixture
def folder(blocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All programs of the page; imported from there while the test runs."""
    for block in blocks(PAGE):
        if block.title is not None:
            (tmp_path / block.title).write_text(block.text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("network", None)


def _needs(program: Path) -> set[str]:
    """The packages that it imports."""
    tree = ast.walk(ast.parse(program.read_text()))
    return {
        name.partition(".")[0]
        for node in tree
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }


def test_every_program_is_run(blocks) -> None:
    """One that was added to the page and not here."""
    titles = [block.title for block in blocks(PAGE) if block.language == "python"]
    assert sorted(titles) == sorted([SHARED, *QUICK, *LONG, LAUNCHED])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in LONG)])
def test_a_program_trains(name: str, folder: Path) -> None:
    """A name that was moved, an argument that a library no longer takes, a model that stays as it was."""
    missing = {package for package in _needs(folder / name) if importlib.util.find_spec(package) is None}
    if missing or (name == "trainer.py" and importlib.util.find_spec("accelerate") is None):
        pytest.skip(f"not installed: {missing or 'accelerate'}")
    program = runpy.run_path(str(folder / name), run_name="__main__")
    if "model" in program:
        start = runpy.run_path(str(folder / SHARED))["model"].state_dict()
        for key, weight in program["model"].state_dict().items():
            assert torch.isfinite(weight).all()
            assert not torch.equal(weight, start[key]), key


@pytest.mark.slow
def test_the_launched_program_runs(blocks, folder: Path) -> None:
    (command,) = [line for block in blocks(PAGE) if block.language == "sh" for line in block.commands()]
    program, *words = shlex.split(command)
    assert (program, words[-1]) == ("torchrun", LAUNCHED)
    subprocess.run([sys.executable, "-m", "torch.distributed.run", *words], cwd=folder, check=True, timeout=300)
