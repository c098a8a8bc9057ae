"""hessian/step_*/ of a run folder, and the finished work beside it."""

from __future__ import annotations

import csv
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from whyadam.errors import UserError
from whyadam.hessian import BlockMeasures, DistanceRow, Spectrum
from whyadam.hessian.parallel import SpectrumCache
from whyadam.hessian.record import HessianMeasurement, HessianRecord, ModelRow


def spectrum(probes: int = 2, nodes: int = 3, size: int = 50) -> Spectrum:
    generator = torch.Generator().manual_seed(probes)
    weights = torch.rand(probes, nodes, generator=generator, dtype=torch.float64)
    values = torch.randn(probes, nodes, generator=generator, dtype=torch.float64) / 3e7
    return Spectrum(values, weights / weights.sum(1, keepdim=True), size)


EXACT = Spectrum(torch.tensor([[-1.0, 0.1, 2.0]]).double(), torch.full((1, 3), 1 / 3).double(), 3)
MEASURES = BlockMeasures(50, 2.0, -1.0, 0.25, 0.125, 4.0, 3.0, 8.0)
NOTE = ModelRow("outside_blocks", "", None, note="not measured")
ADAM = {f"adam_{name}": value for name, value in asdict(MEASURES).items()}
MEASUREMENT = HessianMeasurement(
    step=100,
    spectra={"b": spectrum(2), "a": EXACT, "full": spectrum(3)},
    adam_spectra={"b": spectrum(5)},
    blocks=[
        {"block": "b", "probes": 2, "exact": False, **asdict(MEASURES), "gradient_norm": 0.5},
        {"block": "a", "probes": 1, "exact": True, **asdict(MEASURES), **ADAM, "gradient_norm": 0.75},
    ],
    distances=[DistanceRow("b", "a", "js_distance", "1%", 0.5, float("nan"))],
    adam_distances=[],
    model=[ModelRow("js_distance", "1%", 0.5, 0.125), ModelRow("gradient_heterogeneity", "", 2.5), NOTE],
    how={"fingerprint": "f" * 16, "blocks": ["*"]},
)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_the_columns_are_those_other_programs_rely_on(tmp_path: Path) -> None:
    record = HessianRecord(tmp_path)
    record.write(MEASUREMENT)
    folder = tmp_path / "hessian" / "step_000100"
    assert lines(folder / "nodes.csv")[0] == "block,size,probe,node,weight"
    assert lines(folder / "distances.csv")[0] == "block_a,block_b,measure,sigma,value,noise_floor"
    assert lines(folder / "measures.csv") == [
        "measure,sigma,value,noise_floor,note",
        "js_distance,1%,0.5,0.125,",
        "gradient_heterogeneity,,2.5,,",
        "outside_blocks,,,,not measured",
    ]
    with (folder / "blocks.csv").open() as file:
        first, second = csv.DictReader(file)
    assert (first["size"], first["largest"], first["adam_largest"], first["gradient_norm"]) == ("50", "2", "", "0.5")
    assert (second["exact"], second["trace"], second["adam_trace"], second["adam_condition"]) == (
        "True",
        "0.25",
        "0.25",
        "8",
    )


def test_spectra_come_back_to_the_bit_and_in_order(tmp_path: Path) -> None:
    """Catches digits lost in the text, and rows of one probe that land in another."""
    record = HessianRecord(tmp_path)
    record.write(MEASUREMENT)
    found = record.spectra(100)
    assert list(found) == ["b", "a", "full"]
    for name, expected in MEASUREMENT.spectra.items():
        assert torch.equal(found[name].nodes, expected.nodes)
        assert torch.equal(found[name].weights, expected.weights)
        assert (found[name].size, found[name].exact) == (expected.size, name == "a")
    assert torch.equal(record.spectra(100, adam=True)["b"].nodes, spectrum(5).nodes)
    assert record.model(100) == MEASUREMENT.model
    assert record.how(100) == MEASUREMENT.how
    (row,) = record.distances(100)
    assert (row.block_a, row.value) == ("b", 0.5)
    assert row.noise_floor != row.noise_floor


def test_a_second_measurement_replaces_the_first_and_drops_unfinished_work(tmp_path: Path) -> None:
    record = HessianRecord(tmp_path)
    record.write(MEASUREMENT)
    for step in (100, 7):
        SpectrumCache(record.unfinished(step, "abc") / "hessian")["a"] = EXACT
    record.write(replace(MEASUREMENT, adam_spectra={}, how={}))
    assert record.steps() == [100]
    assert record.how(100) == {}
    assert not (record.path(100) / "adam_nodes.csv").exists()
    assert not record.unfinished(100, "abc").exists()
    assert record.unfinished(7, "abc").exists()


def test_a_killed_writer_leaves_nothing_that_counts(tmp_path: Path) -> None:
    (tmp_path / "hessian" / "step_000100.tmp").mkdir(parents=True)
    record = HessianRecord(tmp_path)
    assert record.steps() == []
    record.write(MEASUREMENT)
    assert record.steps() == [100]


@pytest.mark.parametrize("content", ["block,size,probe,node,weight\na,3,0,1.0,0.5\n", "block,size\na,3\n", "\0"])
def test_damaged_spectra_are_said_in_one_line(tmp_path: Path, content: str) -> None:
    record = HessianRecord(tmp_path)
    record.write(MEASUREMENT)
    (record.path(100) / "nodes.csv").write_text(content)
    with pytest.raises(UserError, match=r"step_000100/nodes\.csv: cannot be read") as caught:
        record.spectra(100)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"distances\.csv: cannot be read"):
        HessianRecord(tmp_path).distances(3)


def test_cached_spectra_come_back_to_the_bit_whatever_their_name(tmp_path: Path) -> None:
    cache = SpectrumCache(tmp_path / "cache")
    assert dict(cache) == {}
    for name, cached in (("h.0/odd name.weight", spectrum()), ("h.0", EXACT)):
        cache[name] = cached
    assert set(cache) == {"h.0/odd name.weight", "h.0"}
    assert torch.equal(cache["h.0/odd name.weight"].nodes, spectrum().nodes)
    assert cache["h.0"].exact


def test_what_cannot_be_read_counts_as_not_done(tmp_path: Path) -> None:
    cache = SpectrumCache(tmp_path)
    cache["a"] = EXACT
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:50])
    assert cache.get("a") is None


def test_measures_of_an_older_record_are_read(tmp_path: Path) -> None:
    """Recorded before there were notes."""
    record = HessianRecord(tmp_path)
    record.write(MEASUREMENT)
    (record.path(100) / "measures.csv").write_text("measure,sigma,value,noise_floor\njs_distance,1%,0.5,0.125\na,,2,\n")
    assert record.model(100) == [ModelRow("js_distance", "1%", 0.5, 0.125), ModelRow("a", "", 2.0)]


@pytest.mark.parametrize("cell", ["high", "0.5.5"])
def test_a_number_that_is_none_is_said_with_its_row(tmp_path: Path, cell: str) -> None:
    record = HessianRecord(tmp_path)
    record.write(MEASUREMENT)
    (record.path(100) / "measures.csv").write_text(f"measure,sigma,value,noise_floor\na,,1,\nb,,{cell},\n")
    with pytest.raises(UserError, match=r"measures\.csv: cannot be read: row 2, value: .*number") as caught:
        record.model(100)
    assert "\n" not in str(caught.value)
