"""Times of the transforms beside Pillow and torch: ``python -m convcore.bench.augment``.

A batch of CIFAR-10's shape, uint8 to uint8, on one thread. Pillow takes one image after the other,
from an array and back into one, as a data set that keeps arrays does. torch takes the batch at once
where that is possible (all with one angle or sigma, which is less work than ours). What is not
installed is left out.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import convcore
from convcore import transforms as T

SHAPE = (256, 3, 32, 32)
ANGLE, SIGMA, KERNEL, FACTORS = 15.0, 1.0, 3, (1.2, 0.8, 1.3)

Images = npt.NDArray[np.uint8]
Calls = dict[str, Callable[[], object]]


def ours(x: Images) -> Calls:
    """Return what is timed, by name."""
    jitter = T.ColorJitter(*((f, f) for f in FACTORS))
    transforms: dict[str, T.Transform] = {
        "pad-crop, flip": T.Augment(pad=4, flip=True),
        "resized crop": T.RandomResizedCrop(32),
        "rotation": T.RandomRotation((ANGLE, ANGLE)),
        "jitter without hue": jitter,
        "jitter with hue": T.Compose([jitter, T.ColorJitter(hue=0.1)]),
        "Gaussian blur": T.GaussianBlur(KERNEL, SIGMA),
        "Gaussian noise": T.GaussianNoise(),
        "SimCLR": T.Compose(
            [
                T.RandomResizedCrop(32),
                T.RandomHorizontalFlip(),
                T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
                T.RandomGrayscale(p=0.2),
            ]
        ),
    }

    def call(transform: T.Transform) -> Callable[[], object]:
        return lambda: transform(x)

    return {name: call(transform) for name, transform in transforms.items()}


def pillow(x: Images) -> Calls:
    """Return the same by Pillow; nothing when it is not installed."""
    try:
        from PIL import Image, ImageEnhance, ImageFilter, ImageOps
    except ImportError:
        return {}
    rng = np.random.default_rng(0)

    def crop(picture: Any) -> Any:
        left, top = rng.integers(0, 9, 2)
        wide = ImageOps.expand(picture, 4).crop((left, top, left + 32, top + 32))
        return ImageOps.mirror(wide) if rng.random() < 0.5 else wide

    def resized_crop(picture: Any) -> Any:
        side = int(32 * math.sqrt(rng.uniform(0.08, 1))) or 1
        left, top = rng.integers(0, 33 - side, 2)
        box = (left, top, left + side, top + side)
        return picture.resize((32, 32), Image.Resampling.BILINEAR, box=box)

    def jitter(picture: Any) -> Any:
        enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
        for enhancer, factor in zip(enhancers, FACTORS, strict=True):
            picture = enhancer(picture).enhance(factor)
        return picture

    def hue(picture: Any) -> Any:
        h, s, v = jitter(picture).convert("HSV").split()
        turned = Image.fromarray(np.asarray(h) + np.uint8(10))
        return Image.merge("HSV", (turned, s, v)).convert("RGB")

    changes: dict[str, Callable[[Any], Any]] = {
        "pad-crop, flip": crop,
        "resized crop": resized_crop,
        "rotation": lambda p: p.rotate(ANGLE, Image.Resampling.BILINEAR),
        "jitter without hue": jitter,
        "jitter with hue": hue,
        "Gaussian blur": lambda p: p.filter(ImageFilter.GaussianBlur(SIGMA)),
    }

    def call(change: Callable[[Any], Any]) -> Callable[[], object]:
        def run() -> object:
            pictures = (change(Image.fromarray(image.transpose(1, 2, 0))) for image in x)
            return np.stack([np.asarray(picture).transpose(2, 0, 1) for picture in pictures])

        return run

    return {name: call(change) for name, change in changes.items()}


def torch_side(x: Images) -> Calls:
    """Return the same by torch; nothing when it is not installed."""
    try:
        import torch
        import torch.nn.functional as TF
    except ImportError:
        return {}
    torch.set_num_threads(1)
    images = torch.from_numpy(x)
    grey = torch.tensor([0.2989, 0.587, 0.114])[:, None, None]

    def to_bytes(values: Any) -> Any:
        return (values * 255).round().clamp(0, 255).to(torch.uint8)

    def crop() -> Any:
        wide = TF.pad(images, (4, 4, 4, 4))
        top, left = torch.randint(0, 9, (2, len(images), 1, 1))
        mirrored = torch.rand(len(images), 1, 1) < 0.5
        j = torch.arange(32)
        columns = left + torch.where(mirrored, 31 - j, j)
        rows = top + torch.arange(32)[:, None]
        number = torch.arange(len(images))[:, None, None]
        return wide.permute(0, 2, 3, 1)[number, rows, columns].permute(0, 3, 1, 2).contiguous()

    def rotation() -> Any:
        c, s = math.cos(math.radians(ANGLE)), math.sin(math.radians(ANGLE))
        matrix = torch.tensor([[c, -s, 0.0], [s, c, 0.0]]).expand(len(images), 2, 3)
        grid = TF.affine_grid(matrix, list(images.shape), align_corners=False)
        return to_bytes(TF.grid_sample(images / 255, grid, align_corners=False))

    def jitter() -> Any:
        v = (images / 255 * FACTORS[0]).clamp(0, 1)
        mean = (v * grey).sum(1, keepdim=True).mean((2, 3), keepdim=True)
        v = (FACTORS[1] * v + (1 - FACTORS[1]) * mean).clamp(0, 1)
        v = FACTORS[2] * v + (1 - FACTORS[2]) * (v * grey).sum(1, keepdim=True)
        return to_bytes(v.clamp(0, 1))

    def blur() -> Any:
        bell = torch.exp(-0.5 * (torch.arange(KERNEL) - KERNEL // 2) ** 2 / SIGMA**2)
        kernel = (bell[:, None] * bell / bell.sum() ** 2).expand(3, 1, KERNEL, KERNEL)
        wide = TF.pad(images / 255, (KERNEL // 2,) * 4, mode="reflect")
        return to_bytes(TF.conv2d(wide, kernel, groups=3))

    def noise() -> Any:
        return to_bytes(images / 255 + 0.1 * torch.randn(images.shape))

    return {
        "pad-crop, flip": crop,
        "rotation": rotation,
        "jitter without hue": jitter,
        "Gaussian blur": blur,
        "Gaussian noise": noise,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Print microseconds per image, and how much longer the others take."""
    parser = argparse.ArgumentParser(description="Time the transforms on one thread.")
    parser.add_argument("--rounds", type=int, default=9, help="medians over so many (default 9)")
    rounds = parser.parse_args(argv).rounds
    convcore.set_num_threads(1)
    x = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
    sides = {"convcore": ours(x), "Pillow": pillow(x), "torch": torch_side(x)}
    print(f"{'us per image':<20}{'convcore':>10}{'Pillow':>10}{'':>8}{'torch':>10}")
    for name in sides["convcore"]:
        calls = {side: each[name] for side, each in sides.items() if name in each}
        times: dict[str, list[float]] = {side: [] for side in calls}
        for count in range(rounds + 1):  # in turns; the first round does not count
            for side, call in calls.items():
                start = time.perf_counter()
                call()
                if count:
                    times[side].append((time.perf_counter() - start) / SHAPE[0] * 1e6)
        median = {side: statistics.median(each) for side, each in times.items()}
        line = f"{name:<20}{median['convcore']:>10.2f}"
        for side in ("Pillow", "torch"):
            if side in median:
                ratio = median[side] / median["convcore"]
                line += f"{median[side]:>10.2f}{f'x{ratio:.1f}':>8}"
            else:
                line += f"{'-':>10}{'':>8}"
        print(line.rstrip())


if __name__ == "__main__":
    main()
