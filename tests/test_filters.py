"""Filters: the kernels of the lectures, applied to pictures."""

from __future__ import annotations

import re

import numpy as np
import pytest

from convcore import filters
from convcore import transforms as T


@pytest.fixture
def ndimage():
    return pytest.importorskip("scipy.ndimage", reason="scipy is not installed")


MODES = {"replicate": "nearest", "reflect": "mirror", "zero": "constant"}


@pytest.mark.parametrize("border", filters.BORDERS)
@pytest.mark.parametrize("name", filters.KERNELS)
def test_a_filter_is_a_correlation(rng, ndimage, name, border):
    image = rng.random((3, 11, 17), np.float32)
    got = filters.apply(image, name, border=border, clip=False)
    want = [
        ndimage.correlate(p.astype(float), filters.KERNELS[name], mode=MODES[border]) for p in image
    ]
    np.testing.assert_allclose(got, want, atol=2e-5)
    clipped = filters.apply(image, name, border=border)
    np.testing.assert_allclose(clipped, np.clip(want, 0, 1), atol=2e-5)
    as_bytes = (image * 255).astype(np.uint8)
    result = filters.apply(as_bytes, name, border=border)
    want = [
        ndimage.correlate(p.astype(float), filters.KERNELS[name], mode=MODES[border])
        for p in as_bytes
    ]
    assert result.dtype == np.uint8
    np.testing.assert_allclose(result, np.clip(want, 0, 255), atol=0.51)


def test_kernels_have_the_sums_that_their_names_promise():
    for name, kernel in filters.KERNELS.items():
        keeps_light = name in ("identity", "sharpen") or "blur" in name
        want = 1 if keeps_light else 5 if name == "diagonals" else 0
        np.testing.assert_allclose(kernel.sum(), want, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(filters.KERNELS["sobel-x"], filters.KERNELS["sobel-y"].T)
    identity, edges = filters.KERNELS["identity"], filters.KERNELS["edge-4"]
    np.testing.assert_array_equal(filters.KERNELS["sharpen"], identity - edges)


def test_the_worked_example_of_the_lecture_gives_its_four():
    rows = [[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]]
    image = np.array(rows, np.float32)
    feature = filters.apply(image, "diagonals", border="zero", clip=False)[1:-1, 1:-1]
    np.testing.assert_array_equal(feature, [[4, 3, 4], [2, 4, 3], [2, 3, 4]])


def test_sharpening_keeps_an_even_picture_and_the_kernel_of_the_slide_does_not():
    even = np.full((5, 6), 60, np.uint8)
    np.testing.assert_array_equal(filters.apply(even, "sharpen"), even)
    slide = np.array([[0, -1, 0], [-1, 5, -1], [0, 1, 0]])
    np.testing.assert_array_equal(filters.apply(even, slide), 3 * even)


def test_the_identity_gives_the_picture_in_every_form(rng):
    for shape in ((7, 9), (1, 7, 9), (4, 3, 7, 9)):
        image = rng.integers(0, 256, shape).astype(np.uint8)
        np.testing.assert_array_equal(filters.apply(image, "identity"), image)


def test_sobel_is_the_transform(rng):
    image = rng.random((2, 3, 12, 13), np.float32) / 3
    np.testing.assert_allclose(filters.apply(image, "sobel"), T.Sobel()(image), atol=1e-6)


def test_edges_of_a_square_are_found_where_they_are():
    image = np.zeros((9, 9), np.float32)
    image[3:6, 3:6] = 1
    edges = filters.apply(image, "edge-8")
    assert edges[4, 4] == 0
    assert edges[3, 3:6].all()
    assert not edges[:2].any()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            (np.zeros((3, 3), np.uint8), "sharpn"),
            ValueError,
            "filters.apply: kernel is not known: expected one of identity, ",
        ),
        ((np.zeros((3, 3), np.uint8), "sharpn"), ValueError, "(did you mean 'sharpen'?)"),
        (
            (np.zeros((3, 3), np.uint8), np.ones((2, 3))),
            ValueError,
            "kernel has the wrong shape: expected (KH, KW), both odd, got (2, 3)",
        ),
        ((np.zeros((3, 3), np.uint8), [[1]]), TypeError, "kernel has the wrong type"),
        ((np.zeros((3, 3)), "sobel"), TypeError, "image has the wrong dtype"),
        (
            (np.zeros((5, 6, 4), np.uint8), "sobel"),
            ValueError,
            "filters.apply: the image has its channels last: expected (C, H, W), got (5, 6, 4)",
        ),
        ((np.zeros((0, 3), np.uint8), "sobel"), ValueError, "image has the wrong shape"),
        (([[1]], "sobel"), TypeError, "image has the wrong type"),
    ],
)
def test_apply_rejects(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        filters.apply(*arguments)


def test_apply_rejects_an_unknown_border():
    with pytest.raises(ValueError, match=r"border is not known.*\(did you mean 'reflect'\?\)"):
        filters.apply(np.zeros((3, 3), np.uint8), "sobel", border="reflct")


def test_every_name_is_described():
    assert set(filters.NAMES) == {*filters.KERNELS, "sobel"}
    for name in filters.NAMES:
        assert filters.describe(name)


def test_a_kernel_of_nan_is_refused():
    with pytest.raises(ValueError, match="kernel has values out of range"):
        filters.apply(np.full((5, 5), 100, np.uint8), np.full((3, 3), np.nan))
