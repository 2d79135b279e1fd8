"""``convcore filter``."""

from __future__ import annotations

import json

import numpy as np
import pytest

import convcore.cli
from convcore import filters


@pytest.fixture
def pil():
    return pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def picture(rng, *shape):
    return rng.integers(0, 256, shape).astype(np.uint8)


def test_filter_writes_what_the_function_gives(cli, pil, rng):
    image = picture(rng, 20, 30, 3)
    pil.fromarray(image).save(cli.folder / "photo.png")
    done = cli("filter", "sharpen", "photo.png")
    assert (done.code, done.err) == (0, "")
    assert done.out == "photo-sharpen.png: 30 x 20, sharpen of photo.png\n"
    got = np.asarray(pil.open(cli.folder / "photo-sharpen.png"))
    want = filters.apply(image.transpose(2, 0, 1).copy(), "sharpen").transpose(1, 2, 0)
    np.testing.assert_array_equal(got, want)


def test_a_grey_picture_stays_grey(cli, pil, rng):
    image = picture(rng, 9, 8)
    pil.fromarray(image).save(cli.folder / "grey.png")
    done = cli("filter", "sobel", "grey.png", "-o", "edges.bmp", "--border", "zero", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out) == {
        "filter": "sobel",
        "image": "grey.png",
        "output": "edges.bmp",
        "border": "zero",
        "channels": 1,
        "height": 9,
        "width": 8,
    }
    result = pil.open(cli.folder / "edges.bmp")
    assert result.mode == "L"
    np.testing.assert_array_equal(np.asarray(result), filters.apply(image, "sobel", border="zero"))


@pytest.fixture
def here(cli, monkeypatch, capsys):
    """Give the command line in this process, which saves the start of Python."""
    monkeypatch.chdir(cli.folder)

    def run(*words):
        try:
            code = convcore.cli.main(["filter", *words])
        except SystemExit as leave:
            code = leave.code
        return code, *capsys.readouterr()

    return run


def test_filter_lists_its_names(here):
    code, out, _ = here("--list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(filters.NAMES)
    listed = json.loads(here("--list", "--json")[1])["filters"]
    assert {f["name"] for f in listed if f["kernel"] is None} == {"sobel"}


def test_errors_write_nothing(cli, here, pil, rng):
    pil.fromarray(picture(rng, 5, 5)).save(cli.folder / "good.png")
    (cli.folder / "text.png").write_text("no picture")
    (cli.folder / "cut.png").write_bytes((cli.folder / "good.png").read_bytes()[:60])
    (cli.folder / "folder.png").mkdir()
    before = sorted(cli.folder.rglob("*"))
    for words, expected, message in (
        (("sharpn", "good.png"), 2, "'sharpn' is no filter: expected one of identity, "),
        (("sharpn", "good.png"), 2, "(did you mean 'sharpen'?)"),
        (("sharpen",), 2, "what to filter is missing: expected NAME and IMAGE, or --list"),
        (("sharpen", "none.png"), 1, "none.png: No such file or directory"),
        (("sharpen", "text.png"), 1, "text.png is not a picture"),
        (("sharpen", "cut.png"), 1, "cut.png cannot be read: expected a complete picture"),
        (("sharpen", "good.png", "-o", "x.xyz"), 2, "'x.xyz' has no ending of a picture"),
        (("sharpen", "good.png", "-o", "folder.png"), 1, "'folder.png' is a folder"),
        (("sharpen", "good.png", "-o", "no/x.png"), 1, "the folder of 'no/x.png' does not exist"),
        (("sharpen", "good.png", "--border", "wrap"), 2, "invalid choice: 'wrap'"),
    ):
        code, out, error = here(*words)
        assert (code, out) == (expected, ""), error
        assert message in error
        assert error.startswith("convcore filter: error: ")
    assert sorted(cli.folder.rglob("*")) == before
