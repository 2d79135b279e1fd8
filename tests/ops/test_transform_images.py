"""transform_images: each transform against the reference, and the reference against other libraries."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convcore import _core, random, reference
from convcore import transforms as T
from helpers import assert_same_bits_at_any_thread_count

TOLERANCE = 3e-6  # of values from 0 to 1
KEY = (7, 3)

# Each with its options at random, for images of any size.
SIZES = st.tuples(st.integers(1, 20), st.integers(1, 20))
RANGES = st.tuples(st.floats(0, 1), st.floats(1, 2))
ANY_CHANNELS = [
    st.builds(T.RandomCrop, st.integers(1, 5), st.integers(4, 6), st.floats(0, 1)),
    st.builds(T.RandomCrop, st.just((3, 2)), st.just((4, 5, 6, 7))),
    st.builds(T.Resize, SIZES),
    st.builds(T.Resize, st.integers(1, 12)),
    st.builds(T.RandomResizedCrop, SIZES),
    st.builds(T.RandomResizedCrop, SIZES, st.just((0.5, 2.0)), st.just((2.0, 3.0))),
    st.builds(T.RandomHorizontalFlip, st.floats(0, 1)),
    st.builds(T.RandomVerticalFlip, st.floats(0, 1)),
    st.builds(T.RandomRotation, st.floats(0, 360), st.floats(0, 1)),
    st.just(T.RandomRotation90((0, 180))),
    st.just(T.RandomRotation90((90, 270))),
    st.builds(T.RandomErasing, st.floats(0, 1), value=st.floats(0, 1)),
    st.builds(T.Cutout, st.integers(1, 9), st.integers(1, 3), st.floats(0, 1)),
    st.builds(T.GaussianNoise, st.floats(-0.2, 0.2), st.floats(0, 0.5), st.booleans()),
    st.builds(T.GaussianBlur, st.just((1, 1)), st.just((0.5, 1.0))),
    st.just(T.Sobel()),
    st.builds(T.Normalize, st.floats(-1, 1), st.floats(0.2, 2)),
    st.builds(T.RandomApply, st.just([T.Sobel(), T.Normalize(0.5, 0.25)]), st.floats(0, 1)),
]
COLOUR = [
    st.just(T.Grayscale()),
    st.just(T.Grayscale(3)),
    st.builds(T.RandomGrayscale, st.floats(0, 1)),
    st.builds(T.ColorJitter, RANGES, RANGES, RANGES, st.just((-0.5, 0.5))),
    st.builds(T.ColorJitter, hue=st.floats(0, 0.5)),
]


def assert_is_the_reference(transform, x, indices, key=KEY, scale=1.0):
    # A number of a stream is the same, but a float32 may fall on the other side of an edge.
    got = _core.transform_images(x, indices, transform.stages, *key, scale, None, None, False)
    want = reference.transform_images(x.astype(np.float64), indices, transform.stages, key, scale)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=TOLERANCE * max(1, abs(want).max()))


@settings(max_examples=250, deadline=None)
@given(
    transform=st.one_of(ANY_CHANNELS),
    channels=st.integers(1, 4),
    size=st.tuples(st.integers(1, 9), st.integers(1, 40)),
    key=st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)),
)
def test_transforms_match_the_reference(transform, channels, size, key):
    x = np.random.default_rng(0).random((4, channels, *size), np.float32)
    assert_is_the_reference(transform, x, np.array([2, 0, 3]), key)


@settings(max_examples=60, deadline=None)
@given(
    transform=st.one_of(COLOUR),
    size=st.tuples(st.integers(1, 5), st.integers(1, 12)),
    key=st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)),
)
def test_transforms_of_colour_match_the_reference(transform, size, key):
    x = np.random.default_rng(0).random((3, 3, *size), np.float32)
    x[0] = x[0, 0]  # grey: no hue
    assert_is_the_reference(transform, x, np.array([1, 0]), key)


@pytest.mark.parametrize("size", [(33, 40), (7, 17)])
@pytest.mark.parametrize("kernel", [(3, 3), (5, 1), (13, 9), (1, 33)])
def test_blur_matches_the_reference(rng, size, kernel):
    if kernel[0] // 2 >= size[0] or kernel[1] // 2 >= size[1]:
        pytest.skip("the kernel is too large for the image")
    x = rng.random((3, 2, *size), np.float32)
    assert_is_the_reference(T.GaussianBlur(kernel, (0.3, 3.0)), x, np.arange(3))


def test_a_long_list_matches_the_reference(rng):
    x = rng.integers(0, 256, (6, 3, 24, 20)).astype(np.uint8)
    transform = T.Compose(
        [
            T.RandomResizedCrop(18),
            T.RandomHorizontalFlip(),
            T.RandomApply([T.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
            T.RandomGrayscale(p=0.2),
            T.RandomApply([T.RandomRotation90(), T.RandomRotation(20, 0.5)], 0.7),
            T.GaussianBlur(5),
            T.GaussianNoise(sigma=0.05),
            T.RandomErasing(value=[0.1, 0.2, 0.3]),
            T.Normalize([0.5, 0.4, 0.3], [0.2, 0.25, 0.3]),
        ]
    )
    assert_is_the_reference(transform, x, np.array([5, 0, 2, 2]), scale=1 / 255)


def test_mixing_matches_the_reference(rng):
    x = rng.random((9, 3, 8, 8), np.float32)
    stages = T.RandomCrop(8, padding=2).stages
    rows = np.array([3, 0, 8, 3])
    partners, weights = _core.mixup_pairs(rows, 9, 0.4, *KEY, 1)
    want_partners, want_weights = reference.mixup_pairs(rows, 9, 0.4, KEY, 1)
    np.testing.assert_array_equal(partners, want_partners)
    np.testing.assert_allclose(weights, want_weights, rtol=1e-6)
    got = _core.transform_images(x, rows, stages, *KEY, 1.0, partners, weights, False)
    want = reference.transform_images(
        x.astype(np.float64), rows, stages, KEY, 1.0, partners, weights
    )
    np.testing.assert_allclose(got, want, atol=TOLERANCE)


# ---- random numbers ------------------------------------------------------------------------------


EVERYTHING = T.Compose(
    [
        T.RandomResizedCrop(13),
        T.RandomVerticalFlip(),
        T.ColorJitter(0.4, 0.4, 0.4, 0.1),
        T.RandomRotation(30),
        T.RandomApply([T.GaussianBlur(3)]),
        T.GaussianNoise(),
        T.Cutout(3),
    ]
)


def test_the_bits_are_the_same_at_any_thread_count(rng):
    x = rng.integers(0, 256, (61, 3, 16, 19)).astype(np.uint8)
    labels = rng.integers(0, 5, 61)
    mixed = T.Compose([EVERYTHING, T.MixUp(0.3, 5)])
    assert_same_bits_at_any_thread_count(lambda: mixed(x, labels, key=KEY))
    assert_same_bits_at_any_thread_count(
        lambda: T.Compose([EVERYTHING, T.Normalize(0.5, 2)])(x, key=KEY)
    )


def test_an_image_becomes_the_same_wherever_it_stands_in_the_batch(rng):
    x = rng.integers(0, 256, (20, 3, 11, 11)).astype(np.uint8)
    whole = EVERYTHING(x, key=KEY)
    order = rng.permutation(20)[:7]
    np.testing.assert_array_equal(EVERYTHING(x, key=KEY, indices=order), whole[order])
    np.testing.assert_array_equal(EVERYTHING(x[0], key=KEY), whole[0])


def test_each_call_and_each_image_get_numbers_of_their_own():
    x = np.full((30, 1, 8, 8), 128, np.uint8)
    random.manual_seed(1)
    first, second = T.GaussianNoise()(x), T.GaussianNoise()(x)
    images = {image.tobytes() for image in np.concatenate([first, second])}
    assert len(images) == 60
    random.manual_seed(1)
    np.testing.assert_array_equal(T.GaussianNoise()(x), first)


def test_two_transforms_of_a_list_get_different_numbers():
    x = np.zeros((2000, 1, 1, 2), np.uint8)
    x[..., 1] = 255
    once = T.RandomHorizontalFlip()(x, key=KEY)
    twice = T.Compose([T.RandomHorizontalFlip()] * 2)(x, key=KEY)
    assert 900 < (twice[:, 0, 0, 0] == 255).sum() < 1100
    assert 900 < (once[:, 0, 0, 0] == 255).sum() < 1100
    assert 900 < (once != twice).any(axis=(1, 2, 3)).sum() < 1100


def test_the_numbers_are_spread_as_they_should():
    grey = np.full((4000, 1, 1, 1), 0.5, np.float32)
    noise = T.GaussianNoise(0.1, 2.0, clip=False)(grey.reshape(4, 1, 20, 50), key=KEY) - 0.5
    assert abs(noise.mean() - 0.1) < 0.1
    assert abs(noise.std() - 2) < 0.1
    assert 0.62 < (abs(noise - 0.1) < 2).mean() < 0.74
    bright = T.ColorJitter(brightness=(0.2, 1.0))(grey, key=KEY).ravel() / 0.5
    assert (bright.min() > 0.1999, bright.max() < 1.0001) == (True, True)
    assert np.all(abs(np.histogram(bright, 8, (0.2, 1))[0] - 500) < 110)


def test_the_weights_of_mixup_are_beta_distributed():
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    for alpha in (0.5, 1.0, 3.0):  # of smaller ones many are 1 in float32
        partners, weights = _core.mixup_pairs(np.arange(4000), 50, alpha, *KEY, 0)
        assert stats.kstest(weights.astype(float), stats.beta(alpha, alpha).cdf).pvalue > 1e-3
        assert np.bincount(partners, minlength=50).min() > 40
    _, weights = _core.mixup_pairs(np.arange(4000), 50, 0.1, *KEY, 0)
    for quantile in (1e-6, 0.01, 0.3, 0.8, 0.999):
        expected = stats.beta(0.1, 0.1).cdf(quantile)
        assert abs((weights < quantile).mean() - expected) < 0.04
    _, weights = _core.mixup_pairs(np.arange(1000), 50, 1e-4, *KEY, 0)
    assert np.isfinite(weights).all()


# ---- other libraries -----------------------------------------------------------------------------


@pytest.fixture
def ndimage():
    return pytest.importorskip("scipy.ndimage", reason="scipy is not installed")


@pytest.fixture
def pil():
    return pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def photo(rng, size=(40, 31)):
    """Return smooth colours from 0 to 1, as in a photograph."""
    waves = rng.standard_normal((3, 2, 5))
    i, j = np.mgrid[: size[0], : size[1]] / 12
    image = np.array([sum(np.sin(a * i + b * j) for a, b in w.T) for w in waves])
    return ((image - image.min()) / np.ptp(image)).astype(np.float32)


def to_pil(pil, image):
    return pil.fromarray((image * 255).round().astype(np.uint8).transpose(1, 2, 0))


def from_pil(picture):
    return np.asarray(picture).transpose(2, 0, 1) / np.float32(255)


@pytest.mark.parametrize("angle", [0, 17.5, 90, -30, 211])
def test_rotation_is_that_of_scipy(rng, ndimage, angle):
    image = rng.random((1, 14, 21), np.float32)
    turn = np.deg2rad(angle)
    matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    middle = (np.array(image.shape[1:]) - 1) / 2
    want = ndimage.affine_transform(
        image[0].astype(float),
        matrix,
        middle - matrix @ middle,
        order=1,
        mode="grid-constant",
        cval=0.25,
    )
    got = T.RandomRotation((angle, angle), fill=0.25)(image)[0]
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("angle", [25, -80])
def test_rotation_goes_the_way_of_pillow(rng, pil, angle):
    image = photo(rng, (33, 33))
    want = from_pil(to_pil(pil, image).rotate(angle, pil.BILINEAR))
    got = T.RandomRotation((angle, angle))(image)
    np.testing.assert_allclose(got[:, 9:-9, 9:-9], want[:, 9:-9, 9:-9], atol=0.02)


def test_right_angles_are_those_of_numpy(rng):
    image = rng.integers(0, 256, (3, 17, 17)).astype(np.uint8)
    for k in range(4):
        got = T.RandomRotation90((90 * k,))(image)
        np.testing.assert_array_equal(got, np.rot90(image, k, axes=(1, 2)))


@pytest.mark.parametrize("size", [(7, 5), (40, 31), (64, 17), (90, 100)])
def test_resizing_is_that_of_pillow(rng, pil, size):
    image = rng.random((1, 40, 31), np.float32)
    want = np.asarray(pil.fromarray(image[0]).resize(size[::-1], pil.BILINEAR))
    np.testing.assert_allclose(T.Resize(size)(image)[0], want, atol=1e-5)


def test_a_resized_crop_is_a_box_that_pillow_resizes(rng, pil):
    image = rng.random((1, 20, 16), np.float32)
    picture = pil.fromarray(image[0])
    for index in range(5):
        key = (index, 0)
        got = T.RandomResizedCrop((8, 12))(image, key=key)[0]
        numbers = reference.transforms.Numbers(reference.substream(key, 0, 0))
        rule = (0.08, 1.0, 3 / 4, 4 / 3)
        top, left, h, w = reference.transforms._draw_box(numbers, 0, (20, 16), rule, 0)
        box = (left, top, left + w, top + h)
        want = np.asarray(picture.crop(box).resize((12, 8), pil.BILINEAR))
        np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.5])
def test_blur_is_that_of_scipy(rng, ndimage, sigma):
    image = rng.random((2, 20, 30), np.float32)
    want = [
        ndimage.gaussian_filter(p.astype(float), sigma, mode="mirror", truncate=3 / sigma)
        for p in image
    ]
    np.testing.assert_allclose(T.GaussianBlur(7, sigma)(image), want, atol=1e-5)


def test_sobel_is_that_of_scipy(rng, ndimage):
    image = rng.random((2, 9, 30), np.float32) / 8
    gradients = [
        [ndimage.sobel(p.astype(float), axis, mode="nearest") for p in image] for axis in (0, 1)
    ]
    np.testing.assert_allclose(T.Sobel()(image), np.hypot(*gradients), atol=1e-6)
    assert T.Sobel()(image * 8).max() == 1


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.7])
def test_brightness_contrast_and_saturation_are_those_of_pillow(rng, pil, factor):
    enhance = pytest.importorskip("PIL.ImageEnhance", reason="Pillow is not installed")
    picture = to_pil(pil, photo(rng))
    image, same = from_pil(picture).copy(), (factor, factor)
    for name, option in (
        ("Brightness", "brightness"),
        ("Contrast", "contrast"),
        ("Color", "saturation"),
    ):
        want = from_pil(getattr(enhance, name)(picture).enhance(factor))
        got = T.ColorJitter(**{option: same})(image)
        np.testing.assert_allclose(got, want, atol=0.01, err_msg=name)


def test_hue_turns_red_into_green_and_blue():
    red = np.zeros((3, 1, 1), np.float32)
    red[0] = 0.8
    got = T.ColorJitter(hue=(1 / 3, 1 / 3))(red).ravel()
    np.testing.assert_allclose(got, [0, 0.8, 0], atol=1e-6)
    got = T.ColorJitter(hue=(-1 / 3, -1 / 3))(red).ravel()
    np.testing.assert_allclose(got, [0, 0, 0.8], atol=1e-6)


@pytest.mark.torch
def test_jitter_and_soft_labels_have_the_meaning_of_torch(rng, torch):
    logits, labels = rng.standard_normal((5, 4)).astype(np.float32), rng.integers(0, 4, 5)
    _, shares = T.MixUp(0.7, 4)(rng.random((5, 1, 2, 2), np.float32), labels)
    import convcore.functional as F

    for smoothing in (0.0, 0.2):
        x = torch.tensor(logits, requires_grad=True)
        want = torch.nn.functional.cross_entropy(
            x, torch.from_numpy(shares), label_smoothing=smoothing
        )
        want.backward()
        got, gradient = F.cross_entropy(
            logits, shares, label_smoothing=smoothing, return_gradient=True
        )
        np.testing.assert_allclose(got, want.item(), rtol=1e-5)
        np.testing.assert_allclose(gradient, x.grad.numpy(), atol=1e-6)


# ---- types and errors ----------------------------------------------------------------------------


def test_bytes_stay_exact_and_floats_stay_floats(rng):
    x = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    np.testing.assert_array_equal(T.RandomCrop(16)(x), x)
    np.testing.assert_array_equal(T.RandomVerticalFlip(1)(x), x[:, :, ::-1])
    assert T.Compose([])(x[0]).dtype == np.uint8
    bright = T.ColorJitter(brightness=(2, 2))(x)
    np.testing.assert_array_equal(bright, np.minimum(2 * x.astype(int), 255))
    y = T.Compose([T.RandomHorizontalFlip(1), T.Normalize(0.5, 0.25)])(x)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, (x[..., ::-1] / 255 - 0.5) / 0.25, rtol=1e-5, atol=1e-6)
    floats = rng.random((2, 3, 4, 5), np.float32)
    assert T.RandomHorizontalFlip()(floats).dtype == np.float32


def test_no_images_give_no_images():
    for dtype in (np.uint8, np.float32):
        assert EVERYTHING(np.zeros((0, 3, 9, 9), dtype)).shape == (0, 3, 13, 13)
    assert T.MixUp(num_classes=3)(np.zeros((0, 1, 2, 2), np.uint8), np.zeros(0, int))[1].shape == (
        0,
        3,
    )


def test_strided_images_are_copied_into_order(rng):
    x = rng.integers(0, 256, (4, 3, 6, 8)).astype(np.uint8)
    view = x[:, :, ::2, ::-1]
    np.testing.assert_array_equal(EVERYTHING(view, key=KEY), EVERYTHING(view.copy(), key=KEY))


def test_transforms_say_what_they_are():
    assert repr(T.RandomCrop(32, padding=4)) == "RandomCrop(size=32, padding=4, fill=0)"
    assert T.RandomCrop(32) == T.RandomCrop(32)
    with pytest.raises(AttributeError):
        T.RandomCrop(32).size = 3


GREY, COLOURS = np.zeros((1, 6, 8), np.uint8), np.zeros((2, 3, 6, 8), np.uint8)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: T.RandomCrop(0), ValueError, "RandomCrop: size is out of range: expected at least 1, got 0"),
        (lambda: T.RandomCrop(2.5), TypeError, "RandomCrop: size has the wrong type: expected an int"),
        (lambda: T.RandomCrop((1, 2, 3)), ValueError, "RandomCrop: size has the wrong length"),
        (lambda: T.RandomCrop(3, -1), ValueError, "RandomCrop: padding is out of range"),
        (lambda: T.RandomCrop(3, (1, 2, 3)), ValueError, "RandomCrop: padding has the wrong length: expected 1, 2 or 4"),
        (lambda: T.RandomCrop(9)(GREY), ValueError, "RandomCrop: size is larger than the images with their padding: expected at most 6 x 8, got 9 x 9"),
        (lambda: T.CenterCrop(7)(GREY), ValueError, "CenterCrop: size is larger"),
        (lambda: T.RandomCrop(3, fill=[0, 1])(COLOURS), ValueError, "RandomCrop: fill has the wrong length: expected a number or 3 (the channels), got 2"),
        (lambda: T.RandomResizedCrop(3, scale=(0, 1)), ValueError, "RandomResizedCrop: scale is out of range: expected from <= to, more than 0, got (0, 1)"),
        (lambda: T.RandomResizedCrop(3, ratio=2), ValueError, "RandomResizedCrop: ratio is not a range: expected (from, to), got 2"),
        (lambda: T.RandomHorizontalFlip(1.5), ValueError, "RandomHorizontalFlip: p is out of range: expected 0 to 1, got 1.5"),
        (lambda: T.RandomRotation(-3), ValueError, "RandomRotation: degrees is out of range: expected 0 or more"),
        (lambda: T.RandomRotation(float("nan")), ValueError, "RandomRotation: degrees is out of range"),
        (lambda: T.RandomRotation90((45,)), ValueError, "RandomRotation90: degrees are not right angles"),
        (lambda: T.RandomRotation90()(COLOURS), ValueError, "RandomRotation90: degrees give images of different sizes: expected square images"),
        (lambda: T.Grayscale(2), ValueError, "Grayscale: num_output_channels is not known: expected 1 or 3, got 2"),
        (lambda: T.Grayscale()(GREY), ValueError, "Grayscale: the images have no colour: expected 3 channels (red, green, blue), got 1"),
        (lambda: T.RandomGrayscale()(GREY), ValueError, "RandomGrayscale: the images have no colour"),
        (lambda: T.ColorJitter(hue=0.1)(GREY), ValueError, "ColorJitter: the images have no colour"),
        (lambda: T.ColorJitter(hue=0.6), ValueError, "ColorJitter: hue is out of range: expected -0.5 to 0.5"),
        (lambda: T.ColorJitter(contrast=(-1, 1)), ValueError, "ColorJitter: contrast is out of range"),
        (lambda: T.GaussianBlur(4), ValueError, "GaussianBlur: kernel_size is even"),
        (lambda: T.GaussianBlur(3, 0), ValueError, "GaussianBlur: sigma is out of range"),
        (lambda: T.GaussianBlur(13)(GREY), ValueError, "GaussianBlur: kernel_size is too large to mirror the border: expected at most 11 x 15, got 13 x 13"),
        (lambda: T.GaussianNoise(sigma=-1), ValueError, "GaussianNoise: sigma is out of range"),
        (lambda: T.Cutout(0), ValueError, "Cutout: length is out of range: expected at least 1, got 0"),
        (lambda: T.Normalize(0, 0), ValueError, "Normalize: std is out of range"),
        (lambda: T.Normalize([0, 1], [1, 2, 3]), ValueError, "Normalize: mean and std have different lengths"),
        (lambda: T.Normalize([0, 1], 2)(COLOURS), ValueError, "Normalize: std has the wrong length: expected a number or 3"),
        (lambda: T.Compose(3), TypeError, "Compose: transforms has the wrong type: expected a list of transforms, got 3"),
        (lambda: T.Compose([abs]), TypeError, "Compose: transforms has an element of the wrong type"),
        (lambda: T.Compose([T.MixUp(), T.Sobel()]), ValueError, "Compose: MixUp has the wrong place"),
        (lambda: T.Compose([T.Normalize(0, 1), T.Sobel()]), ValueError, "Compose: Normalize has the wrong place"),
        (lambda: T.RandomApply([T.MixUp()]), ValueError, "RandomApply: MixUp cannot be left out"),
        (lambda: T.RandomApply([T.Resize(3)])(GREY), ValueError, "RandomApply: transforms change the shape of the images: expected (1, 6, 8), got (1, 3, 4)"),
        (lambda: T.MixUp(0), ValueError, "MixUp: alpha is out of range: expected more than 0, got 0"),
        (lambda: T.MixUp()(COLOURS), TypeError, "MixUp: labels are missing"),
        (lambda: T.MixUp()(COLOURS, np.zeros(2, int)), ValueError, "MixUp: num_classes is missing"),
        (lambda: T.MixUp(num_classes=2)(COLOURS, np.array([0, 2])), ValueError, "MixUp: labels are out of range: expected 0 to 1, got 0 to 2"),
        (lambda: T.MixUp(num_classes=2)(COLOURS, np.zeros(2)), ValueError, "MixUp: labels do not fit"),
        (lambda: T.Sobel()(COLOURS.astype(np.float64)), TypeError, "Sobel: images have the wrong dtype: expected uint8 or float32, got float64"),
        (lambda: T.Sobel()(COLOURS[0, 0]), ValueError, "Sobel: images have the wrong number of dimensions"),
        (lambda: T.Resize(16)(np.zeros((32, 32, 3), np.uint8)), ValueError, "Resize: the image has its channels last: expected (C, H, W), got (32, 32, 3): is this (H, W, C)? transpose it by x.transpose(2, 0, 1)"),
        (lambda: T.Sobel()([1]), TypeError, "Sobel: images are not an array"),
        (lambda: T.Sobel()(np.full((1, 2, 2), 3, np.float32)), ValueError, "Sobel: the images have values out of range: expected 0 to 1"),
        (lambda: T.Sobel()(COLOURS, key=3), ValueError, "Sobel: key is not a random key"),
        (lambda: T.Sobel()(COLOURS, indices=np.array([2])), ValueError, "transform_images: indices has a value out of range: expected 0 to 1"),
    ],
)  # fmt: skip
def test_transforms_reject(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()


def test_the_core_rejects_what_python_never_sends():
    x = np.zeros((1, 1, 2, 2), np.float32)
    rows = np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="stages has an unknown kind: expected a transform, got x"):
        _core.transform_images(x, rows, [("x", [])], 0, 0, 1.0, None, None, False)
    with pytest.raises(ValueError, match="partners and weights go together"):
        _core.transform_images(x, rows, [], 0, 0, 1.0, rows, None, False)
    with pytest.raises(ValueError, match="partners has a value out of range"):
        _core.transform_images(x, rows, [], 0, 0, 1.0, rows + 1, np.ones(1, np.float32), False)
    with pytest.raises(ValueError, match="alpha is out of range"):
        _core.mixup_pairs(rows, 1, 0.0, 0, 0, 0)


def test_mixup_wants_one_label_per_image():
    images = np.zeros((5, 3, 8, 8), np.float32)
    for count in (4, 9):
        with pytest.raises(ValueError, match=f"expected 5, one per image, got {count}"):
            T.MixUp(1.0, 3)(images, np.arange(count) % 3)
