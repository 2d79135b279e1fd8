"""``convcore predict``: what is in a picture."""

from __future__ import annotations

from typing import Any

from convcore.cli import _network
from convcore.cli._parser import (
    Args,
    Verbs,
    add_threads_option,
    add_verb,
    integer,
    use_threads,
)
from convcore.cli._result import Result, describe, table

_EPILOG = """\
A .npy file holds one image (H, W), (C, H, W) or (H, W, C), or a batch (N, C, H, W) or (N, H, W, C):
bytes, or floats from 0 to 1. Pictures need Pillow: pip install 'convcore[image]'. All are stretched
to the network's input.

examples:
  convcore predict lenet5.safetensors digit.png
  convcore predict lenet5.safetensors *.png batch.npy --top 1
  convcore predict lenet5.safetensors scan.jpg --invert yes --json
  convcore predict my-script.safetensors digit.png --data digits
"""


def add_parser(verbs: Verbs) -> None:
    """Declare the arguments."""
    parser = add_verb(verbs, run, "predict", "name what is in pictures or arrays", _EPILOG)
    parser.add_argument("file", metavar="FILE", help="written by convcore train")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="picture, or array (.npy)")
    parser.add_argument(
        "--top", type=integer(1), default=3, metavar="K", help="classes to show (default 3)"
    )
    _network.add_picture_options(parser)
    add_threads_option(parser)


def run(args: Args) -> Result:
    """Send every picture through the network."""
    import numpy as np

    from convcore import data
    from convcore import functional as F

    use_threads(args)
    model, card = _network.read(args.file)
    card = _network.described(args, card)
    channels, height, width = card.input_shape
    invert = _network.inversion(args.invert, channels)
    predictions: list[dict[str, Any]] = []
    errors: dict[str, Exception] = {}
    for path in args.images:
        try:
            x = data.read_images(
                path, (height, width), channels, invert=invert, mean=card.mean, std=card.std
            )
        except (ImportError, OSError, ValueError) as error:  # the other files may be good
            errors[path] = error
            continue
        probabilities = F.softmax(model.predict(x))
        if probabilities.ndim != 2 or probabilities.shape[1] != len(card.classes):
            raise ValueError(
                f"{args.file} does not fit the classes of {card.data}: expected "
                f"{len(card.classes)} values per image, got an output of shape "
                f"{probabilities.shape[1:]}"
            )
        for index, row in enumerate(probabilities):
            best = np.argsort(-row, kind="stable")[: args.top]
            top = [{"class": card.classes[k], "probability": float(row[k])} for k in best]
            predictions.append({"image": path, "index": index, "top": top})
    document = {
        "file": args.file,
        "predictions": predictions,
        "errors": [{"image": path, "error": describe(e)} for path, e in errors.items()],
    }
    text = "" if errors and not predictions else _text(predictions)
    return Result(document, text, tuple(errors.values()))


def _text(predictions: list[dict[str, Any]]) -> str:
    if not predictions:
        return "no images"
    batches = {p["image"] for p in predictions if p["index"] > 0}
    head = ["image"]
    for place in range(len(predictions[0]["top"])):
        head += [f"{place + 1}.", ""]
    rows = []
    for p in predictions:
        row = [f"{p['image']}[{p['index']}]" if p["image"] in batches else p["image"]]
        for guess in p["top"]:
            row += [guess["class"], f"{guess['probability']:.1%}"]
        rows.append(tuple(row))
    return table(tuple(head), rows)
