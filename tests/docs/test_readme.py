"""README's two tables of the demo against what the code prints, what the demo runs, and what the text says of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from whyadam.figures import loss, noise

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEMO = (ROOT / "scripts" / "demo.sh").read_text(encoding="utf-8")


def read_table(first: str) -> list[dict[str, str]]:
    """The rows of the table whose header begins with a word, by column; the columns begin where the header's do."""
    (block,) = re.findall(rf"^```\n({first} .*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    header, rule, *lines = block.splitlines()
    assert set(rule) == {"-"}
    starts = [match.start() for match in re.finditer(r"(?<!\S)\S+(?: \S+)*", header)]
    ends = [*starts[1:], None]
    assert len(rule) >= max(map(len, [header, *lines])), "a row that was edited by hand"
    return [{header[a:b].strip(): line[a:b].strip() for a, b in zip(starts, ends, strict=True)} for line in lines]


def numbers(cell: str) -> list[float]:
    return [float(number) for number in re.findall(r"[\d.]+(?:e[+-]?\d+)?", cell)]


@pytest.fixture
def losses() -> list[dict[str, str]]:
    return read_table("optimizer")


@pytest.fixture
def measured() -> list[dict[str, str]]:
    return read_table("run")


def test_the_tables_have_the_columns_that_are_printed(
    losses: list[dict[str, str]], measured: list[dict[str, str]]
) -> None:
    """Columns of an older version."""
    assert {tuple(row) for row in losses} == {loss.COLUMNS}
    assert {tuple(row) for row in measured} == {noise.COLUMNS}
    assert all(row[column] for row in losses for column in loss.COLUMNS)


def test_the_loss_table_is_that_of_the_demo_and_sorted(losses: list[dict[str, str]]) -> None:
    """Another rate than the demo's, a row that was forgotten, an order that is not that of the losses."""
    trained = dict(re.findall(r"^train (\w+) .*?-s optimizer\.lr=(\S+)", DEMO, flags=re.MULTILINE))
    assert {row["optimizer"]: float(row["lr"]) for row in losses} == {name: float(lr) for name, lr in trained.items()}
    final = [float(row["eval loss"]) for row in losses]
    assert final == sorted(final)
    assert all(float(row["best eval loss"]) <= float(row["eval loss"]) for row in losses)
    (first, last), *_ = re.findall(r"`(\w+)` is first and `(\w+)` last", README)
    assert (losses[0]["optimizer"], losses[-1]["optimizer"]) == (first, last)


def test_the_noise_table_is_that_of_the_demo(measured: list[dict[str, str]]) -> None:
    steps = {"demo, Adam": ["0", "300"], "demo-resnet18, SGD": ["0", "60"]}
    for run, expected in steps.items():
        assert [row["step"] for row in measured if row["run"].startswith(run)] == expected
        assert f"noise.at=[{','.join(expected)}]" in DEMO
    assert len(measured) == 4


def test_the_text_says_of_the_noise_what_the_table_says(measured: list[dict[str, str]]) -> None:
    """Norms called Gaussian above a table that calls them heavy."""
    gpt2, resnet = measured[1], measured[3]
    verdict = "norms" if "norms" in noise.COLUMNS else "verdict"
    ((of_gpt2, of_resnet),) = re.findall(r"is `(\w+)` on the GPT2 and\s+`(\w+)` on the ResNet18", README)
    assert (gpt2[verdict].split()[0], resnet[verdict].split()[0]) == (of_gpt2, of_resnet)
    text = " ".join(README.split())
    ((of_gpt2, of_resnet),) = re.findall(r"norms is (\w+) .*? on the GPT2 and (\w+) it on the ResNet18", text)
    assert (position(gpt2), position(resnet)) == (of_gpt2, of_resnet)


def position(row: dict[str, str]) -> str:
    """Where the tail index lies beside the range of Gaussian noise."""
    (column,) = [name for name in row if name.startswith("tail index")]
    index, (low, high) = numbers(row[column])[0], numbers(row["of Gaussian noise"])
    return "below" if index < low else "above" if index > high else "within"
