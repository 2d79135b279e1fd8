"""The embedded digits: content, split, enlargement; and the API that all data sets share."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys

import numpy as np
import pytest

from convcore import data
from convcore.data import _digits, make_digits
from convcore.data._catalogue import CATALOGUE
from convcore.data._resize import resize


@pytest.fixture(scope="module")
def stored():
    """Give all images (N, 8, 8) and labels in the order of the file."""
    with np.load(make_digits.__file__.replace("make_digits.py", "digits.npz")) as arrays:
        return arrays["images"], arrays["labels"]


# ---- content -------------------------------------------------------------------------------------


def test_digits_content_has_the_known_check_sum(stored):
    images, labels = stored
    assert images.shape == (1797, 8, 8)
    assert images.dtype == labels.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 16)
    assert make_digits.content_sha256(images, labels) == make_digits.CONTENT_SHA256


def test_digits_content_is_that_of_scikit_learn(stored):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    for ours, theirs in zip(stored, make_digits.from_scikit_learn(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_make_digits_writes_the_same_bytes_each_time(stored, tmp_path):
    make_digits.write(tmp_path / "a.npz", *stored)
    make_digits.write(tmp_path / "b.npz", *stored)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz") as arrays:
        np.testing.assert_array_equal(arrays["images"], stored[0])
        np.testing.assert_array_equal(arrays["labels"], stored[1])


def test_make_digits_refuses_other_data(stored, tmp_path):
    images, labels = stored[0].copy(), stored[1]
    images[5, 3, 3] ^= 1
    with pytest.raises(
        ValueError, match="make_digits: the data differ from UCI's: expected SHA-256"
    ):
        make_digits.write(tmp_path / "a.npz", images, labels)
    assert not (tmp_path / "a.npz").exists()


def test_digits_credit_lies_beside_the_data():
    from importlib import resources

    for name in ("README.md", "NOTICE"):
        text = (resources.files("convcore.data") / name).read_text(encoding="utf-8")
        assert "E. Alpaydin" in text
        assert "C. Kaynak" in text
        assert "CC BY 4.0" in text


# ---- split ---------------------------------------------------------------------------------------


def test_digits_split_parts_every_image_once(stored):
    _, labels = stored
    test = _digits.is_test(labels)
    assert len(data.load_uint8("digits", "train")[0]) == (~test).sum() == 1442
    assert len(data.load_uint8("digits", "test")[0]) == test.sum() == 355
    both = np.concatenate([data.load_uint8("digits", s)[0][:, 0] for s in ("train", "test")])
    assert sorted(i.tobytes() for i in both) == sorted(i.tobytes() for i in stored[0])


def test_digits_split_has_no_image_in_both_parts():
    train, test = (data.load_uint8("digits", split)[0] for split in ("train", "test"))
    assert not {i.tobytes() for i in train} & {i.tobytes() for i in test}


def test_digits_split_gives_each_class_its_share(stored):
    _, labels = stored
    for label in range(10):
        of_class = labels == label
        test = _digits.is_test(labels)[of_class].sum()
        assert test == of_class.sum() // 5  # the 5th, the 10th, …


def test_digits_split_is_fixed():
    images, labels = data.load_uint8("digits", "test")
    digest = hashlib.sha256(images.tobytes() + labels.astype(np.uint8).tobytes()).hexdigest()
    assert digest == "dffb3bbc3bee43a253e1a27dcd91eed7938a7aa43dbb1099812cb3e7392d9b1c"


# ---- images for a network ------------------------------------------------------------------------


def test_digits_load_gives_standardised_28_by_28():
    train, test = data.load("digits"), data.load("digits", "test")
    assert train.x.shape == (1442, 1, 28, 28)
    assert test.x.shape == (355, 1, 28, 28)
    assert train.x.dtype == np.float32
    assert train.y.dtype == np.int64
    assert train.classes == tuple("0123456789")
    assert len(train) == 1442
    # The documented constants are those of the training part, to the digits they are given with.
    assert abs(train.x.mean(dtype=np.float64)) < 2e-4
    assert abs(train.x.std(dtype=np.float64) - 1) < 2e-4


def test_digits_load_twice_gives_the_same_bits_and_arrays_of_its_own():
    a, b = data.load("digits", "test"), data.load("digits", "test")
    assert a.x.tobytes() == b.x.tobytes()
    a.x[:] = 0
    assert data.load("digits", "test").x.tobytes() == b.x.tobytes()


def test_load_without_normalize_gives_unit_range():
    plain, scaled = data.load("digits", "test", normalize=False), data.load("digits", "test")
    assert (plain.mean, plain.std) == ((0.0,), (1.0,))
    assert plain.x.min() >= 0
    assert plain.x.max() <= 1
    np.testing.assert_allclose((plain.x - scaled.mean[0]) / scaled.std[0], scaled.x, atol=1e-5)


@pytest.mark.parametrize("size", [1, 8, 20, 32])
def test_load_image_size(size):
    assert data.load("digits", "test", image_size=size).x.shape == (355, 1, size, size)


def test_load_as_stored_is_the_stored_values():
    images, labels = data.load_uint8("digits", "test")
    loaded = data.load("digits", "test", image_size=8, normalize=False)
    np.testing.assert_array_equal(loaded.x, images.astype(np.float32) / 16)
    np.testing.assert_array_equal(loaded.y, labels)


def test_dataset_repr_is_short():
    assert repr(data.load("digits", "test")) == (
        "Dataset('digits', 'test', x (355, 1, 28, 28), 10 classes)"
    )


# ---- resize --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(28, 28), (32, 20), (8, 8), (5, 11), (3, 2), (1, 1)])
def test_resize_matches_pillow(rng, size):
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    image = rng.random((8, 13), np.float32)
    want = image_module.fromarray(image).resize(size[::-1], image_module.Resampling.BICUBIC)
    np.testing.assert_allclose(resize(image, *size), np.asarray(want).clip(0, 1), atol=1e-6)


def test_resize_keeps_constant_images_and_symmetry(rng):
    flat = np.full((1, 8, 8), 0.7, np.float32)
    for size in (3, 8, 28):
        np.testing.assert_allclose(resize(flat, size, size), 0.7, atol=1e-6)
    image = rng.random((2, 8, 8), np.float32)
    np.testing.assert_allclose(
        resize(image[:, :, ::-1], 28, 28), resize(image, 28, 28)[:, :, ::-1], atol=1e-6
    )


def test_resize_in_steps_gives_the_same_bits(rng, monkeypatch):
    images = rng.random((7, 2, 8, 8), np.float32)
    whole = resize(images, 11, 12)
    monkeypatch.setattr("convcore.data._resize._CHUNK", 300)
    np.testing.assert_array_equal(resize(images, 11, 12), whole)
    assert resize(images[:0], 11, 12).shape == (0, 2, 11, 12)


# ---- bad arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("digit", "digits"),
        ("MNIST", "mnist"),
        ("fashion_mnist", "fashion-mnist"),
        ("FashionMNIST", "fashion-mnist"),
        ("CIFAR-10", "cifar10"),
    ],
)
def test_load_unknown_name_suggests_the_nearest(name, near):
    message = (
        "load: name is not a known data set: expected one of 'digits', 'mnist', 'fashion-mnist', "
        f"'cifar10', got {name!r} (did you mean {near!r}?)"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        data.load(name)


def test_load_unknown_name_far_from_all():
    with pytest.raises(ValueError, match=r"got 'xyz'$"):
        data.load("xyz")


def test_load_unknown_split():
    with pytest.raises(
        ValueError, match="load: split is not known: expected 'train' or 'test', got"
    ):
        data.load("digits", "validation")


def test_load_bad_image_size():
    with pytest.raises(
        ValueError, match="load: image_size is not positive: expected 1 or more, got 0"
    ):
        data.load("digits", image_size=0)


# ---- the module ----------------------------------------------------------------------------------


def test_names_lists_the_catalogue():
    assert data.NAMES == tuple(CATALOGUE) == ("digits", "mnist", "fashion-mnist", "cifar10")


def test_import_costs_nothing_heavy():
    code = (
        "import sys, convcore.data; "
        "print(sorted({'PIL', 'gzip', 'pooch', 'requests', 'tarfile', 'tqdm'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == "[]"
