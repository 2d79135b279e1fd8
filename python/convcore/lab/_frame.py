"""What all labs share: the description of a lab, a desk to work at, and the result.

A lab is a module with a `Lab` named ``LAB`` and a function ``run(desk)``. The function loads data,
trains and measures through the `Desk`, and hands in numbers, tables and pictures; the frame
compares the numbers with the bands and writes the report.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

import convcore
from convcore import data, optim, random
from convcore.functional._arguments import FloatArray as FloatArray

if TYPE_CHECKING:
    from convcore.data import Dataset
    from convcore.engine import Model
    from convcore.history import History

Labels = np.ndarray[Any, np.dtype[np.int64]]

_QUICK = (
    "This is the quick run, on 1,442 small digits (some experiments take fewer): its numbers are "
    "those of the tables and may well differ from those of the full run."
)


@dataclass(frozen=True)
class Range:
    """Where a number is expected.

    Attributes
    ----------
    low, high : float
    measured : tuple of float
        What the seeds 0, 1, 2, ... gave when the range was set.
    """

    low: float
    high: float
    measured: tuple[float, ...] = ()

    def holds(self, value: float) -> bool:
        """Return whether `value` lies inside, bounds included; NaN never does."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Band:
    """What a number says and where it is expected, on the full data and on the digits.

    Attributes
    ----------
    what : str
    full, quick : Range or None
        None: nothing is expected (a time in the quick mode, for example).
    unit : str, default '%'
        '%' shows the number times 100.
    """

    what: str
    full: Range | None
    quick: Range | None
    unit: str = "%"


@dataclass(frozen=True)
class Lab:
    """The description of a lab.

    Attributes
    ----------
    title : str
    claim : str
        What the lecture says, and which one.
    how : str
        What is done, in two or three sentences.
    data : str
        The data set of the full run; the quick one takes the embedded digits.
    epochs, quick_epochs : int
        What the bands were measured with.
    bands : dict of str to Band
        By the key that `Desk.number` gets.
    lesson : str
        What the full run teaches when all numbers are inside.
    otherwise : str
        What to think of when one is not.
    """

    title: str
    claim: str
    how: str
    data: str
    epochs: int
    quick_epochs: int
    bands: Mapping[str, Band]
    lesson: str
    otherwise: str


@dataclass(frozen=True)
class Number:
    """A measured number beside its band."""

    key: str
    what: str
    value: float
    unit: str
    expected: Range | None

    @property
    def inside(self) -> bool | None:
        """Whether it is where it is expected; None when nothing is."""
        return None if self.expected is None else self.expected.holds(self.value)

    def shown(self, value: float) -> str:
        """Return a value with its unit."""
        if self.unit == "%":
            return f"{100 * value:.1f} %"
        return f"{value:.3g} {self.unit}".rstrip()

    @property
    def band(self) -> str:
        """The band as text."""
        if self.expected is None:
            return "-"
        low, high = self.expected.low, self.expected.high
        if math.isinf(high):
            return f"at least {self.shown(low)}"
        if math.isinf(low):
            return f"at most {self.shown(high)}"
        return f"{self.shown(low)} to {self.shown(high)}"

    @property
    def measured(self) -> str:
        """What the seeds gave when the band was set."""
        return ", ".join(map(self.shown, self.expected.measured)) if self.expected else ""


@dataclass(frozen=True)
class Table:
    """A table of the report; the first column names the rows."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, repr=False)
class Picture:
    """A picture of the report."""

    title: str
    caption: str
    png: bytes


@dataclass(frozen=True, repr=False)
class Result:
    """What a lab found.

    Attributes
    ----------
    name : str
    lab : Lab
    setting : dict
        data, quick, seed, epochs, threads, seconds.
    numbers : tuple of Number
    tables : tuple of Table
    details : dict
        The curves behind the pictures, for JSON.
    pictures : tuple of Picture
    missing : str
        Why there are no pictures; empty when there are.
    """

    name: str
    lab: Lab
    setting: dict[str, Any]
    numbers: tuple[Number, ...]
    tables: tuple[Table, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()
    missing: str = ""

    @property
    def verdict(self) -> str:
        """``'inside'``, ``'outside'``; ``'no band'`` in another setting than that of the bands."""
        judged = [number.inside for number in self.numbers if number.inside is not None]
        if not judged:
            return "no band"
        return "inside" if all(judged) else "outside"

    @property
    def teaching(self) -> str:
        """What the verdict teaches."""
        own = not self.setting["quick"]  # the lesson is of a run like this one
        if self.verdict == "inside":
            return self.lab.lesson if own else _QUICK
        if self.verdict == "no band":
            other = "The bands were measured with other epochs, so these numbers are not compared. "
            return other + (self.lab.lesson if own else _QUICK)
        out = "; ".join(n.what for n in self.numbers if n.inside is False)
        return f"Outside: {out}. {self.lab.otherwise}" + ("" if own else f" {_QUICK}")

    @property
    def full_run(self) -> str:
        """What the full run shows, which a quick run need not; empty for the full run."""
        return self.lab.lesson if self.setting["quick"] else ""

    def __getitem__(self, key: str) -> float:
        """Return the number with that key."""
        return {number.key: number.value for number in self.numbers}[key]

    def __repr__(self) -> str:
        return f"Result({self.name!r}, {self.verdict}, {len(self.numbers)} numbers)"

    def __str__(self) -> str:
        from convcore.lab._report import to_text

        return to_text(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the pictures in forms that JSON knows."""
        return {
            "lab": self.name,
            "title": self.lab.title,
            "claim": self.lab.claim,
            **self.setting,
            "verdict": self.verdict,
            "teaching": self.teaching,
            "full_run": self.full_run,
            "numbers": [
                {
                    "key": n.key,
                    "what": n.what,
                    "value": n.value,
                    "unit": n.unit,
                    "low": n.expected.low if n.expected else None,
                    "high": n.expected.high if n.expected else None,
                    "measured": list(n.expected.measured) if n.expected else [],
                    "inside": n.inside,
                }
                for n in self.numbers
            ],
            "details": self.details,
        }

    def to_html(self) -> str:
        """Return the report: one page without other files."""
        from convcore.lab._report import to_html

        return to_html(self)


class Desk:
    """Where a lab works: data, training, and what it hands in.

    Attributes
    ----------
    quick : bool
    epochs : int
    rng : numpy.random.Generator
        For what is no training: permutations, noise.
    """

    def __init__(
        self,
        lab: Lab,
        *,
        quick: bool,
        seed: int,
        epochs: int | None,
        data_dir: str | None,
        verbose: int,
    ) -> None:
        self.lab = lab
        self.quick = quick
        self.usual = lab.quick_epochs if quick else lab.epochs
        self.epochs = self.usual if epochs is None else epochs
        self.rng = np.random.default_rng(seed)
        self._seed = seed
        self._data_dir = data_dir
        self._verbose = verbose
        self._numbers: list[Number] = []
        self._tables: list[Table] = []
        self._details: dict[str, Any] = {}
        self._pictures: list[Picture] = []
        self._missing = ""

    # ---- data and training -----------------------------------------------------------------------

    def load(
        self, limit: int | None = None, *, normalize: bool = True, image_size: int | None = None
    ) -> tuple[Dataset, Dataset]:
        """Return the training images (the first `limit` of them) and the test images.

        Without `normalize` black is 0 and white 1.
        """
        name = "digits" if self.quick else self.lab.data

        def read(split: str) -> Dataset:
            return data.load(
                name, split, data_dir=self._data_dir, normalize=normalize, image_size=image_size
            )

        return first(read("train"), limit), read("test")

    def train(
        self,
        model: Model,
        train: Dataset,
        test: Dataset | None = None,
        *,
        title: str = "",
        epochs: int | None = None,
        batch_size: int | None = None,
        optimizer: Callable[[Any], optim.Optimizer] | str = "adam",
        **fit: Any,
    ) -> History:
        """Train with Adam (unless said otherwise) and return the history."""
        if model._compiled is None:
            model.compile(optimizer=optimizer)
        if self._verbose and title:
            self.say(title)
        return model.fit(
            train.x,
            train.y,
            epochs=self.epochs if epochs is None else epochs,
            batch_size=batch_size or (32 if self.quick else 128),
            validation_data=None if test is None else (test.x, test.y),
            verbose=self._verbose,
            **fit,
        )

    def say(self, text: str) -> None:
        """Tell on stderr what is being done."""
        if self._verbose:
            import sys

            print(text, file=sys.stderr, flush=True)

    # ---- handing in ------------------------------------------------------------------------------

    def number(self, key: str, value: float) -> None:
        """Hand in a number; `key` names its band."""
        band = self.lab.bands[key]
        expected = band.quick if self.quick else band.full
        if self.epochs != self.usual:
            expected = None
        self._numbers.append(Number(key, band.what, float(value), band.unit, expected))

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Hand in a table of text."""
        self._tables.append(Table(title, tuple(head), tuple(map(tuple, rows))))

    def detail(self, **curves: Any) -> None:
        """Hand in what a picture shows, as numbers and lists for JSON."""
        self._details |= {name: _plain(value) for name, value in curves.items()}

    def picture(self, title: str, caption: str, draw: Callable[[Any], None], **size: float) -> None:
        """Hand in a picture: `draw` gets an empty matplotlib figure.

        Without matplotlib, `draw` is not called, and the report says so.
        """
        from convcore.lab._pictures import NoMatplotlib, render

        try:
            self._pictures.append(Picture(title, caption, render(draw, **size)))
        except NoMatplotlib as reason:
            self._missing = str(reason)

    def result(self, name: str, seconds: float) -> Result:
        """Return all that was handed in."""
        handed_in = {number.key for number in self._numbers}
        forgotten = [key for key in self.lab.bands if key not in handed_in]
        if forgotten:
            raise RuntimeError(f"lab {name}: no number for the bands {', '.join(forgotten)}")
        setting = {
            "data": "digits" if self.quick else self.lab.data,
            "quick": self.quick,
            "seed": self._seed,
            "epochs": self.epochs,
            "threads": convcore.num_threads(),
            "seconds": seconds,
        }
        return Result(
            name,
            self.lab,
            setting,
            tuple(self._numbers),
            tuple(self._tables),
            self._details,
            tuple(self._pictures),
            self._missing,
        )


def work(name: str, lab: Lab, run: Callable[[Desk], None], seed: int, **options: Any) -> Result:
    """Run a lab from its seed; the caller's random numbers go on afterwards as if it had not."""
    before = random.get_rng_state()
    random.manual_seed(seed)
    desk = Desk(lab, seed=seed, **options)
    start = time.perf_counter()
    try:
        run(desk)
    finally:
        random.set_rng_state(before)
    return desk.result(name, time.perf_counter() - start)


# ---- small helpers of several labs ---------------------------------------------------------------


def first(part: Dataset, count: int | None) -> Dataset:
    """Return the first `count` images of a data set."""
    from dataclasses import replace

    return part if count is None else replace(part, x=part.x[:count], y=part.y[:count])


def changed(part: Dataset, x: FloatArray) -> Dataset:
    """Return the data set with other images."""
    from dataclasses import replace

    return replace(part, x=np.ascontiguousarray(x, np.float32))


def accuracy(model: Model, x: Any, y: Labels) -> float:
    """Return the share of right answers."""
    return float((model.predict(x).argmax(axis=1) == y).mean())


def shifted(x: FloatArray, rows: int, columns: int) -> FloatArray:
    """Return images (N, C, H, W) moved down and to the right; zeros come in."""
    y = np.zeros_like(x)
    height, width = x.shape[2:]

    def spans(step: int, size: int) -> tuple[slice, slice]:
        return slice(max(step, 0), size + min(step, 0)), slice(max(-step, 0), size - max(step, 0))

    (to_rows, from_rows), (to_columns, from_columns) = spans(rows, height), spans(columns, width)
    y[:, :, to_rows, to_columns] = x[:, :, from_rows, from_columns]
    return y


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value
