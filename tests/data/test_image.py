"""Pictures and arrays from files, as `convcore predict` reads them."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

from convcore.data import read_image, read_images


@pytest.fixture
def pil():
    return pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def save(path, array):
    np.save(path, array)
    return path


# ---- .npy ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        np.full((5, 5), 51, np.uint8),
        np.full((5, 5), 13107, np.uint16),
        np.full((5, 5), 13107, ">u2"),
        np.full((5, 5), 0.2, np.float16),
        np.full((5, 5), 0.2, np.float32),
        np.full((5, 5), 0.2, np.float64),
        np.full((1, 5, 5), 51, np.uint8),
        np.full((5, 5, 1), 51, np.uint8),
        np.full((3, 5, 5), 51, np.uint8),
        np.full((5, 5, 3), 51, np.uint8),
    ],
    ids=lambda a: f"{a.dtype.str}-{a.shape}",
)
@pytest.mark.parametrize("channels", [1, 3])
def test_read_image_array_forms(tmp_path, array, channels):
    image = read_image(save(tmp_path / "a.npy", array), 5, channels)
    assert image.dtype == np.float32
    assert image.shape == (channels, 5, 5)
    assert image.flags.c_contiguous
    np.testing.assert_allclose(image, 0.2, atol=1e-4)


def test_read_image_keeps_the_order_of_channels_and_pixels(tmp_path, rng):
    array = rng.random((3, 6, 4), np.float32)
    for layout in (array, array.transpose(1, 2, 0)):
        path = save(tmp_path / "a.npy", layout)
        np.testing.assert_array_equal(read_image(str(path), (6, 4), 3), array)
    grey = 0.299 * array[0] + 0.587 * array[1] + 0.114 * array[2]
    np.testing.assert_allclose(read_image(path, (6, 4), 1)[0], grey, atol=1e-6)


def test_read_image_bool(tmp_path):
    path = save(tmp_path / "a.npy", np.eye(4) == 1)
    np.testing.assert_array_equal(read_image(path, 4, 1)[0], np.eye(4))


def test_read_image_invert(tmp_path):
    digit = np.zeros((6, 6), np.float32)
    digit[2:4, 2:4] = 0.75
    dark, bright = save(tmp_path / "d.npy", digit), save(tmp_path / "b.npy", 1 - digit)
    np.testing.assert_array_equal(read_image(dark, 6, 1, invert=True)[0], 1 - digit)
    np.testing.assert_array_equal(read_image(bright, 6, 1)[0], 1 - digit)
    for path in (dark, bright):
        np.testing.assert_array_equal(read_image(path, 6, 1, invert="auto")[0], digit)


def test_read_image_standardises(tmp_path, rng):
    array = rng.random((3, 4, 4), np.float32)
    path = save(tmp_path / "a.npy", array)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    got = read_image(path, 4, 3, mean=mean, std=std)
    want = (array - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    np.testing.assert_allclose(got, want, atol=1e-6)


LAYOUTS = "expected (H, W), (C, H, W) or (H, W, C) with C 1 or 3"


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(5), f"has the wrong shape: {LAYOUTS}, got (5,)"),
        (np.zeros((2, 5, 5)), "has the wrong shape"),
        (np.zeros((1, 1, 5, 5)), "has the wrong shape"),
        (np.zeros((0, 5)), "has the wrong shape"),
        (
            np.zeros((5, 5), np.int64),
            "has the wrong dtype: expected a float, uint8, uint16 or bool, got int64",
        ),
        (np.zeros((5, 5), complex), "has the wrong dtype"),
        (
            np.full((5, 5), 2.0),
            "has values out of range: expected floats in [0, 1], got 2.0 to 2.0 "
            "(divide by 255, or undo the normalisation of data.load: x * std + mean)",
        ),
        (np.full((5, 5), -0.1), "has values out of range"),
        (np.full((5, 5), np.nan), "has values out of range"),
    ],
)
def test_read_image_bad_array(tmp_path, array, message):
    path = save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match=re.escape(f"read_image: {path} {message}")):
        read_image(path, 5, 1)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", [1, 3])
def test_read_images_of_a_batch(tmp_path, rng, layout, channels):
    batch = rng.random((4, 3, 6, 5), np.float32)
    batch[2] = 1 - batch[2] / 4  # the only one with a bright border
    batch[[0, 1, 3]] /= 4
    stored = batch if layout == "NCHW" else batch.transpose(0, 2, 3, 1)
    options = {"invert": "auto", "mean": [0.2] * channels, "std": [0.5] * channels}
    got = read_images(save(tmp_path / "batch.npy", stored), (7, 8), channels, **options)
    assert got.shape == (4, channels, 7, 8)
    for i in range(4):
        one = read_image(save(tmp_path / "one.npy", batch[i]), (7, 8), channels, **options)
        np.testing.assert_array_equal(got[i], one)


def test_read_images_of_one_image_and_of_none(tmp_path, pil):
    path = save(tmp_path / "a.npy", np.full((5, 5), 51, np.uint8))
    np.testing.assert_array_equal(read_images(path, 5, 1)[0], read_image(path, 5, 1))
    pil.new("L", (4, 4), 51).save(tmp_path / "a.png")
    assert read_images(tmp_path / "a.png", 5, 3).shape == (1, 3, 5, 5)
    path = save(tmp_path / "none.npy", np.zeros((0, 1, 5, 5)))
    assert read_images(path, 7, 3).shape == (0, 3, 7, 7)


@pytest.mark.parametrize("shape", [(5,), (2, 5, 5), (4, 2, 5, 5), (4, 1, 0, 5), (1, 1, 1, 5, 5)])
def test_read_images_bad_shape(tmp_path, shape):
    path = save(tmp_path / "a.npy", np.zeros(shape))
    message = f"{LAYOUTS}, or a batch (N, C, H, W) or (N, H, W, C), got {shape}"
    with pytest.raises(ValueError, match=re.escape(message)):
        read_images(path, 5, 1)


@pytest.mark.parametrize("keep", [0, 4, 40, 140])
def test_read_image_truncated_array(tmp_path, keep):
    path = save(tmp_path / "a.npy", np.zeros((5, 5)))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        ValueError, match=f"read_image: {re.escape(str(path))} cannot be read: expected"
    ):
        read_image(path, 5, 1)


def test_read_image_refuses_pickles(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.array([[{}]], object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"cannot be read: expected a \.npy file of numbers"):
        read_image(path, 5, 1)


# ---- pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "colour", "want"),
    [
        ("L", 51, [0.2, 0.2, 0.2]),
        ("RGB", (255, 51, 0), [1, 0.2, 0]),
        ("RGBA", (255, 51, 0, 255), [1, 0.2, 0]),
        ("RGBA", (255, 51, 0, 0), [1, 1, 1]),  # transparent: white
        ("LA", (51, 255), [0.2, 0.2, 0.2]),
        ("I;16", 13107, [0.2, 0.2, 0.2]),
        ("1", 1, [1, 1, 1]),
    ],
)
def test_read_image_picture_modes(tmp_path, pil, mode, colour, want):
    path = tmp_path / "a.png"
    pil.new(mode, (7, 5), colour).save(path)
    colours = read_image(path, (5, 7), 3)
    np.testing.assert_allclose(
        colours, np.broadcast_to(np.reshape(want, (3, 1, 1)), (3, 5, 7)), atol=1e-6
    )
    grey = read_image(path, (5, 7), 1)
    np.testing.assert_allclose(grey, np.dot(want, [0.299, 0.587, 0.114]), atol=1e-6)
    assert read_image(path, 28, 1).shape == (1, 28, 28)


def test_read_image_picture_is_the_array(tmp_path, pil, rng):
    pixels = rng.integers(0, 256, (9, 11, 3), np.uint8)
    pil.fromarray(pixels).save(tmp_path / "a.png")
    save(tmp_path / "a.npy", pixels)
    for size, channels in ((28, 3), (4, 1), ((9, 11), 3)):
        np.testing.assert_array_equal(
            read_image(tmp_path / "a.png", size, channels),
            read_image(tmp_path / "a.npy", size, channels),
        )


def test_read_image_turns_a_photograph_upright(tmp_path, pil):
    picture = pil.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40)
    exif = pil.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    picture.save(tmp_path / "a.png", exif=exif)
    want = np.rot90(np.asarray(picture), -1) / 255
    np.testing.assert_allclose(read_image(tmp_path / "a.png", (3, 2), 1)[0], want, atol=1e-6)


def test_read_image_not_a_picture(tmp_path, pil):
    path = tmp_path / "a.png"
    for content in (b"", b"some text, no picture"):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=f"read_image: {re.escape(str(path))} is not a picture: exp"
        ):
            read_image(path, 5, 1)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif"])
def test_read_image_truncated_picture(tmp_path, pil, rng, suffix):
    path = tmp_path / f"a.{suffix}"
    pil.fromarray(rng.integers(0, 256, (64, 64), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(
        ValueError, match=f"read_image: {re.escape(str(path))} cannot be read: expected"
    ):
        read_image(path, 5, 1)


def test_read_image_without_pillow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ImportError, match=re.escape("pip install 'convcore[image]'")):
        read_image(tmp_path / "a.png", 5, 1)
    assert read_image(save(tmp_path / "a.npy", np.zeros((5, 5))), 5, 1).shape == (1, 5, 5)


# ---- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.npy", "a.png"])
def test_read_image_missing_file(tmp_path, pil, name):
    with pytest.raises(FileNotFoundError, match=re.escape(name)):
        read_image(tmp_path / name, 5, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0, "channels": 1}, "size is not positive: expected 1 or more, got 0"),
        ({"size": (4, -1), "channels": 1}, "size is not positive: expected 1 or more, got (4, -1)"),
        ({"size": 4, "channels": 2}, "channels is not known: expected 1 or 3, got 2"),
        (
            {"size": 4, "channels": 1, "mean": [0]},
            "mean and std go together: expected both or none",
        ),
        (
            {"size": 4, "channels": 3, "mean": [0], "std": [1]},
            "mean has the wrong length: expected 3 (the channels), got 1",
        ),
    ],
)
def test_read_image_bad_argument(tmp_path, arguments, message):
    path = save(tmp_path / "a.npy", np.zeros((5, 5)))
    with pytest.raises(ValueError, match=re.escape(f"read_image: {message}")):
        read_image(path, **arguments)
