"""The experiments of the lectures, each with the outcome that is expected: ``convcore lab``.

A lab is a short module of this package (`convcore.lab.fashion` is a good first one to read). `run`
runs it from a seed and returns its numbers beside the bands they are expected in, with tables and
pictures; ``result.to_html()`` is the report. docs/labs.md has the measured outcomes.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from convcore._names import did_you_mean
from convcore._training import to_count
from convcore.lab._frame import Band, Desk, Lab, Number, Picture, Range, Result, Table, work

__all__ = [
    "Band",
    "Desk",
    "Lab",
    "Number",
    "Picture",
    "Range",
    "Result",
    "Table",
    "describe",
    "names",
    "run",
]

_NAMES = (
    "fashion",
    "permuted-pixels",
    "shift",
    "rotation",
    "adversarial",
    "overfit",
    "depth",
    "pooling",
    "batchnorm",
    "filters",
    "bias",
    "lenet-20k",
)


def names() -> list[str]:
    """Return the names that `run` knows.

    Examples
    --------
    >>> from convcore import lab
    >>> lab.names()[:3]
    ['fashion', 'permuted-pixels', 'shift']
    """
    return list(_NAMES)


def describe(name: str) -> Lab:
    """Return the description of a lab.

    Raises
    ------
    ValueError
        When the name is not known; names the nearest one.

    Examples
    --------
    >>> from convcore import lab
    >>> lab.describe("fashion").data
    'fashion-mnist'
    """
    lab: Lab = _module("describe", name).LAB
    return lab


def run(
    name: str,
    *,
    quick: bool = False,
    data_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    epochs: int | None = None,
    verbose: int = 0,
) -> Result:
    """Run an experiment.

    Parameters
    ----------
    name : str
        One of `names`.
    quick : bool, default False
        On the embedded digits, in seconds.
    data_dir : path, optional
        Where the files of the full run's data set are, as for `data.load`.
    seed : int, default 0
    epochs : int, optional
        Other than the bands were measured with; the numbers are not compared with them then.
    verbose : {0, 1}
        1 shows the trainings on stderr.

    Returns
    -------
    Result

    Raises
    ------
    ValueError
        When the name is not known; names the nearest one.
    FileNotFoundError, ImportError, OSError
        When there are no data, as `data.load`.

    Examples
    --------
    >>> from convcore import lab
    >>> result = lab.run("filters", quick=True)
    >>> result.verdict
    'inside'
    """
    module = _module("run", name)
    if epochs is not None:
        epochs = to_count("run", "epochs", epochs)
    return work(
        name,
        module.LAB,
        module.run,
        seed,
        quick=bool(quick),
        epochs=epochs,
        data_dir=None if data_dir is None else os.fspath(data_dir),
        verbose=verbose,
    )


def _module(owner: str, name: str) -> Any:
    if name not in _NAMES:
        raise ValueError(
            f"{owner}: name is not known: expected one of {', '.join(map(repr, _NAMES))}, "
            f"got {name!r}{did_you_mean(name, _NAMES)}"
        )
    return import_module("convcore.lab." + name.replace("-", "_"))
