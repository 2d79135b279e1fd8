"""Pictures in one folder per class."""

from __future__ import annotations

import re

import numpy as np
import pytest

from convcore import data
from convcore.data import Images
from convcore.data._catalogue import CATALOGUE

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


@pytest.fixture
def pictures(tmp_path, rng):
    """Write five pictures of two classes; give them in the order in which they are read."""
    values = rng.integers(0, 256, (5, 6, 8, 3)).astype(np.uint8)
    names = "a/1.png", "a/2.PNG", "a/3.bmp", "b/1.png", "b/2.png"
    for name, picture in zip(names, values, strict=True):
        save(tmp_path / name, picture)
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden").mkdir()
    return values


def test_load_folder_reads_classes_and_pictures_in_order(tmp_path, pictures):
    got = data.load_folder(tmp_path)
    assert got.classes == ("a", "b")
    assert isinstance(got.x, Images)
    np.testing.assert_array_equal(got.x.array, pictures.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(got.y, [0, 0, 0, 1, 1])
    assert got.y.dtype == np.int64
    assert (got.mean, got.std) == ((0.0,) * 3, (1.0,) * 3)
    assert repr(got) == f"Dataset({tmp_path.name!r}, 'all', x (5, 3, 6, 8), 2 classes)"


def test_load_folder_standardises_and_takes_classes_in_any_order(tmp_path, pictures):
    got = data.load_folder(tmp_path, classes=("b", "a"), mean=0.5, std=(0.5, 0.25, 0.2))
    np.testing.assert_array_equal(got.y, [0, 0, 1, 1, 1])
    want = (pictures[3].transpose(2, 0, 1) / 255 - 0.5) / np.reshape((0.5, 0.25, 0.2), (3, 1, 1))
    np.testing.assert_allclose(got.x[0], want, rtol=1e-5, atol=1e-5)


def test_load_folder_makes_grey_and_resizes(tmp_path, pictures):
    save(tmp_path / "b" / "3.png", np.zeros((20, 30), np.uint8))
    got = data.load_folder(tmp_path, (5, 7), channels=1)
    assert got.x.shape == (6, 1, 5, 7)
    assert data.load_folder(tmp_path, 4).x.shape == (6, 3, 4, 4)


def test_load_folder_rejects(tmp_path, pictures):
    with pytest.raises(FileNotFoundError, match="load_folder: there is no folder"):
        data.load_folder(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        data.load_folder(tmp_path, classes=("c",))
    with pytest.raises(ValueError, match="load_folder: channels is not known"):
        data.load_folder(tmp_path, channels=4)
    with pytest.raises(ValueError, match="holds no pictures"):
        data.load_folder(tmp_path / "a")
    save(tmp_path / "b" / "3.png", np.zeros((20, 30), np.uint8))
    with pytest.raises(
        ValueError, match=r"has another size than .*expected 6 x 8 pixels, got 20 x"
    ):
        data.load_folder(tmp_path)
    (tmp_path / "b" / "3.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"3\.png cannot be read"):
        data.load_folder(tmp_path)


def test_cifar10_is_read_from_pictures_in_folders(tmp_path, rng):
    classes = CATALOGUE["cifar10"].classes
    values = rng.integers(0, 256, (2, 10, 32, 32, 3)).astype(np.uint8)
    for split, of_split in zip(("train", "test"), values, strict=True):
        for name, picture in zip(classes, of_split, strict=True):
            save(tmp_path / "cifar10" / split / name / "1.png", picture)
    for split, of_split in zip(("train", "test"), values, strict=True):
        images, labels = data.load_uint8("cifar10", split, data_dir=tmp_path)
        np.testing.assert_array_equal(images, of_split.transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(labels, np.arange(10))
    (tmp_path / "cifar10" / "test" / "frog" / "1.png").unlink()
    (tmp_path / "cifar10" / "test" / "frog").rmdir()
    with pytest.raises(FileNotFoundError, match=re.escape("cifar10 was not found")):
        data.load_uint8("cifar10", "test", data_dir=tmp_path)
