"""Data sets: the embedded digits, MNIST, Fashion-MNIST, CIFAR-10, and pictures from files.

`load` gives a data set by its name, `load_folder` your own pictures. `Images` keeps images as uint8
and makes float32 of them batch by batch; `Augment`, as all of `convcore.transforms`, says what
`Model.fit` does to them at random.

The digits come with the package. The others are read from the standard files, which are looked
for in the folder given as `data_dir`, in ``$CONVCORE_DATA`` and in the cache folder
(``$XDG_CACHE_HOME/convcore``, else ``~/.cache/convcore``); in each of them first in the subfolder
with the data set's name. What is nowhere is downloaded into the cache folder, unless `data_dir` is
given.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from convcore._images import Images
from convcore.data import _cifar10, _digits, _folder, _idx
from convcore.data._catalogue import CATALOGUE, CIFAR10, DIGITS, find_entry
from convcore.data._download import DownloadError, by_hand
from convcore.data._download import download as _download
from convcore.data._image import read_image, read_images, read_picture
from convcore.data._locate import cache_dir, locate
from convcore.data._resize import resize
from convcore.transforms import Augment

__all__ = [
    "NAMES",
    "Augment",
    "Dataset",
    "DownloadError",
    "Images",
    "cache_dir",
    "load",
    "load_folder",
    "load_uint8",
    "read_image",
    "read_images",
    "read_picture",
]

#: The names that `load` knows.
NAMES: tuple[str, ...] = tuple(CATALOGUE)


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images and labels of one split of a data set.

    Attributes
    ----------
    name : str
        The name given to `load`.
    split : str
        ``'train'`` or ``'test'``; ``'all'`` of `load_folder`.
    x : ndarray, shape (N, C, H, W), float32; or Images
        The images: ``(value in [0, 1] - mean) / std``, per channel. `Images` keeps them as uint8
        and gives batches of float32.
    y : ndarray, shape (N,), int64
        The labels: indices into `classes`.
    classes : tuple of str
        The names of the classes.
    mean, std : tuple of float
        What the images were standardised with, per channel; zeros and ones when they were not.
    """

    name: str
    split: str
    x: npt.NDArray[np.float32] | Images
    y: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        shape, classes = self.x.shape, len(self.classes)
        return f"Dataset({self.name!r}, {self.split!r}, x {shape}, {classes} classes)"


def load(
    name: str,
    split: str = "train",
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
    mirrors: Sequence[str] | None = None,
    image_size: int | None = None,
    normalize: bool = True,
    dtype: str = "float32",
) -> Dataset:
    """Load one split of a data set, ready for a network.

    Parameters
    ----------
    name : str
        ``'digits'``, ``'mnist'``, ``'fashion-mnist'`` or ``'cifar10'``.
    split : str, default 'train'
        ``'train'`` or ``'test'``.
    data_dir : path, optional
        The first folder to look for the files in. When it is given, nothing is downloaded.
    download : bool, default True
        Download missing files (needs pooch: ``pip install 'convcore[data]'``).
    mirrors : sequence of str, optional
        Addresses to download from instead of the built-in ones: each file is expected at
        ``<mirror>/<name>/<file>``. Default: those in ``$CONVCORE_MIRRORS``, separated by spaces.
    image_size : int, optional
        Resize the images to this height and width. Default: 28 for digits (stored as 8 x 8), as
        stored for the others.
    normalize : bool, default True
        Standardise with the constants of the data set; False gives values in [0, 1].
    dtype : {'float32', 'uint8'}
        How the images are kept in memory. ``'uint8'`` gives `Images`, which take a quarter of the
        memory and become float32 batch by batch; not for images that are resized.

    Returns
    -------
    Dataset

    Raises
    ------
    ValueError
        When a name is unknown, or a file is truncated or corrupt.
    FileNotFoundError
        When files are missing and `download` is False or `data_dir` is given; or when `data_dir`
        is not a folder.
    DownloadError
        When no mirror gave the right files. An OSError.
    ImportError
        When files are missing and pooch is not installed.

    Notes
    -----
    The constants are the mean and standard deviation of the training images (digits: at 28 x 28).
    Resizing is cubic. MNIST takes 188 MB as float32, the training part of CIFAR-10 614 MB.

    Examples
    --------
    >>> import convcore.data
    >>> train = convcore.data.load("digits")
    >>> train
    Dataset('digits', 'train', x (1442, 1, 28, 28), 10 classes)
    >>> train.y[:5]
    array([0, 1, 2, 3, 4])
    """
    entry = find_entry(name)
    size = entry.enlarged if image_size is None else image_size
    if size is not None and size < 1:
        raise ValueError(f"load: image_size is not positive: expected 1 or more, got {size}")
    if dtype not in ("float32", "uint8"):
        raise ValueError(f"load: dtype is not known: expected 'float32' or 'uint8', got {dtype!r}")
    resized = size is not None and entry.image_shape[1:] != (size, size)
    if dtype == "uint8" and resized:
        raise ValueError(
            f"load: dtype does not fit: expected 'float32' for images resized to {size} x {size}, "
            "got 'uint8'"
        )
    images, labels = load_uint8(name, split, data_dir=data_dir, download=download, mirrors=mirrors)
    channels = entry.image_shape[0]
    mean, std = (entry.mean, entry.std) if normalize else ((0.0,) * channels, (1.0,) * channels)
    if dtype == "uint8":
        kept = Images(images, mean, std, entry.peak)
        return Dataset(name, split, kept, labels, entry.classes, mean, std)
    x = images.astype(np.float32)
    x /= np.float32(entry.peak)
    if size is not None:
        x = resize(x, size, size)
    if normalize:
        x -= np.asarray(mean, np.float32)[:, None, None]
        x /= np.asarray(std, np.float32)[:, None, None]
    return Dataset(name, split, x, labels, entry.classes, mean, std)


def load_folder(
    folder: str | os.PathLike[str],
    size: int | tuple[int, int] | None = None,
    *,
    channels: int = 3,
    classes: Sequence[str] | None = None,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
) -> Dataset:
    """Load pictures that lie in one folder per class, ``folder/<class>/<picture>``.

    Parameters
    ----------
    folder : path
        Laid out as for torchvision's ``ImageFolder``: PNG, JPEG and what else Pillow reads. Needs
        Pillow: ``pip install 'convcore[image]'``.
    size : int or (height, width), optional
        Resize all pictures to it (bicubic). Default: they must all have one size.
    channels : {3, 1}
        Colour or grey.
    classes : sequence of str, optional
        The names of the folders, in the order of the labels. Default: all there are, sorted; pass
        ``train.classes`` to load the test images.
    mean, std : float or sequence of float, default 0 and 1
        What the images are standardised with, as values in [0, 1]; one number or one per channel.

    Returns
    -------
    Dataset
        ``x`` is `Images`: uint8 in memory. By class, and by name in a class.

    Raises
    ------
    ValueError
        When there are no pictures, one cannot be read, or sizes differ.
    FileNotFoundError
        When `folder`, or that of a class, does not exist.
    ImportError
        When Pillow is not installed.
    """
    place = Path(folder)
    if channels not in (1, 3):
        raise ValueError(f"load_folder: channels is not known: expected 1 or 3, got {channels!r}")
    if not place.is_dir():
        raise FileNotFoundError(f"load_folder: there is no folder {os.fspath(folder)!r}")
    names = _folder.class_names(place) if classes is None else tuple(classes)
    pair = (size, size) if isinstance(size, int) else size
    images, labels = _folder.read(place, names, channels, pair)
    x = Images(images, mean, std)
    means, stds = (tuple(map(float, np.broadcast_to(v, channels))) for v in (mean, std))
    return Dataset(place.resolve().name, "all", x, labels, names, means, stds)


def load_uint8(
    name: str,
    split: str = "train",
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
    mirrors: Sequence[str] | None = None,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Load the images of one split as they are stored; the arguments are those of `load`.

    Returns
    -------
    images : ndarray, shape (N, C, H, W), uint8
        Values from 0 to 255; digits: 8 x 8 values from 0 to 16. May be read-only.
    labels : ndarray, shape (N,), int64

    Raises
    ------
    ValueError, FileNotFoundError, DownloadError, ImportError
        As `load`.

    Examples
    --------
    >>> import convcore.data
    >>> images, labels = convcore.data.load_uint8("digits", "test")
    >>> images.shape, int(images.max())
    ((355, 1, 8, 8), 16)
    """
    entry = find_entry(name)
    if split not in ("train", "test"):
        raise ValueError(f"load: split is not known: expected 'train' or 'test', got {split!r}")
    if name == DIGITS:
        images, labels = _digits.read(split)
        return images, labels.astype(np.int64)
    if data_dir is not None and not os.path.isdir(data_dir):
        raise FileNotFoundError(
            f"load: data_dir is not a folder: expected an existing one, got {os.fspath(data_dir)!r}"
        )
    files, report = locate(entry, split, data_dir)
    if not files:
        folder = cache_dir() / name
        if data_dir is not None or not download:
            remedy = by_hand(entry, folder if data_dir is None else Path(data_dir))
            if data_dir is not None:
                remedy = f"Without data_dir (--data-dir) they are downloaded.\n{remedy}"
            raise FileNotFoundError(
                f"load: {name} was not found: expected the files of the {split} split in one of "
                f"these folders, got:\n{report}\n{remedy}"
            )
        _download(entry, split, folder, mirrors)
        files, _ = locate(entry, split, data_dir)
    if name == CIFAR10:
        images, labels = _cifar10.read(entry, files, split)
    else:
        images, labels = _idx.read(entry, files)
    return images, labels.astype(np.int64)
