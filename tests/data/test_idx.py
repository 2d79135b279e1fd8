"""MNIST and Fashion-MNIST: the IDX reader, and the search for files."""

from __future__ import annotations

import gzip
import re

import numpy as np
import pytest

from convcore import data
from data_files import idx, mnist_files, write

IMAGES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"


@pytest.fixture
def folder(tmp_path):
    """Give a folder with a small, complete MNIST."""
    return write(tmp_path / "files", mnist_files()[0])


def load(folder, split="test"):
    return data.load_uint8("mnist", split, data_dir=folder, download=False)


# ---- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_idx_reads_what_was_written(tmp_path, name, split):
    files, arrays = mnist_files()
    images, labels = data.load_uint8(name, split, data_dir=write(tmp_path, files))
    np.testing.assert_array_equal(images[:, 0], arrays[split][0])
    np.testing.assert_array_equal(labels, arrays[split][1])
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64


def test_idx_reads_plain_files_and_mixed_ones(tmp_path):
    files, arrays = mnist_files()
    plain = {name.removesuffix(".gz"): gzip.decompress(content) for name, content in files.items()}
    np.testing.assert_array_equal(load(write(tmp_path / "a", plain))[0][:, 0], arrays["test"][0])
    mixed = {IMAGES: files[IMAGES], LABELS.removesuffix(".gz"): plain[LABELS.removesuffix(".gz")]}
    np.testing.assert_array_equal(load(write(tmp_path / "b", mixed))[1], arrays["test"][1])


def test_idx_load_standardises_with_the_known_constants(folder):
    images, labels = load(folder)
    test = data.load("mnist", "test", data_dir=folder)
    want = (images.astype(np.float64) / 255 - 0.1307) / 0.3081
    np.testing.assert_allclose(test.x, want, atol=1e-6)
    np.testing.assert_array_equal(test.y, labels)
    assert (test.mean, test.std) == ((0.1307,), (0.3081,))
    assert data.load("mnist", "test", data_dir=folder, image_size=32).x.shape == (7, 1, 32, 32)


# ---- where the files are looked for --------------------------------------------------------------


def test_idx_search_order(tmp_path, monkeypatch, cache):
    places = {
        "argument": tmp_path / "argument" / "mnist",
        "argument itself": tmp_path / "argument",
        "environment": tmp_path / "environment" / "mnist",
        "environment itself": tmp_path / "environment",
        "cache": cache / "mnist",
        "cache itself": cache,
    }
    monkeypatch.setenv("CONVCORE_DATA", str(tmp_path / "environment"))
    wanted = {}
    for seed, place in enumerate(places.values()):
        files, arrays = mnist_files(seed=seed)
        wanted[write(place, files)] = arrays["test"][0]
    for place, images in wanted.items():
        np.testing.assert_array_equal(load(tmp_path / "argument")[0][:, 0], images, str(place))
        (place / IMAGES).unlink()  # the next place is used when one file is missing


def test_idx_missing_names_every_place_and_file(tmp_path, monkeypatch, cache):
    files, _ = mnist_files()
    monkeypatch.setenv("CONVCORE_DATA", str(tmp_path / "env"))
    write(tmp_path / "arg", {LABELS: files[LABELS]})
    with pytest.raises(FileNotFoundError) as caught:
        load(tmp_path / "arg")
    message = str(caught.value)
    both = "missing t10k-images-idx3-ubyte[.gz], t10k-labels-idx1-ubyte[.gz]"
    assert message.startswith("load: mnist was not found: expected the files of the test split in")
    assert f"{tmp_path / 'arg' / 'mnist'}: no such folder" in message
    assert f"{tmp_path / 'arg'}: missing t10k-images-idx3-ubyte[.gz]\n" in message
    assert f"{tmp_path / 'env'}: no such folder" in message
    assert f"{cache / 'mnist'}: no such folder" in message
    assert "CONVCORE_DATA" in message
    assert "--data-dir" in message
    cache.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=re.escape(f"{cache}: {both}")):
        load(None)


def test_idx_data_dir_must_exist(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="load: data_dir is not a folder: expected an existing"
    ):
        load(tmp_path / "typo")


# ---- bad files -----------------------------------------------------------------------------------


def bad(folder, name, content, message, compress=True):
    """Hold the error for `content` in the file `name` against `message`; the file must stay."""
    path = folder / name
    path.write_bytes(gzip.compress(content) if compress else content)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=re.escape(message.format(path=path))):
        load(folder)
    assert path.read_bytes() == before


def test_idx_bad_magic(folder):
    bad(
        folder,
        IMAGES,
        idx(np.zeros(7)),
        "load: {path} is not an IDX file of 3-dimensional unsigned bytes: "
        "expected the first bytes 00000803, got 00000801",
    )
    bad(folder, IMAGES, b"", "expected the first bytes 00000803, got an empty file", False)
    bad(folder, IMAGES, b"<html>", "expected the first bytes 00000803, got 3c68746d", False)


def test_idx_truncated_header(folder):
    bad(
        folder,
        LABELS,
        idx(np.zeros(7))[:6],
        "load: {path} is truncated: expected a header of 8 bytes",
    )


def test_idx_truncated_payload(folder):
    content = idx(np.zeros((7, 28, 28)))
    message = (
        "load: {path} is truncated: expected 5504 bytes for the shape (7, 28, 28) in its header, "
        "got 5503"
    )
    bad(folder, IMAGES, content[:-1], message)
    bad(folder, IMAGES, content + b"\0", "load: {path} has extra bytes at the end: expected 5504")


def test_idx_huge_sizes_in_the_header(folder):
    content = bytes([0, 0, 8, 3]) + b"\xff" * 12
    bad(folder, IMAGES, content, "is truncated: expected 79228162458924105385300197391 bytes")


def test_idx_without_images(folder):
    write(folder, {LABELS: gzip.compress(idx(np.zeros(0)))})
    bad(
        folder,
        IMAGES,
        idx(np.zeros((0, 28, 28))),
        "load: {path} holds no images: expected at least 1",
    )


def test_idx_other_image_size(folder):
    message = "load: {path} holds images of another size: expected (28, 28), got (28, 27)"
    bad(folder, IMAGES, idx(np.zeros((7, 28, 27))), message)


def test_idx_counts_differ(folder):
    message = "load: {path} does not fit t10k-images-idx3-ubyte.gz: expected 7 labels, got 6"
    bad(folder, LABELS, idx(np.zeros(6)), message)


def test_idx_label_out_of_range(folder):
    labels = np.array([1, 2, 9, 10, 0, 200, 1])
    message = "load: {path} holds a label out of range: expected 0 to 9, got 10 at index 3"
    bad(folder, LABELS, idx(labels), message)


@pytest.mark.parametrize("keep", [3, 15, -1, -8, -20])
def test_idx_truncated_gzip(folder, keep):
    content = (folder / IMAGES).read_bytes()[:keep]
    message = "load: {path} is truncated or corrupt: expected a complete gzip stream, got:"
    bad(folder, IMAGES, content, message, compress=False)


def test_idx_corrupt_gzip(folder):
    content = bytearray((folder / IMAGES).read_bytes())
    content[len(content) // 2] ^= 0xFF
    message = "load: {path} is truncated or corrupt: expected a complete gzip stream, got:"
    bad(folder, IMAGES, bytes(content), message, compress=False)


# ---- the real data -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "mean", "std"), [("mnist", 0.1307, 0.3081), ("fashion-mnist", 0.2860, 0.3530)]
)
def test_real_idx_data_have_the_known_mean_and_std(real_data, name, mean, std):
    images, labels = data.load_uint8(name, "train", data_dir=real_data, download=False)
    assert images.shape == (60_000, 1, 28, 28)
    assert np.bincount(labels).min() > 5000
    counts = np.bincount(images.ravel(), minlength=256)
    values = np.arange(256) / 255
    got_mean = (counts * values).sum() / images.size
    got_std = np.sqrt((counts * values**2).sum() / images.size - got_mean**2)
    assert abs(got_mean - mean) < 1e-4
    assert abs(got_std - std) < 1e-4
    test = data.load(name, "test", data_dir=real_data, download=False)
    assert test.x.shape == (10_000, 1, 28, 28)
    assert (test.mean, test.std) == ((mean,), (std,))


@pytest.mark.parametrize(
    ("asked", "there"), [("mnist", "fashion-mnist"), ("fashion-mnist", "mnist")]
)
def test_real_idx_data_of_the_other_set_are_recognised(real_data, asked, there):
    message = f"belongs to another data set: expected the labels of {asked}, got those of {there}"
    with pytest.raises(ValueError, match=message):
        data.load_uint8(asked, "test", data_dir=real_data / there, download=False)
