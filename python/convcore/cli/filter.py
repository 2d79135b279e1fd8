"""``convcore filter``: run a named kernel over a picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convcore.cli._parser import (
    Args,
    UsageError,
    Verbs,
    add_threads_option,
    add_verb,
    nearest,
    use_threads,
)
from convcore.cli._result import Result, facts

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_BORDERS = ("replicate", "reflect", "zero")

_EPILOG = """\
Grey pictures stay grey, all others become red, green and blue; transparent ones are laid on white.
What a kernel makes of values is cut off at black and white. Needs Pillow: pip install
'convcore[image]'.

examples:
  convcore filter --list
  convcore filter sharpen photo.png
  convcore filter sobel photo.jpg -o edges.png
  convcore filter edge-8 photo.png --border zero
"""


def add_parser(verbs: Verbs) -> None:
    """Declare the arguments."""
    parser = add_verb(verbs, run, "filter", "run a kernel over a picture", _EPILOG)
    parser.add_argument("name", metavar="NAME", nargs="?", help="the filter; --list names them")
    parser.add_argument("image", metavar="IMAGE", nargs="?", help="the picture")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="where the result goes, its ending says the format (default: IMAGE-NAME.png in the "
        "running folder)",
    )
    parser.add_argument(
        "--border",
        choices=_BORDERS,
        default="replicate",
        help="what lies outside of the picture: the nearest pixel, a mirror image, black "
        "(default replicate)",
    )
    parser.add_argument("--list", action="store_true", help="show the filters and their kernels")
    add_threads_option(parser)


def run(args: Args) -> Result:
    """Read, filter, write."""
    from convcore import filters
    from convcore.data import read_picture
    from convcore.serialization import write_atomically

    use_threads(args)
    if args.list:
        return _list()
    if args.name is None or args.image is None:
        raise UsageError("what to filter is missing: expected NAME and IMAGE, or --list")
    if args.name not in filters.NAMES:
        raise UsageError(f"{args.name!r} is no filter: {nearest(args.name, filters.NAMES)}")
    output = args.output or f"{Path(args.image).stem}-{args.name}.png"
    picture = read_picture(args.image)
    kind = _format(output)
    result = filters.apply(picture, args.name, border=args.border)
    write_atomically(output, _encode(kind, result))
    channels, height, width = result.shape
    document = {
        "filter": args.name,
        "image": args.image,
        "output": output,
        "border": args.border,
        "channels": channels,
        "height": height,
        "width": width,
    }
    return Result(document, f"{output}: {width} x {height}, {args.name} of {args.image}")


def _list() -> Result:
    from convcore import filters

    kernels = {name: filters.KERNELS[name].tolist() for name in filters.KERNELS}
    rows = [(name, filters.describe(name)) for name in filters.NAMES]
    document: dict[str, Any] = {
        "filters": [
            {"name": name, "what": what, "kernel": kernels.get(name)} for name, what in rows
        ]
    }
    return Result(document, facts(rows))


def _format(path: str) -> str:
    """Return Pillow's name for the format that the ending says."""
    from PIL import Image

    Image.init()
    ending = Path(path).suffix.lower()
    if Image.EXTENSION.get(ending) not in Image.SAVE:
        raise UsageError(
            f"{path!r} has no ending of a picture: expected one that Pillow writes, such as .png "
            f"or .jpg, got {ending!r}"
        )
    return Image.EXTENSION[ending]


def _encode(kind: str, image: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> bytes:
    """Return the content of a picture file."""
    import numpy as np
    from PIL import Image

    bytes_ = np.rint(image * np.float32(255)).astype(np.uint8)
    picture = Image.fromarray(bytes_[0] if len(bytes_) == 1 else bytes_.transpose(1, 2, 0))
    content = io.BytesIO()
    picture.save(content, kind)
    return content.getvalue()
