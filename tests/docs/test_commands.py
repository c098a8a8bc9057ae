"""Every command and snippet of README, CONTRIBUTING and docs against the program as it is; nothing is trained."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from whyadam.cli import app
from whyadam.configs.load import config_path, load_experiment
from whyadam.errors import UserError
from whyadam.studies.run import known_studies

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLLOWED = "adding.md"
"""A test of its own runs what this page says, with the files that it shows."""

VARIABLES = {"$optimizer": "adam", "$lr": "0.01", "$seed": "0"}
"""What the loops of the pages go over, by one of its values."""

SKETCHES = ("architecture.md", "optimizers.md")
"""Python that is not run here: interfaces without bodies, and snippets that a test of their own runs."""

READS_CONFIG = ("train", "sweep", "noise", "hessian", "validate", "show", "path")
CONFIG_ALONE = ("train", "validate", "show", "path")
"""Those that take nothing else; the others take run folders or sweep files too."""


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pages' paths begin there."""
    monkeypatch.chdir(ROOT)


def _shell_commands(blocks: list[Any]) -> Iterator[list[str]]:
    for block in blocks:
        if block.language == "sh":
            for line in block.commands():
                for variable, value in VARIABLES.items():
                    line = line.replace(variable, value)
                if line.startswith("whyadam "):
                    yield shlex.split(line, comments=True)[1:]


def _commands_in_text(page: Path) -> Iterator[list[str]]:
    """Those between single backticks, whole ones and names of subcommands alike."""
    without_blocks = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for found in re.findall(r"`whyadam ([^`]+)`", without_blocks):
        if "…" not in found:
            yield shlex.split(found.replace("\n", " "))


def _parse(words: list[str], *, whole: bool) -> None:
    """As the program would; only a whole command must have all its arguments.

    Raises:
        Exception: click's, of a command, an option or a value that does not exist.
    """
    command: Any = typer.main.get_command(app)
    context = command.context_class(command)
    while words and hasattr(command, "resolve_command"):
        _, command, words = command.resolve_command(context, words)
        context = command.context_class(command)
    if whole or words:
        command.make_context(command.name, list(words))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_parses(page: Path, blocks: Callable[[Path], list[Any]]) -> None:
    """An option that was renamed, a subcommand that is gone."""
    for whole, commands in ((True, _shell_commands(blocks(page))), (False, _commands_in_text(page))):
        for words in commands:
            try:
                _parse(words, whole=whole)
            except Exception as error:
                if not whole and str(error).startswith("Missing"):
                    continue
                pytest.fail(f"{page.name}: whyadam {shlex.join(words)}: {error}")


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != FOLLOWED], ids=lambda page: page.name)
def test_every_named_config_is_there_and_takes_its_overrides(page: Path, blocks: Callable[[Path], list[Any]]) -> None:
    """A config that was renamed, a key that it no longer has."""
    for subcommand, *words in _shell_commands(blocks(page)):
        files = [path for word in words if word.endswith(".yaml") for path in ROOT.glob(word)]
        assert bool(files) == any(word.endswith(".yaml") for word in words), f"{page.name}: {words}"
        named = [word for word in words[:1] if subcommand in READS_CONFIG and re.match(r"(quick|gpu|paper)/", word)]
        configs = [*files, *map(config_path, named)]
        if subcommand in CONFIG_ALONE:
            assert configs, f"{page.name}: {words}"
        if subcommand in READS_CONFIG:
            changes = [value for option, value in pairwise(words) if option == "-s"]
            for config in configs:
                load_experiment(config, changes)
        if subcommand == "reproduce" and words and not words[0].startswith("-"):
            assert words[0] in known_studies(), f"{page.name}: {words}"


def test_a_wrong_command_would_be_seen() -> None:
    """A check that lets everything pass."""
    for words in (["trian"], ["train"], ["train", "a.yaml", "--sed", "1"], ["figure", "lots", "runs"]):
        with pytest.raises(Exception, match=r"No such|Missing"):
            _parse(words, whole=True)
    with pytest.raises(UserError, match="did you mean momentum"):
        load_experiment(ROOT / "configs/quick/mlp_mnist5k.yaml", ["optimizer.momentun=0.9"])


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != FOLLOWED], ids=lambda page: page.name)
def test_every_snippet_runs(page: Path, blocks: Callable[[Path], list[Any]]) -> None:
    """A name that was moved or renamed. The snippets of a page are one program; `model` is a small network."""
    import torch

    program = {"model": torch.nn.Linear(4, 3)}
    for block in blocks(page):
        if block.language == "yaml":
            assert yaml.safe_load(block.text), f"{page.name}: {block.text}"
        if block.language == "python" and page.name not in SKETCHES:
            exec(compile(ast.parse(block.text), str(page), "exec"), program)
