"""The report as text, and as a browser shows it; which runs it draws, and what it says of them."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from whyadam.errors import UserError
from whyadam.figures.runs import Group
from whyadam.figures.style import new_figure, save_figure
from whyadam.figures.tables import Table
from whyadam.files import write_csv
from whyadam.studies import report as content
from whyadam.studies.report import MOST_BYTES, MOST_ROWS, Numbers, Picture, runs_section, write_report
from whyadam.studies.summary import SummaryRow, write_summary

BROWSER = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)
NASTY = "<script>alert('1')</script> & \"q\" {{ 7 * 7 }} " + "a_very_long_word_without_any_end" * 8


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished studies with pictures, wide tables, nasty text and a summary that decides some claims."""
    root = tmp_path_factory.mktemp("report")
    for name in ("optimizer_curves", "bert_depths"):
        folder = root / "studies" / name / "quick-seed0-01234567"
        figure = new_figure(2)
        for axes in figure.subplots(1, 2):
            axes.plot([1, 2, 3])
        save_figure(figure, folder / "curves")
        row: dict[str, Any] = {f"column {number}": number / 7 for number in range(30)}
        write_csv(folder / "numbers.csv", [row | {"text": NASTY}] * 3)
        write_summary(folder / "summary.csv", _summary(name))
        status = {"state": "done", "study": name, "scale": "quick", "seed": 0, "seconds": 12.5, "git_commit": "abc"}
        extra = {"versions": {"torch": "2.0"}, "settings": {"note": NASTY, "steps": 3}}
        (folder / "status.json").write_text(json.dumps(status | extra))
    return root / "studies"


def _summary(study: str) -> list[SummaryRow]:
    subjects = {"bert_nano/sgd": 6.0, "bert_nano/adam": 5.0, "2_layers/acclip": 5.0, "2_layers/adam": 4.0}
    key: dict[str, Any] = {"study": study, "scale": "quick", "quantity": "final_eval_loss", "unit": "nats"}
    return [
        SummaryRow(**key, subject=subject, seed=seed, value=value + seed / 100, tried=5, at_edge=False)
        for subject, value in subjects.items()
        for seed in range(3)
    ]


@pytest.fixture(scope="module")
def page(studies: Path) -> Path:
    out = studies.parent / "pages" / "report.html"
    write_report([studies], out)
    return out


def test_the_page_has_verdicts_pictures_numbers_settings_and_provenance(page: Path) -> None:
    text = page.read_text()
    assert text.count('src="data:image/svg+xml;base64,') == 2
    assert re.search(r'class="reproduced">reproduced</td><td[^>]*>sgd-worse-on-bert</td>', text)
    assert re.search(r'class="contradicted">contradicted</td><td[^>]*>acclip-beats-adam-at-2-layers-loss</td>', text)
    assert "<td>0.142857</td>" in text
    assert "steps: 3" in text
    assert "<td>git_commit</td><td>abc</td>" in text
    assert "<td>versions.torch</td><td>2.0</td>" in text
    assert "noise-norms-heavy-on-bert" not in text, "a claim about a study that the report is not about"


def test_the_page_needs_nothing_but_itself(page: Path) -> None:
    text = page.read_text()
    assert "<script" not in text
    references = re.findall(r'(?:src|href|srcset|action)\s*=\s*"([^"]*)"|url\(([^)]*)\)', text)
    assert references
    assert all(reference.startswith(("data:", "#")) for pair in references for reference in pair if reference)


def test_text_from_files_is_text(page: Path) -> None:
    text = page.read_text()
    assert html.escape("<script>alert('1')</script>", quote=False).split("'")[0] in text
    assert "{{ 7 * 7 }}" in text
    assert "49 " not in text


def test_an_unfinished_study_says_so_and_gives_no_verdict(studies: Path, tmp_path: Path) -> None:
    shutil.copytree(studies, tmp_path / "studies")
    for status in tmp_path.rglob("status.json"):
        status.write_text(status.read_text().replace('"done"', '"interrupted"'))
    write_report([tmp_path / "studies"], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert text.count("This study is not finished.") == 2
    assert "Verdicts" not in text


def test_a_folder_without_studies_and_runs_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run folder here"):
        write_report([tmp_path], tmp_path / "report.html")


def test_long_tables_are_cut_and_say_so(tmp_path: Path) -> None:
    write_csv(tmp_path / "long.csv", [{"n": number} for number in range(MOST_ROWS + 5)])
    numbers = Numbers.read(tmp_path / "long.csv")
    assert (len(numbers.table.rows), numbers.left_out) == (MOST_ROWS, 5)


def test_numbers_are_shortened_and_names_are_not(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n0.123456789,gpt2_nano.kjv\n7458852829154218250,1.0e-5 or so\n")
    assert Numbers.read(tmp_path / "t.csv").table == Table(
        ("a", "b"), [("0.123457", "gpt2_nano.kjv"), ("7458852829154218250", "1.0e-5 or so")]
    )


def test_a_huge_svg_gives_way_to_its_png(tmp_path: Path) -> None:
    for name, size in (("small", 10), ("huge", MOST_BYTES + 1), ("alone", MOST_BYTES + 1)):
        (tmp_path / f"{name}.svg").write_bytes(b" " * size)
        if name != "alone":
            (tmp_path / f"{name}.png").write_bytes(b"png")
    kinds = {picture.name: picture.source[: len("data:image/png")] for picture in Picture.all_in(tmp_path)}
    assert kinds == {"alone": "data:image/svg", "huge": "data:image/png", "small": "data:image/svg"}


def test_markdown_and_latex_survive_special_characters() -> None:
    table = Table(("a|b", "c_d"), [("1 & 2", "50 % of {x}\\y\nz"), ("#~^$", "<b>*`")])
    assert table.markdown() == (
        "| a\\|b | c_d |\n| --- | --- |\n| 1 & 2 | 50 % of {x}\\\\y z |\n| #\\~^\\$ | \\<b>\\*\\` |"
    )
    assert table.latex() == (
        "\\begin{tabular}{ll}\na|b & c\\_d \\\\\n\\hline\n"
        "1 \\& 2 & 50 \\% of \\{x\\}\\textbackslash{}y z \\\\\n"
        "\\#\\textasciitilde{}\\textasciicircum{}\\$ & <b>*` \\\\\n\\end{tabular}"
    )


# In a browser

HARNESS = """<!doctype html><meta charset="utf-8"><body><script>
const page = %s, findings = {};
for (const width of [375, 1280]) {
  const frame = document.createElement("iframe");
  frame.width = width; frame.height = 900; frame.style.border = 0; frame.srcdoc = page; frame.name = width;
  document.body.append(frame);
}
addEventListener("load", () => {
  for (const frame of document.querySelectorAll("iframe")) {
    const inner = frame.contentDocument, root = inner.documentElement, width = Number(frame.name);
    inner.querySelectorAll("details").forEach(details => { details.open = true; });
    const outside = [...inner.body.querySelectorAll("*")].filter(element =>
      !element.parentElement.closest(".scroll, pre") && element.getBoundingClientRect().right > width + 0.5);
    const style = element => frame.contentWindow.getComputedStyle(element);
    findings[width] = {
      width: frame.contentWindow.innerWidth,
      page: root.scrollWidth,
      outside: outside.map(element => element.outerHTML.slice(0, 100)),
      images: [...inner.images].map(image => image.complete && image.naturalWidth > 0),
      scrolling: [...inner.querySelectorAll(".scroll")].some(box => box.scrollWidth > box.clientWidth),
      dark: frame.contentWindow.matchMedia("(prefers-color-scheme: dark)").matches,
      background: style(inner.body).backgroundColor,
      colors: [...inner.querySelectorAll("body, a, th, figcaption, .reproduced, .contradicted, summary")]
        .map(element => style(element).color),
    };
  }
  const text = document.createElement("pre");
  text.id = "findings"; text.textContent = JSON.stringify(findings); document.body.replaceChildren(text);
});
</script>"""


def browse(page: Path, *options: str) -> tuple[dict[str, Any], str]:
    """What the page looks like in frames of two widths, and what the browser complained about."""
    harness = page.with_name("harness.html")
    harness.write_text(HARNESS % json.dumps(page.read_text()).replace("</", "<\\/"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--virtual-time-budget=10000"]
    profile = f"--user-data-dir={page.with_name('profile')}"
    command = [str(BROWSER), *flags, profile, *options, "--dump-dom", harness.as_uri()]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = re.search(r'<pre id="findings">(.*?)</pre>', answer.stdout, re.DOTALL)
    assert found, answer.stdout[-500:]
    complaints = [line for line in answer.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(found.group(1))), "\n".join(complaints)


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium here")
@pytest.mark.parametrize("dark", [False, True])
def test_in_a_browser(page: Path, *, dark: bool) -> None:
    """With all details open nothing is missing, blocked or wider than the screen, and text stands out in both modes."""
    findings, complaints = browse(page, f"--blink-settings=preferredColorScheme={0 if dark else 1}")
    assert complaints == ""
    assert set(findings) == {"375", "1280"}
    for width, found in findings.items():
        assert found["width"] == int(width)
        assert found["page"] <= int(width)
        assert found["outside"] == []
        assert found["images"] == [True, True]
        assert found["scrolling"], "no table was wider than its box: the test has lost its point"
        assert found["dark"] == dark
        assert len(set(found["colors"])) > 3
        assert min(contrast(color, found["background"]) for color in found["colors"]) >= 4.5


def contrast(first: str, second: str) -> float:
    """The contrast ratio of WCAG 2.1."""
    bright, dim = sorted(map(_luminance, (first, second)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def _luminance(color: str) -> float:
    channels = [int(number) / 255 for number in re.findall(r"\d+", color)[:3]]
    linear = [value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


METRICS = "step,split,loss,accuracy,exact_match,f1\n0,eval,2.5,0.1,,\n3,train,2.1,,,\n6,eval,2.0,0.3,,\n"


@pytest.fixture
def runs(mlp_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two seeds with a noise measurement, and one run of Adam without."""
    for name, seed, noisy in (("sgd", 0, True), ("sgd", 1, True), ("adam", 0, False)):
        folder = tmp_path / f"{name}-seed{seed}"
        folder.mkdir()
        (folder / "config.yaml").write_text(yaml.safe_dump(mlp_config | {"seed": seed, "optimizer": {"name": name}}))
        (folder / "metrics.csv").write_text(METRICS)
        status = {"state": "done", "device": "cpu", "versions": {"torch": "2.0"}, "git_commit": f"commit {seed}"}
        (folder / "status.json").write_text(json.dumps(status | {"step": 6, "seconds_training": 1.5}))
        if noisy:
            (folder / "noise.csv").write_text("step,value\n0,1.5\n")
    monkeypatch.setattr(content, "draw_losses", lambda groups, out: _draw(out))
    return tmp_path


def _draw(out: Path) -> None:
    out.with_suffix(".svg").write_text("<svg/>")


def test_noise_is_drawn_of_the_first_seed_of_each_setting_that_has_it(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Sequence[Path]] = []
    monkeypatch.setattr(content, "find_noise", lambda paths, kind: asked.append(paths))
    monkeypatch.setattr(content, "draw_noise", lambda found, out: _draw(out))
    section = runs_section([runs])
    assert asked == [[runs / "sgd-seed0"]]
    assert [picture.name for picture in section.pictures] == ["loss", "noise"]
    assert section.notes == []


def test_what_cannot_be_drawn_is_said_and_the_rest_is_shown(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(paths: Sequence[Path], kind: str) -> None:
        raise UserError("the gradients have no noise")

    monkeypatch.setattr(content, "find_noise", refuse)
    section = runs_section([runs])
    assert section.notes == ["the gradients have no noise"]
    assert [picture.name for picture in section.pictures] == ["loss"]


def test_curvature_is_drawn_where_it_was_measured(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (runs / "adam-seed0" / "hessian").mkdir()
    asked: list[Sequence[Path]] = []

    class Measured:
        steps = (0,)

        def full(self, step: int) -> None:
            """The whole Hessian was not measured."""

    monkeypatch.setattr(content, "find_noise", lambda paths, kind: [])
    monkeypatch.setattr(content, "draw_noise", lambda found, out: None)
    monkeypatch.setattr(content, "find_hessian", lambda paths: [asked.append(paths) or Measured()])
    for name in ("draw_blocks", "draw_distances", "draw_spectra"):
        monkeypatch.setattr(content, name, lambda found, out: _draw(out))
    assert [picture.name for picture in runs_section([runs]).pictures] == ["loss", "blocks", "js"]
    assert asked == [[runs / "adam-seed0"]]


def test_tables_configs_and_provenance_cover_all_runs(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Sequence[Group]] = []
    monkeypatch.setattr(content, "draw_losses", lambda groups, out: drawn.append(groups))
    monkeypatch.setattr(content, "find_noise", lambda paths, kind: [])
    monkeypatch.setattr(content, "draw_noise", lambda found, out: None)
    section = runs_section([runs])
    assert sorted(len(group.runs) for group in drawn[0]) == [1, 2]
    table, evaluations, noise = section.tables
    assert [row[1:3] for row in table.table.rows] == [("done", "6")] * 3
    assert evaluations.table.rows[:2] == [
        (str(runs / "adam-seed0"), "0", "2.5", "0.1", "", ""),
        (str(runs / "adam-seed0"), "6", "2.0", "0.3", "", ""),
    ]
    assert noise.table.rows == [("0", "1.5")]
    assert [name for name, _ in section.configs] == [str(runs / "adam-seed0"), str(runs / "sgd-seed0")]
    assert dict(section.provenance.rows) == {
        "git_commit": "commit 0, commit 1",
        "versions.torch": "2.0",
        "device": "cpu",
        "seeds": "0, 1",
        "seconds": "4.5",
    }
