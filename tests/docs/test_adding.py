"""Follows docs/adding.md: its files and registry entries go into a copy of the package, then its commands are run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from whyadam.configs.load import identity
from whyadam.studies.claims import load_claims
from whyadam.studies.study import load_study
from whyadam.studies.sweeps.plan import plan

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "adding.md"
LEFT_OUT = (".*", "__pycache__", "build", "docs", "runs", "scripts", "site", "tests")
LONG = "whyadam reproduce depth"
"""Half a minute: a test of its own."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, blocks) -> Path:
    """A copy of the package with everything that the page adds."""
    folder = tmp_path_factory.mktemp("copy") / "whyadam"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for block in blocks(PAGE):
        if block.title is None:
            continue
        path = folder / block.title
        if block.language == "diff":
            path.write_text(_patched(path.read_text(), block.text))
        else:
            assert not path.exists(), f"{block.title} is there already"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
    return folder


def _patched(text: str, diff: str) -> str:
    """The text with a diff's hunks applied; each must fit in exactly one place."""
    for hunk in diff.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] in " -")
        after = "".join(line[1:] for line in lines if line[0] in " +")
        assert text.count(before) == 1, f"the page no longer fits:\n{before}"
        text = text.replace(before, after)
    return text


def _run(commands: list[str], copy: Path) -> str:
    driver = Path(__file__).with_name("one_process.py")
    environment = os.environ | {"PYTHONPATH": f"{copy.parent}{os.pathsep}{copy}", "PYTHONDONTWRITEBYTECODE": "1"}
    finished = subprocess.run(
        [sys.executable, driver],
        input="\n".join(commands),
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, f"{commands[finished.returncode - 1]}\n{finished.stdout}\n{finished.stderr}"
    return finished.stdout


def _commands(blocks) -> list[str]:
    return [
        line
        for block in blocks(PAGE)
        if block.language == "sh"
        for line in block.commands()
        if line.startswith(("whyadam ", "pytest "))
    ]


def test_the_page_works(copy: Path, blocks) -> None:
    """An interface that changed under the page: every file it shows is added, every short command run."""
    output = _run([line for line in _commands(blocks) if not line.startswith(LONG)], copy)
    assert output.count("done at step") == 4
    for expected in ("\nsoft_clip ", "\ndepth ", "2 passed"):
        assert expected in output
    folders = {path.name for path in (copy / "runs").iterdir()}
    assert folders == {"mine", "mlp-mnist5k", "conv", "stripes"}


def test_the_study_of_the_page_plans_its_runs(copy: Path) -> None:
    """A key of study files or claims that the page does not know of."""
    study = load_study(copy / "studies" / "depth.yaml")
    subjects = study.scales["quick"].sweeps
    identities = [identity(trial.experiment) for sweep in subjects.values() for trial in plan(sweep)]
    assert len(set(identities)) == len(identities) > 0
    assert all(claim.left in subjects for claim in load_claims(copy / "claims.yaml"))


@pytest.mark.slow
def test_the_study_of_the_page_runs(copy: Path, blocks) -> None:
    """A study that is listed but cannot be run, or that says nothing about its claim."""
    long = [line for line in _commands(blocks) if line.startswith(LONG)]
    output = _run([*long, "whyadam verify --claims claims.yaml"], copy)
    assert "summary.csv" in output
    assert "sgd-worse-on-the-deep-perceptron" in output
    assert "no summary" not in output
