"""``convcore test``: how good a trained network is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from convcore.cli import _network
from convcore.cli._parser import (
    Args,
    UsageError,
    Verbs,
    add_data_options,
    add_threads_option,
    add_verb,
    use_threads,
)
from convcore.cli._recipes import DATA
from convcore.cli._result import Result, facts, table

if TYPE_CHECKING:
    from convcore.data import Dataset

_EPILOG = """\
examples:
  convcore test lenet5.safetensors
  convcore test lenet5.safetensors --data mnist --data-dir ~/mnist
  convcore test lenet5.safetensors --json
"""


def add_parser(verbs: Verbs) -> None:
    """Declare the arguments."""
    parser = add_verb(
        verbs, run, "test", "measure loss and accuracy on the test images of a data set", _EPILOG
    )
    parser.add_argument("file", metavar="FILE", help="written by convcore train")
    add_data_options(parser, DATA, default="the one that the network was trained on")
    add_threads_option(parser)


def run(args: Args) -> Result:
    """Send the test images through the network."""
    import numpy as np

    use_threads(args)
    model, card = _network.read(args.file)
    if args.data is None and card is None:
        raise UsageError(f"{args.file} does not say what it was trained on: expected --data")
    data = load_test_images(args, card)
    score = _network.score(model, data)
    images = np.bincount(data.y, minlength=len(data.classes))
    correct = np.bincount(data.y[score.right], minlength=len(data.classes))
    per_class: list[dict[str, Any]] = [
        {
            "class": name,
            "images": int(n),
            "correct": int(c),
            "accuracy": int(c) / int(n) if n else None,
        }
        for name, n, c in zip(data.classes, images, correct, strict=True)
    ]
    document = {
        "file": args.file,
        "data": data.name,
        "images": len(data),
        "loss": score.loss,
        "accuracy": score.accuracy,
        "classes": per_class,
    }
    head = facts(
        [
            ("data", f"{data.name}, {len(data):,} test images"),
            ("accuracy", f"{score.accuracy:.2%} ({correct.sum():,} right)"),
            ("loss", f"{score.loss:.4f}"),
        ]
    )
    rows = (
        (
            row["class"],
            f"{row['images']:,}",
            f"{row['correct']:,}",
            "-" if row["accuracy"] is None else f"{row['accuracy']:.2%}",
        )
        for row in per_class
    )
    return Result(document, f"{head}\n\n{table(('class', 'images', 'right', 'accuracy'), rows)}")


def load_test_images(args: Args, card: _network.Card | None) -> Dataset:
    """Return the test split in the size and with the standardisation of the network."""
    import dataclasses

    import numpy as np

    from convcore import data
    from convcore.data._catalogue import find_entry

    name = args.data or (card.data if card else "")
    if card is None:
        return _network.load_data(name, "test", args.data_dir)
    data_dir = args.data_dir
    if data_dir is None and name == card.data and card.data_dir and os.path.isdir(card.data_dir):
        data_dir = card.data_dir
    channels, height, width = card.input_shape
    # As in train, so that the numbers of the training come out again.
    entry = find_entry(name)
    dtype = "uint8" if entry.image_shape[1:] == (height, height) else "float32"
    test = data.load(
        name, "test", data_dir=data_dir, image_size=height, normalize=False, dtype=dtype
    )
    if test.x.shape[1:] != card.input_shape:
        raise ValueError(
            f"{args.file} does not fit {name}: expected images of "
            f"{channels} x {height} x {width}, got {' x '.join(map(str, test.x.shape[1:]))}"
        )
    x = test.x
    if isinstance(x, data.Images):
        x = data.Images(x.array, card.mean, card.std, entry.peak)
        return dataclasses.replace(test, x=x, mean=card.mean, std=card.std)
    x -= np.asarray(card.mean, np.float32)[:, None, None]
    x /= np.asarray(card.std, np.float32)[:, None, None]
    return dataclasses.replace(test, mean=card.mean, std=card.std)
