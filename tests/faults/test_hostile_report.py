"""Text that would be HTML, Markdown or LaTeX is text in a report, wherever it comes from."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.dom import minidom

import pytest
import yaml
from whyadam.errors import UserError
from whyadam.figures.style import new_figure, save_figure
from whyadam.figures.tables import LATEX, Table
from whyadam.files import write_csv
from whyadam.studies import report as content
from whyadam.studies.claims import Claim
from whyadam.studies.report import write_report
from whyadam.studies.summary import SummaryRow, write_summary

pytestmark = pytest.mark.faults

LONG = " and so on, long enough to be a long cell"
HARMLESS = "a word" + LONG

TEXTS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><style>*{display:none}</style>",
    "</pre></details></table></section><h1>",
    "<!-- ]]><![CDATA[ --><svg/onload=alert(1)>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}{# #}",
    "&lt;b&gt; &#60;b&#62; &amp &copy",
    "[here](javascript:alert(1)) ![x](y) <http://z> [a][b]",
    "_a_ __b__ *c* **d** ~e~ ~~f~~ `g` $h$ i_j _k",
    "a|b\\|c\\\\|d\\",
    "\\input{secret} \\write18{touch executed} %$#&_{}~^^5c",
    "[2cm] \\\\ [1]",
    "* -- ---",
    "a\r\nb\x0bc\u2028d\x85e",
]


class Page(HTMLParser):
    """A page's elements with their attributes, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""
        self.feed(path.read_bytes().decode())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        # A picture's content and its name are the only values that come from files.
        shown = [(name, None if name in ("src", "alt") else value) for name, value in attributes]
        self.elements.append((tag, shown))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def as_file_name(text: str) -> str:
    """Without slashes, and with a first letter, so that whatever the text is, it comes before summary.csv."""
    return "a" + text.replace("/", "-")


def study(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A report of a study in which everything is ``text``: names, numbers, settings, pictures and a claim."""
    here = folder / as_file_name(text) / "quick-seed0-01234567"
    here.mkdir(parents=True)
    (here / f"{as_file_name(text)}.svg").write_text(text)
    write_csv(here / f"{as_file_name(text)}.csv", [{text: text, "b": text}])
    key: dict[str, Any] = {"study": text, "scale": text, "quantity": text, "unit": text, "tried": 5, "at_edge": False}
    write_summary(here / "summary.csv", [SummaryRow(subject=text, value=n + 1.0, seed=n, **key) for n in range(3)])
    status = {"state": "done", "study": text, "scale": text, "git_commit": text, "versions": {text: text}}
    (here / "status.json").write_text(json.dumps(status | {"settings": {text: [text, {text: None}]}}))
    texts = dict.fromkeys(("name", "claim", "statement", "study", "quantity", "left", "unit"), text)
    claims = [
        Claim(**texts, compare="value", claimed="above", margin=0),
        Claim(**texts | {"left": f"no {text}"}, compare="value", claimed="above", margin=0),
    ]
    monkeypatch.setattr(content, "load_claims", lambda: claims)
    write_report([folder], folder / "report.html")
    return folder / "report.html"


def runs(folder: Path, text: str, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A report of a run in which every text that a config allows, every status and every error is ``text``."""
    here = folder / as_file_name(text)
    here.mkdir(parents=True)
    names = {"model": {"name": f"m:{text}", "key": text}, "optimizer": {"name": f"o:{text}", "lr": 0.1, text: text}}
    (here / "config.yaml").write_text(yaml.safe_dump(config | names))
    (here / "metrics.csv").write_text("step,split,loss,accuracy,exact_match,f1\n0,eval,2.5,0.1,,\n6,eval,2.0,0.3,,\n")
    (here / "status.json").write_text(
        json.dumps({"state": text, "device": text, "git_commit": text, "versions": {"torch": text}, "step": 6})
    )
    write_csv(here / "noise.csv", [{text: text}])

    def refuse(*_: object) -> None:
        raise UserError(f"a line of {text} is damaged")

    monkeypatch.setattr(content, "find_noise", refuse)
    monkeypatch.setattr(content, "draw_losses", lambda groups, out: out.with_suffix(".svg").write_text(text))
    write_report([folder], folder / "report.html")
    return folder / "report.html"


@pytest.mark.parametrize("text", TEXTS)
def test_a_study_made_of_hostile_text(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page has the elements and attributes that it has with harmless text, and shows the hostile one whole."""
    expected = Page(study(tmp_path / "harmless", HARMLESS, monkeypatch))
    found = Page(study(tmp_path / "hostile", text + LONG, monkeypatch))
    assert found.elements == expected.elements
    assert expected.text.count(HARMLESS) >= 20
    # As it is in headings, cells and settings; the copies in Markdown and LaTeX have escapes of their own.
    assert found.text.count(text + LONG) >= 15


@pytest.mark.parametrize("text", TEXTS)
def test_a_run_made_of_hostile_text(
    text: str, mlp_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Page(runs(tmp_path / "harmless", HARMLESS, mlp_config, monkeypatch))
    found = Page(runs(tmp_path / "hostile", text + LONG, mlp_config, monkeypatch))
    assert found.elements == expected.elements
    assert f"a line of {text + LONG} is damaged" in found.text


@pytest.mark.parametrize("text", TEXTS)
def test_markdown_shows_it_as_text(text: str) -> None:
    """Read by a parser of Markdown: a table of text and nothing else, cell by cell what was given."""
    from markdown_it import MarkdownIt

    table = Table(("a", text), [(text, "b"), (f"{text} twice {text}", text)])
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(table.markdown())
    assert {token.tag for token in tokens} <= {"table", "thead", "tbody", "tr", "th", "td", ""}
    cells = [token.children or [] for token in tokens if token.type == "inline"]
    assert all(part.type == "text" for cell in cells for part in cell)
    shown = " ".join(text.split())
    assert ["".join(part.content for part in cell) for cell in cells] == [
        *("a", shown, shown, "b"),
        *(f"{shown} twice {shown}", shown),
    ]


SPELLINGS = {spelling: character for character, spelling in LATEX.items()}
READ = re.compile("|".join(map(re.escape, sorted(SPELLINGS, key=len, reverse=True))) + r"|[\\~^&%$#_{}]|.", re.DOTALL)


@pytest.mark.parametrize("text", TEXTS)
def test_latex_shows_it_as_text(text: str) -> None:
    """Read back, each line has two cells as they were given, and no character in them means anything to LaTeX."""
    lines = Table(("a", text), [(text, "b"), ("c", text)]).latex().splitlines()
    shown = " ".join(text.split())
    for line, expected in zip((lines[1], *lines[3:5]), (("a", shown), (shown, "b"), ("c", shown)), strict=True):
        cells = line.removesuffix(r" \\").split(" & ")
        assert not cells[0].startswith(("[", "*"))
        for cell, wanted in zip(cells, expected, strict=True):
            parts = READ.findall(cell.removeprefix("{}"))
            assert not {part for part in parts if part in LATEX}
            assert "".join(SPELLINGS.get(part, part) for part in parts) == wanted


@pytest.mark.parametrize("label", [*TEXTS[:6], r"$\frac{$", "$a$ and $b", "--><script>"])
def test_a_picture_shows_it_as_text(label: str, tmp_path: Path) -> None:
    """Also where it looks like a formula and is none."""
    figure = new_figure(1)
    figure.subplots().plot([1, 2], label=label)
    figure.axes[0].set_title(label)
    figure.legend()
    save_figure(figure, tmp_path / "picture")
    elements = {element.tagName for element in minidom.parse(str(tmp_path / "picture.svg")).getElementsByTagName("*")}
    assert elements <= {"svg", "metadata", "defs", "style", "g", "path", "use", "clipPath", "rect"} | {
        element for element in elements if element.startswith(("rdf:", "cc:", "dc:"))
    }


def test_a_terminal_gets_no_escape_sequence(tmp_path: Path) -> None:
    """Of a claim and of what was measured, and of an error line."""
    from typer.testing import CliRunner
    from whyadam.cli import app

    row = {"scale": "quick", "subject": "a", "quantity": "loss"}
    values = [SummaryRow(study="\x1b[2Js", seed=seed, value=seed + 1.0, **row) for seed in range(3)]
    write_summary(tmp_path / "summary.csv", values)
    claim = {"name": "n\x1b[1m", "claim": "c", "statement": "\x1b]0;t\x07", "study": "\x1b[2Js", "quantity": "loss"}
    claim |= {"left": "\x9b1m", "compare": "value", "claimed": "above", "margin": 0}
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump([claim]))
    arguments = [str(tmp_path / "summary.csv"), "--claims", str(tmp_path / "claims.yaml")]
    answer = CliRunner().invoke(app, ["verify", *arguments])
    assert answer.exit_code == 0
    assert r"n\x1b[1m" in answer.stdout
    assert all(line.isprintable() for line in answer.stdout.split("\n"))
