"""The labs: each runs on the digits and comes out inside its bands; verdicts, reports, errors."""

from __future__ import annotations

import dataclasses
import json
import re
import sys

import pytest

import convcore
from convcore import lab
from convcore.lab import Band, Lab, Range, _frame

RESULTS = {}


def quick(name):
    """Run a lab once for all tests."""
    if name not in RESULTS:
        RESULTS[name] = lab.run(name, quick=True)
    return RESULTS[name]


def made_up(**bands):
    return Lab("A <title>", "claim & so", "how", "mnist", 5, 2, bands, "lesson", "otherwise")


def result_of(numbers, epochs=None, **bands):
    def run(desk):
        for key, value in numbers.items():
            desk.number(key, value)

    options = {"quick": True, "epochs": epochs, "data_dir": None, "verbose": 0}
    return _frame.work("made-up", made_up(**bands), run, 0, **options)


# ---- every lab -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", lab.names())
def test_lab_quick_is_inside_its_bands(name):
    result = quick(name)
    outside = {n.key: (n.value, n.expected) for n in result.numbers if n.inside is False}
    assert not outside, outside
    assert result.verdict == "inside"
    assert result.setting["data"] == "digits"


@pytest.mark.parametrize("name", lab.names())
def test_lab_description_has_bands_with_three_measured_seeds(name):
    found = lab.describe(name)
    for key, band in found.bands.items():
        for expected in filter(None, (band.full, band.quick)):
            assert len(expected.measured) >= 3, key
            assert all(map(expected.holds, expected.measured)), key


@pytest.mark.parametrize("name", lab.names())
def test_lab_report_is_one_file(name):
    result = quick(name)
    page = result.to_html()
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert len(sources) == len(result.pictures)
    assert result.pictures or "convcore[plot]" in page
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert document["verdict"] == result.verdict


def test_lab_pictures_are_png():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    pictures = quick("filters").pictures
    assert pictures
    assert all(picture.png.startswith(b"\x89PNG") for picture in pictures)


def test_lab_without_matplotlib_has_the_numbers(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = lab.run("filters", quick=True)
    assert result.verdict == "inside"
    assert not result.pictures
    assert "convcore[plot]" in result.missing
    assert "convcore[plot]" in str(result)


# ---- the frame -----------------------------------------------------------------------------------


def test_lab_repeats_bit_for_bit_at_any_number_of_threads():
    one = quick("filters")
    convcore.set_num_threads(3)
    again = lab.run("filters", quick=True)
    assert [n.value for n in again.numbers] == [n.value for n in one.numbers]
    other = lab.run("filters", quick=True, seed=1)
    assert [n.value for n in other.numbers] != [n.value for n in one.numbers]


def test_lab_leaves_the_random_numbers_of_the_caller_alone():
    convcore.manual_seed(7)
    before = convcore.random.get_rng_state()
    result_of({"a": 1.0}, a=Band("a", None, None))
    assert convcore.random.get_rng_state() == before


def test_lab_verdict():
    band = Band("accuracy", Range(0.9, 1.0), Range(0.8, 0.9, (0.85, 0.86, 0.87)))
    assert result_of({"a": 0.85}, a=band).verdict == "inside"
    outside = result_of({"a": 0.95}, a=band)
    assert outside.verdict == "outside"
    assert "Outside: accuracy. otherwise" in str(outside)
    assert result_of({"a": float("nan")}, a=band).verdict == "outside"
    other_epochs = result_of({"a": 0.95}, epochs=3, a=band)
    assert other_epochs.verdict == "no band"
    assert "not compared" in other_epochs.teaching
    assert result_of({"a": 1.0}, a=Band("a", Range(0, 1), None)).verdict == "no band"


def test_lab_quick_leaves_the_lesson_to_the_full_run():
    band = Band("accuracy", Range(0.9, 1.0), Range(0.8, 0.9))
    for value in (0.85, 0.95):
        result = result_of({"a": value}, a=band)
        assert "This is the quick run, on 1,442 small digits" in result.teaching
        assert "lesson" not in result.teaching
        assert str(result).endswith("What the full run shows (mnist, epochs: 5)\nlesson")
        assert "<h2>What the full run shows (mnist, epochs: 5)</h2>\n<p>lesson" in result.to_html()
        assert result.to_dict()["full_run"] == "lesson"
    full = dataclasses.replace(result, setting={**result.setting, "quick": False})
    assert full.full_run == ""
    assert "full run" not in str(full) + full.to_html()


def test_lab_report_escapes_and_shows_the_seeds_of_the_band():
    band = Band("x < y", None, Range(0.8, 0.9, (0.85, 0.86, 0.87)))
    page = result_of({"a": 0.85}, a=band).to_html()
    assert "A &lt;title&gt;" in page
    assert "x &lt; y" in page
    assert "85.0 %, 86.0 %, 87.0 %" in page


def test_lab_forgotten_number_is_an_error():
    with pytest.raises(RuntimeError, match="no number for the bands b"):
        result_of({"a": 1.0}, a=Band("a", None, None), b=Band("b", None, None))


def test_lab_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'rotation'"):
        lab.run("rotatoin")
    with pytest.raises(ValueError, match="did you mean 'fashion'"):
        lab.describe("fashoin")


def test_lab_missing_data_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="mnist was not found"):
        lab.run("filters", data_dir=tmp_path)
