"""transform_images of images in the memory of the GPU: the same images as the reference."""

from __future__ import annotations

import numpy as np
import pytest

from convcore import _core, reference, to_device
from convcore import transforms as T

pytestmark = pytest.mark.usefixtures("cuda")

KEY = (7, 3)
TRANSFORMS = [
    T.RandomCrop(9, 2, 0.5),
    T.Resize((5, 17)),
    T.RandomResizedCrop(8),
    T.RandomHorizontalFlip(0.5),
    T.RandomVerticalFlip(1.0),
    T.RandomRotation(40, 0.3),
    T.RandomRotation90((0, 90, 180, 270)),
    T.RandomErasing(1.0, value=[0.1, 0.2, 0.3]),
    T.Cutout(4, 2),
    T.GaussianNoise(0.1, 0.2, True),
    T.GaussianBlur(5),
    T.Sobel(),
    T.Grayscale(),
    T.ColorJitter(0.4, 0.4, 0.2, 0.1),
    T.Normalize([0.5, 0.4, 0.3], [0.2, 0.25, 0.3]),
    T.RandomApply([T.Sobel(), T.Normalize(0.5, 0.25)], 0.5),
]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)
def test_transforms_match_the_reference(rng, transform):
    x = rng.integers(0, 256, (4, 3, 12, 12)).astype(np.uint8)
    rows = np.array([2, 0, 3, 3])
    got = _core.transform_images(
        to_device(x, "cuda"), rows, transform.stages, *KEY, 1 / 255, None, None, False
    )
    want = reference.transform_images(x.astype(np.float64), rows, transform.stages, KEY, 1 / 255)
    np.testing.assert_allclose(got.numpy(), want, rtol=2e-5, atol=1e-5)


def test_mixed_images_and_bytes_are_those_of_the_cpu(rng):
    x = rng.random((5, 3, 7, 9), np.float32)
    rows, partners = np.array([1, 4, 0]), np.array([2, 2, 3])
    weights = np.array([0.3, 1, 0.75], np.float32)
    stages = T.RandomHorizontalFlip(0.5).stages
    for to_bytes in (False, True):
        arguments = (rows, stages, *KEY, 1.0, partners, weights, to_bytes)
        want = _core.transform_images(x, *arguments)
        got = _core.transform_images(to_device(x, "cuda"), *arguments).numpy()
        assert got.dtype == want.dtype
        np.testing.assert_allclose(
            got.astype(float), want.astype(float), atol=int(to_bytes) or 1e-6
        )
