"""What ``convcore insight`` looks at: one function per word."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from convcore.cli import _network
from convcore.cli._files import expect_writable
from convcore.cli._parser import Args, UsageError, nearest, use_threads
from convcore.cli._result import Result, facts
from convcore.cli.test import load_test_images

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from convcore.data import Dataset
    from convcore.engine import Model
    from convcore.insight._report import Report

#: The endings of pictures that all installations of matplotlib write.
_PICTURES = (".png", ".pdf", ".svg")
_SHOWN = 8  # test images by default


def confusion(args: Args) -> Result:
    """Count which class is taken for which."""
    from convcore import insight

    model, test = _load(args)
    found = insight.confusion_matrix(test.y, _network.logits_of(model, test), test.classes)
    lines = [f"{n:,} of {a} taken for {b}" for a, b, n in found.confused()]
    text = f"{found}\n\naccuracy {found.accuracy:.2%}; most often: {', '.join(lines) or 'none'}"
    return _result(args, found, text)


def errors(args: Args) -> Result:
    """List the errors by class and group."""
    from convcore import insight

    model, test = _load(args)
    groups = None if args.groups is None else _read_groups(args.groups, len(test))
    found = insight.error_table(test.y, _network.logits_of(model, test), test.classes, groups)
    return _result(args, found, f"{found}\naccuracy {found.accuracy:.2%}")


def curves(args: Args) -> Result:
    """Compare trainings."""
    from convcore import insight

    _expect_writable(args)
    found = insight.learning_curves(args.histories)
    return _result(args, found, str(found))


def filters(args: Args) -> Result:
    """Show filters."""
    from convcore import insight

    _expect_writable(args)
    model, card = _network.read(args.file)
    shape = None if card is None else card.input_shape
    found = insight.filters(model, args.layer, shape)
    return _result(args, found, str(found))


def features(args: Args) -> Result:
    """Show feature maps."""
    from convcore import insight

    args.images = [] if args.images is None else [args.images]
    args.index = None if args.index is None else [args.index]
    seen = _load_pictures(args, most=1)
    if len(seen.x) > 1:
        raise UsageError(f"{seen.names[0]} is one of {len(seen.x)} images: expected a single one")
    found = insight.feature_maps(seen.model, seen.x, args.layers)
    how = {"mean": seen.card.mean, "std": seen.card.std, "layers": args.layers}
    return _result(args, found, f"{seen.names[0]}\n\n{found}", **how)


def patches(args: Args) -> Result:
    """Find what excites units."""
    from convcore import insight

    model, test = _load(args)
    x = test.x[: args.images]
    found = insight.top_patches(model, x, args.layer, args.units, args.top)
    return _result(args, found, str(found), mean=test.mean, std=test.std)


def dissect(args: Args) -> Result:
    """Compare units with concepts."""
    import numpy as np

    from convcore import insight

    model, test = _load(args)
    x = test.x[: args.images]
    mean, std = (np.asarray(v, np.float32)[:, None, None] for v in (test.mean, test.std))
    masks = insight.concepts(np.clip(x * std + mean, 0, 1))
    found = insight.dissect(model, x, masks, args.layer, args.units, args.share)
    count = len(found.detectors())
    text = f"{found}\n\n{count} of {len(found.units)} units reach an IoU of 0.04"
    return _result(args, found, text, mean=test.mean, std=test.std)


def receptive_field(args: Args) -> Result:
    """Compute what a unit sees."""
    from convcore import insight

    _expect_writable(args)
    model, shape = _network.create_or_read(args.network, args.input)
    found = insight.receptive_field(model, args.layer, shape, args.unit)
    return _result(args, found, str(found))


def statistics(args: Args) -> Result:
    """Measure activations."""
    from convcore import insight

    model, test = _load(args)
    x = test.x[: args.images]
    found = insight.activation_statistics(model, x, args.layers)
    return _result(args, found, f"{found}\n\n{len(x):,} test images of {test.name}")


def adversarial(args: Args) -> Result:
    """Attack."""
    from convcore import insight

    model, test = _load(args)
    x, y = test.x[: args.images], test.y[: args.images]
    mean, std = test.mean, test.std
    if len(args.epsilon) > 1:
        curve = insight.adversarial_curve(model, x, y, args.epsilon, mean=mean, std=std)
        return _result(args, curve, str(curve))
    found = insight.fgsm(model, x, y, args.epsilon[0], mean=mean, std=std)
    return _result(args, found, str(found), classes=test.classes)


def saliency(args: Args) -> Result:
    """Differentiate scores with respect to pixels."""
    from convcore import insight

    seen = _load_pictures(args, most=_SHOWN)
    found = insight.saliency(seen.model, seen.x, _target(args, seen.card))
    return _explained(args, found, seen)


def gradcam(args: Args) -> Result:
    """Weigh the maps of a layer."""
    from convcore import insight

    seen = _load_pictures(args, most=_SHOWN)
    found = insight.grad_cam(seen.model, seen.x, _target(args, seen.card), args.layer)
    return _explained(args, found, seen)


# ---- what goes in --------------------------------------------------------------------------------


class _Seen(NamedTuple):
    """A network, and the pictures for it."""

    model: Model
    card: _network.Card
    x: npt.NDArray[np.float32]
    names: list[str]


def _load(args: Args) -> tuple[Model, Dataset]:
    """Return the network and the test images."""
    _expect_writable(args)
    use_threads(args)
    model, card = _network.read(args.file)
    if args.data is None and card is None:
        raise UsageError(f"{args.file} does not say what it was trained on: expected --data")
    return model, load_test_images(args, card)


def _load_pictures(args: Args, most: int) -> _Seen:
    """Return the network, and the pictures named, or else the test images."""
    import numpy as np

    from convcore import data

    if args.images and args.index is not None:
        raise UsageError("--index does not go with pictures: expected one or the other")
    if not args.images:
        model, test = _load(args)
        index = list(range(min(most, len(test)))) if args.index is None else args.index
        if max(index) >= len(test):
            raise UsageError(
                f"--index is out of range: expected less than {len(test):,}, got {max(index)}"
            )
        names = [f"test image {i} of {test.name} ({test.classes[test.y[i]]})" for i in index]
        card = _network.Card("", test.name, test.x.shape[1:], test.classes, test.mean, test.std)
        return _Seen(model, card, test.x[np.asarray(index)], names)
    _expect_writable(args)
    use_threads(args)
    model, read = _network.read(args.file)
    card = _network.described(args, read)
    channels, height, width = card.input_shape
    invert = _network.inversion(args.invert, channels)
    arrays, names = [], []
    for path in args.images:
        x = data.read_images(
            path, (height, width), channels, invert=invert, mean=card.mean, std=card.std
        )
        arrays.append(x)
        names += [path] if len(x) == 1 else [f"{path}[{i}]" for i in range(len(x))]
    if not names:
        raise ValueError(f"{args.images[0]} has no images")
    return _Seen(model, card, np.concatenate(arrays), names)


def _target(args: Args, card: _network.Card) -> int | None:
    if args.target is None:
        return None
    if args.target not in card.classes:
        raise UsageError(f"{args.target!r} is no class: {nearest(args.target, card.classes)}")
    return card.classes.index(args.target)


def _read_groups(path: str, count: int) -> npt.NDArray[Any]:
    import numpy as np

    try:
        groups: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"{path} cannot be read: expected a .npy file of numbers or names, got: {error}"
        ) from error
    if groups.shape != (count,):
        raise ValueError(
            f"{path} does not fit: expected one group for each of {count:,} test images, got an "
            f"array of shape {groups.shape}"
        )
    return groups


# ---- what comes out ------------------------------------------------------------------------------


def _expect_writable(args: Args) -> None:
    """Raise, before the work, when the picture could not be drawn or written."""
    import importlib.util

    if args.output is None:
        return
    path = Path(args.output)
    if path.suffix.lower() not in _PICTURES:
        raise UsageError(f"-o: expected a file ending in {', '.join(_PICTURES)}, got {path}")
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("-o needs matplotlib: pip install 'convcore[plot]'")
    expect_writable(path)


def _result(args: Args, found: Report, text: str, **how: Any) -> Result:
    """Draw the picture, if one is wanted, and return numbers and text."""
    document = {**found.to_dict(), "picture": args.output}
    if args.output is not None:
        found.plot(args.output, **how)
        text += f"\nsaved: {args.output}"
    return Result(document, text)


def _explained(args: Args, found: Any, seen: _Seen) -> Result:
    lines = facts((str(i), name) for i, name in enumerate(seen.names))
    how = {"classes": seen.card.classes, "mean": seen.card.mean, "std": seen.card.std}
    result = _result(args, found, f"{found}\n\n{lines}", **how)
    return result._replace(document={"images": seen.names, **result.document})
