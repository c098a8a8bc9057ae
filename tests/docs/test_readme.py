"""README's two tables of the demo against what the code prints, what the demo runs, and what the text says of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from whyadam.configs.load import ConfigError, load_experiment
from whyadam.figures import loss, noise

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEMO = (ROOT / "scripts" / "demo.sh").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Shown:
    """A table of the page."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def column(self, name: str) -> list[str]:
        """The cells of the first column with that name."""
        return [row[self.columns.index(name)] for row in self.rows]


def read_table(first: str) -> Shown:
    """The table whose header begins with a word; its columns begin where those of the header do."""
    (block,) = re.findall(rf"^```\n({first} .*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    header, rule, *lines = block.splitlines()
    assert set(rule) == {"-"}
    assert len(rule) == max(map(len, [header, *lines])), "a row that was edited by hand"
    starts = [match.start() for match in re.finditer(r"(?<!\S)\S+(?: \S+)*", header)]
    cells = list(pairwise([*starts, None]))
    columns, *rows = [tuple(line[a:b].strip() for a, b in cells) for line in (header, *lines)]
    return Shown(columns, rows)


def numbers(cell: str) -> list[float]:
    return [float(number) for number in re.findall(r"[\d.]+(?:e[+-]?\d+)?", cell)]


@pytest.fixture
def losses() -> Shown:
    return read_table("optimizer")


@pytest.fixture
def measured() -> Shown:
    return read_table("run")


def test_the_tables_have_the_columns_that_are_printed(losses: Shown, measured: Shown) -> None:
    """Columns of an older version."""
    assert losses.columns == loss.COLUMNS
    assert measured.columns == noise.COLUMNS
    assert all(cell for row in losses.rows for cell in row)


def test_the_loss_table_is_that_of_the_demo_and_sorted(losses: Shown) -> None:
    """Another rate than the demo's, a row that was forgotten, an order that is not that of the losses."""
    trained = dict(re.findall(r"^train (\w+) .*?-s optimizer\.lr=(\S+)", DEMO, flags=re.MULTILINE))
    shown = dict(zip(losses.column("optimizer"), map(float, losses.column("lr")), strict=True))
    assert shown == {name: float(lr) for name, lr in trained.items()}
    final, best = (list(map(float, losses.column(name))) for name in ("eval loss", "best eval loss"))
    assert final == sorted(final)
    assert all(lowest <= last for lowest, last in zip(best, final, strict=True))
    ((first, last),) = re.findall(r"`(\w+)` is first and `(\w+)` last", README)
    assert (losses.column("optimizer")[0], losses.column("optimizer")[-1]) == (first, last)


def test_the_noise_table_is_that_of_the_demo(measured: Shown) -> None:
    """A run or a step that the demo does not measure."""
    shown = list(zip((run.partition(",")[0] for run in measured.column("run")), measured.column("step"), strict=True))
    assert shown == [("demo", "0"), ("demo", "300"), ("demo-resnet18", "0"), ("demo-resnet18", "60")]
    assert all(f"noise.at=[{steps}]" in DEMO for steps in ("0,300", "0,60"))


def test_the_text_says_of_the_noise_what_the_table_says(measured: Shown) -> None:
    """Norms called Gaussian above a table that calls them heavy."""
    text = " ".join(README.split())
    verdicts = measured.column("norms" if "norms" in noise.COLUMNS else "verdict")
    assert re.findall(r"`(\w+)` on the GPT2 and `(\w+)` on the ResNet18", text) == [(verdicts[1], verdicts[3])]
    index = next(name for name in measured.columns if name.startswith("tail index"))
    places = [
        position(numbers(value)[0], *numbers(control))
        for value, control in zip(measured.column(index), measured.column("of Gaussian noise"), strict=True)
    ]
    said = re.findall(r"tail index of the norms is (\w+) .*? on the GPT2 and (\w+) it on the ResNet18", text)
    assert said == [(places[1], places[3])]


def test_the_error_of_the_page_is_the_one_that_is_printed() -> None:
    with pytest.raises(ConfigError) as caught:
        load_experiment(Path("quick/mlp_mnist5k"), ["optimizer.momentun=0.9"])
    assert f"\nwhyadam: {caught.value}\n" in README


def position(index: float, low: float, high: float) -> str:
    """Where a tail index lies beside the range of Gaussian noise."""
    return "below" if index < low else "above" if index > high else "within"
