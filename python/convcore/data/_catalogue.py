"""What is known about each data set: classes, normalisation, files, check sums, mirrors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from convcore._names import did_you_mean

DIGITS = "digits"
CIFAR10 = "cifar10"


@dataclass(frozen=True)
class Entry:
    """One data set that `convcore.data.load` knows."""

    name: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]  # (channels, height, width) as stored
    peak: int  # the pixel value of full brightness
    mean: tuple[float, ...]  # of the training pixels scaled to [0, 1], per channel
    std: tuple[float, ...]
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # split -> what to download
    sha256: Mapping[str, str] = field(default_factory=dict)  # of each of these files
    mirrors: tuple[str, ...] = ()  # each file lies under <mirror>/<file>
    labels_sha256: frozenset[str] = frozenset()  # of the labels of each split, a byte each
    enlarged: int | None = None  # height and width that `load` gives by default; None: as stored

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The (channels, height, width) of the images that `load` gives by default."""
        channels, height, width = self.image_shape
        return channels, self.enlarged or height, self.enlarged or width


# MNIST and Fashion-MNIST name their files alike: (images, labels) of each split.
IDX_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
CIFAR10_ARCHIVE = "cifar-10-binary.tar.gz"


def _sums(*sha256: str) -> dict[str, str]:
    """Give the IDX files, in the order of `IDX_FILES`, their check sums."""
    return dict(zip(IDX_FILES["train"] + IDX_FILES["test"], sha256, strict=True))


_NUMERALS = tuple("0123456789")

_ENTRIES = (
    Entry(
        name=DIGITS,
        classes=_NUMERALS,
        image_shape=(1, 8, 8),
        peak=16,
        enlarged=28,
        # Of the training images enlarged to 28 x 28; tests/data/test_digits.py computes them again.
        mean=(0.3088,),
        std=(0.3502,),
    ),
    Entry(
        name="mnist",
        classes=_NUMERALS,
        image_shape=(1, 28, 28),
        peak=255,
        mean=(0.1307,),
        std=(0.3081,),
        files=IDX_FILES,
        # The files as first published by Y. LeCun, C. Cortes and C. Burges, and mirrored since.
        sha256=_sums(
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist",
            "https://storage.googleapis.com/cvdf-datasets/mnist",
        ),
        labels_sha256=frozenset(
            {
                "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
                "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
            }
        ),
    ),
    Entry(
        name="fashion-mnist",
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        image_shape=(1, 28, 28),
        peak=255,
        mean=(0.2860,),
        std=(0.3530,),
        files=IDX_FILES,
        # The files that Zalando Research publishes (their README gives MD5 sums of the same files).
        sha256=_sums(
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
        mirrors=(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        ),
        labels_sha256=frozenset(
            {
                "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
                "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
            }
        ),
    ),
    Entry(
        name=CIFAR10,
        classes=(
            "airplane",
            "automobile",
            "bird",
            "cat",
            "deer",
            "dog",
            "frog",
            "horse",
            "ship",
            "truck",
        ),
        image_shape=(3, 32, 32),
        peak=255,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        files={"train": (CIFAR10_ARCHIVE,), "test": (CIFAR10_ARCHIVE,)},
        # The archive that A. Krizhevsky publishes at the first mirror (170,052,171 bytes); the
        # sum is the one that other libraries with a loader of this archive hold it against.
        sha256={
            CIFAR10_ARCHIVE: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        },
        mirrors=(
            "https://www.cs.toronto.edu/~kriz",
            "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10",
        ),
    ),
)

CATALOGUE: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}


def find_entry(name: str) -> Entry:
    """Return the entry of `name`; the error for an unknown one suggests the nearest."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    raise ValueError(
        f"load: name is not a known data set: expected one of "
        f"{', '.join(map(repr, CATALOGUE))}, got {name!r}{did_you_mean(str(name), CATALOGUE)}"
    )
