"""docs/trust.md against the tests: every test that it names is there, every row on small inputs names one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
_, SMALL_INPUTS, *_ = re.split(r"^(?=## Small inputs|## What this found)", PAGE, flags=re.MULTILINE)
ROWS = [line for line in SMALL_INPUTS.splitlines() if re.match(r"\| (?!input |what \|)", line)]


def test_every_test_that_the_page_names_is_there() -> None:
    """A test that was renamed, moved or removed under a line that promises it."""
    for file, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE):
        assert (ROOT / file).is_file(), f"{file} is gone"
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        found = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        assert not name or name in found, f"{file} has no {name}"


def test_every_row_on_small_inputs_names_a_test() -> None:
    assert len(ROWS) >= 40
    for row in ROWS:
        *_, tests, _ = row.split("|")
        assert re.search(r"`tests/[\w/]+\.py(::test_\w+)?`", tests), row
