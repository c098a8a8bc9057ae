"""docs/architecture.md against the code: its map, its table of questions; the size of modules; no import cycle."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
NOT_THE_PRODUCT = {"tests", "build", "site", "runs"}

GOALS = {
    "What exactly does GClip do in a step?": 3,
    "What happens in one training step, from the batch to the row of metrics.csv?": 4,
    "How is a noise verdict made from gradients?": 5,
    "How is the spectrum of a block made?": 4,
    "How does a claim get its verdict, from the study's YAML on?": 8,
    "How does masked language modelling work here?": 2,
    "Where do I add a command?": 1,
    "Where do I add a picture?": 1,
    "Where do I add a quantity?": 1,
}
"""The most files that a question may open."""


def _modules() -> list[Path]:
    """All Python files outside the tests, relative to the root."""
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*.py"))
    return sorted(path for path in found if path.parts[0] not in NOT_THE_PRODUCT and not path.parts[0].startswith("."))


MODULES = _modules()
PACKAGE = [path for path in MODULES if path.parts[0] != "scripts"]


@cache
def _imports(path: Path, *, type_only: bool = True) -> frozenset[Path]:
    """The project's modules that a module imports anywhere, in functions and stubs too.

    Args:
        path: of the module, relative to the root.
        type_only: count what stands below ``if TYPE_CHECKING`` too.
    """
    imported = set(_imports_of(ast.parse((ROOT / path).read_text(encoding="utf-8")), path, type_only))
    stub = path.with_suffix(".pyi")
    if (ROOT / stub).exists():
        imported |= set(_imports_of(ast.parse((ROOT / stub).read_text(encoding="utf-8")), path, type_only))
    return frozenset(imported - {path})


def _imports_of(tree: ast.AST, path: Path, type_only: bool) -> Iterator[Path]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ImportFrom):
            yield from _resolve(node, path)
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.name.partition(".")[0] == "whyadam" and (found := _module(name.name.split(".")[1:])):
                    yield found
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.body if type_only else []:
                yield from _imports_of(ast.Module([child], []), path, type_only)
            for child in node.orelse:
                yield from _imports_of(ast.Module([child], []), path, type_only)
        else:
            yield from _imports_of(node, path, type_only)


def _resolve(node: ast.ImportFrom, path: Path) -> Iterator[Path]:
    """The modules named by ``from ... import ...``: a name may be a submodule or belong to the module itself."""
    names = node.module.split(".") if node.module else []
    if node.level:
        parents = path.parts[:-1]
        base = [*parents[: len(parents) - node.level + 1], *names]
    elif names[:1] == ["whyadam"]:
        base = names[1:]
    else:
        return
    for name in node.names:
        if found := _module([*base, name.name]) or _module(base):
            yield found


def _module(parts: list[str]) -> Path | None:
    for path in (Path(*parts[:-1], f"{parts[-1]}.py") if parts else None, Path(*parts, "__init__.py")):
        if path is not None and (ROOT / path).exists():
            return path
    return None


def _cells(section: str) -> list[list[str]]:
    """The rows of the first table below a heading of the page, without its header."""
    _, found, after = PAGE.partition(f"## {section}\n")
    assert found, f"no section {section}"
    lines = [line for line in after.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def _named(cell: str) -> list[Path]:
    return [Path(name) for name in re.findall(r"`([^`]+)`", cell)]


QUESTIONS = {question: _named(files) for question, files in _cells("A question, and the files it opens")}
CLOSED = {
    question: {Path(path): reason for path, reason in re.findall(r"`([^`]+)` \(([^)]+)\)", files)}
    for question, files in _cells("What these files import besides")
}
GENERAL = _named(PAGE.partition("<!-- general: ")[2].partition("-->")[0])


def test_every_question_of_the_goals_is_answered() -> None:
    """A question that was dropped, or one that no goal limits."""
    assert list(QUESTIONS) == list(GOALS)


@pytest.mark.parametrize("question", GOALS)
def test_a_question_opens_few_files_and_all_of_them_exist(question: str) -> None:
    """A module that was moved, or that a second file has joined."""
    files = QUESTIONS[question]
    assert 0 < len(files) <= GOALS[question]
    assert not [path for path in files if path not in MODULES]


@pytest.mark.parametrize("question", [question for question, goal in GOALS.items() if goal > 1])
def test_a_question_needs_no_other_file(question: str) -> None:
    """A rule that moved into a helper module: the reader would have to open that too.

    What the files import must be among them, or be general (errors, settings …), or be named on the page with the
    reason why the reader may leave it closed.
    """
    files = QUESTIONS[question]
    imported = {other for path in files for other in _imports(path, type_only=False)} - set(files) - set(GENERAL)
    closed = CLOSED[question]
    assert sorted(map(str, imported - set(closed))) == [], "imported, neither in the row nor excused on the page"
    assert sorted(map(str, set(closed) - imported)) == [], "excused on the page, but not imported"
    assert all(len(reason) > 10 for reason in closed.values())


def test_general_modules_exist_and_import_only_each_other() -> None:
    """A reason to leave a file closed that has become none."""
    assert not [path for path in GENERAL if path not in MODULES]
    assert {other for path in GENERAL for other in _imports(path)} <= set(GENERAL)


def test_the_map_lists_every_module_once() -> None:
    """A module that was added, moved or merged, and not on the page."""
    listed = [
        Path(package, name)
        for package, modules in re.findall(r"^### (\S+)/\n(.*?)(?=^##)", PAGE, flags=re.MULTILINE | re.DOTALL)
        for name in re.findall(r"^- `([^`]+\.py)`", modules, flags=re.MULTILINE)
    ]
    top = PAGE.partition("### The root\n")[2].partition("\n##")[0]
    listed += [Path(name) for name in re.findall(r"^- `([^`]+\.py)`", top, flags=re.MULTILINE)]
    assert len(listed) == len(set(listed))
    described = {path for path in PACKAGE if path.name not in ("__init__.py", "__main__.py")}
    assert sorted(map(str, described - set(listed))) == [], "not on the page"
    assert sorted(map(str, set(listed) - described)) == [], "on the page, but not there"


def test_modules_are_few_and_none_is_long() -> None:
    """A file that grew past what one reads in a sitting; a topic cut into pieces again."""
    assert len(MODULES) <= 170
    lines = {str(path): len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {path: count for path, count in lines.items() if count > 500} == {}


def test_no_module_imports_itself_through_others() -> None:
    """An import inside a function or below TYPE_CHECKING that hides a cycle."""
    try:
        TopologicalSorter({path: _imports(path) for path in PACKAGE}).prepare()
    except CycleError as error:
        # graphlib lists a node after what imports it.
        pytest.fail(" imports ".join(map(str, reversed(error.args[1]))))


@pytest.mark.parametrize("module", ["cli", "configs.load", "figures.runs", "figures.tuning", "settings"])
def test_light_modules_import_nothing_heavy(module: str) -> None:
    """An import at the top of a file that makes ``--help``, ``validate`` or a table of runs take seconds."""
    heavy = {"torch", "pandas", "scipy", "transformers", "datasets", "matplotlib"}
    code = f"import sys, whyadam.{module}; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_graph_sees_imports_in_functions_stubs_and_type_checks() -> None:
    """A walk that skips a kind of import would find no cycle."""
    page = Path("cli/figure.py")
    type_only = "if TYPE_CHECKING:\n from ..errors import UserError\n"
    tree = ast.parse(f"{type_only}def f():\n from . import train\nimport whyadam.seeds\n")
    assert set(_imports_of(tree, page, type_only=True)) == {Path("errors.py"), Path("cli/train.py"), Path("seeds.py")}
    assert set(_imports_of(tree, page, type_only=False)) == {Path("cli/train.py"), Path("seeds.py")}
    assert Path("optimizers/clipped_sgd.py") in _imports(Path("optimizers/__init__.py"))
