"""`check`: what is wrong with a layer that a student wrote."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convcore._names import did_you_mean
from convcore.teaching.check.conv import CONV
from convcore.teaching.check.dense import AFFINE, LINEAR, RELU
from convcore.teaching.check.exercise import Exercise, base_name
from convcore.teaching.check.grade import Grader, Target, names_of_arguments
from convcore.teaching.check.losses import SOFTMAX_LOSS, SVM_LOSS
from convcore.teaching.check.norm import BATCHNORM
from convcore.teaching.check.pool import MAX_POOL
from convcore.teaching.check.report import Check as Check
from convcore.teaching.check.report import LayerReport as LayerReport
from convcore.teaching.check.report import Report as Report
from convcore.teaching.check.sandbox import Failed, Sandbox

#: All exercises, by name.
EXERCISES = {
    exercise.name: exercise
    for exercise in (CONV, MAX_POOL, AFFINE, LINEAR, RELU, BATCHNORM, SOFTMAX_LOSS, SVM_LOSS)
}

TIME_LIMIT = 20.0
MEMORY_LIMIT = 2 << 30


def check(
    file: str | os.PathLike[str],
    *,
    require: Sequence[str] = (),
    time_limit: float = TIME_LIMIT,
    memory_limit: int = MEMORY_LIMIT,
    seed: int = 0,
) -> Report:
    """Compare the layers in a student's file with the reference and find the mistakes.

    The file is loaded in a process of its own, once for each layer. Known are functions in the form
    of CS231n's assignments::

        conv_forward_naive(x, w, b, conv_param) -> out, cache
        conv_backward_naive(dout, cache) -> dx, dw, db
        max_pool_forward_naive(x, pool_param), affine_forward(x, w, b), relu_forward(x),
        batchnorm_forward(x, gamma, beta, bn_param), softmax_loss(x, y), svm_loss(x, y)

    and classes with ``forward(x)`` and ``backward(dy)`` that are called Conv2d, MaxPool2d, Linear
    or ReLU (or nearly so), keep their parameters in ``weight`` and ``bias`` (or ``W`` and ``b``)
    and the gradients in ``dW`` and ``db`` (or ``weight.grad``, ``grads['W']``, ...).

    Parameters
    ----------
    file : str or path
    require : sequence of str
        Layers that have to be there: 'conv', 'max_pool', 'affine', 'linear', 'relu', 'batchnorm',
        'softmax_loss', 'svm_loss'.
    time_limit : float, default 20
        Seconds for each layer, loading included.
    memory_limit : int, default 2 GiB
        Bytes of address space (not on Windows, and not reliably on macOS).
    seed : int, default 0
        Of the numbers and of some of the shapes.

    Returns
    -------
    Report

    Raises
    ------
    OSError
        When the file cannot be read.
    ValueError
        For a name in `require` that is no layer.

    Notes
    -----
    Each result is compared with `convcore.reference`, on random numbers and on shapes that bring
    mistakes to light (images and filters that are not square, strides that do not fit, no padding).
    Gradients are also compared with finite differences of the student's own forward (CS231n,
    "Gradient checks"), so that a backward that belongs to a wrong forward is not called wrong. The
    cause of a mistake is found by computing each known mistake, and each pair of two, and looking
    which gives the student's numbers.

    This is protection against accidents, not against malice.

    References
    ----------
    The assignments of CS231n, "Deep Learning for Computer Vision", Stanford; the formulas are those
    of CS 725, lecture 16, "Convolution Layers: Summary".

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import convcore
    >>> text = '''
    ... import numpy as np
    ... def relu_forward(x):
    ...     return np.maximum(x, 0), x
    ... def relu_backward(dout, cache):
    ...     return dout * (dout > 0)
    ... '''
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder) / "layers.py"
    ...     _ = file.write_text(text)
    ...     report = convcore.check(file)
    >>> report.passed, [check.part for layer in report.layers for check in layer.checks]
    (False, ['out', 'dx', 'cache'])
    >>> print(report.layers[0].checks[1].cause)
    mask of dout
    """
    path = Path(file)
    required = _expect_layers(require)
    with path.open("rb"):
        pass
    path = path.resolve()
    targets: list[_Target] = []
    layers = []
    with Sandbox(path, time_limit, memory_limit) as sandbox:
        try:
            contents, _ = sandbox.ask("load", [])
            targets += _targets(contents)
        except Failed as failed:
            error = f"the file {failed}"
        else:
            error = "" if targets else _nothing_known(contents)
        if targets:
            layers.append(_grade(sandbox, seed, *targets[0]))
    printed, _ = sandbox.printed()
    for target in targets[1:]:
        with Sandbox(path, time_limit, memory_limit) as sandbox:
            layers.append(_grade(sandbox, seed, *target, load=True))
    return Report(str(file), tuple(layers), error, printed, required)


def _expect_layers(names: Iterable[str]) -> tuple[str, ...]:
    for name in names:
        if name not in EXERCISES:
            raise ValueError(
                f"check: require is not known: expected some of {', '.join(EXERCISES)}, "
                f"got {name!r}{did_you_mean(str(name), EXERCISES)}"
            )
    return tuple(names)


#: An exercise, how its layer is called, and the functions that are not there.
_Target = tuple[Exercise, Target, tuple[str, ...]]


def _targets(contents: dict[str, Any]) -> Iterator[_Target]:
    """Yield the layers of a file."""
    functions, classes = contents["functions"], contents["classes"]
    for exercise in EXERCISES.values():
        for name in functions:
            if base_name(name) not in exercise.functions:
                continue
            backward: str | None = None
            missing: tuple[str, ...] = ()
            if exercise.form == "function":
                backward = name.replace("forward", "backward")
                if backward not in functions:
                    missing, backward = (backward,), None
            yield exercise, _function(exercise, name, backward, functions[name]), missing
        for name, content in classes.items():
            if name.lower().replace("_", "") in exercise.classes:
                missing = () if content["backward"] else (f"{name}.backward",)
                target = Target(
                    "class",
                    name,
                    name if content["backward"] else None,
                    tuple(parameter for parameter, _ in content["parameters"]),
                    tuple(parameter for parameter, needed in content["parameters"] if needed),
                )
                yield exercise, target, missing


def _function(
    exercise: Exercise, name: str, backward: str | None, parameters: list[tuple[str, bool]]
) -> Target:
    """Return how a function is called: with a dictionary of settings, or with each by its name."""
    rest = tuple(parameter for parameter, _ in parameters[len(exercise.arrays) :])
    if rest and set(rest) <= names_of_arguments(exercise):
        return Target(exercise.form, name, backward, rest)
    return Target(exercise.form, name, backward, takes_settings=bool(rest))


def _grade(
    sandbox: Sandbox,
    seed: int,
    exercise: Exercise,
    target: Target,
    missing: tuple[str, ...],
    *,
    load: bool = False,
) -> LayerReport:
    names: tuple[str, ...] = (target.forward,)
    if target.backward is not None and target.form != "class":
        names += (target.backward,)
    grader = Grader(exercise, target, sandbox, np.random.default_rng(seed))
    try:
        if load:
            sandbox.ask("load", [])
        checks = grader.run()
    except Failed as failed:
        checks = (Check("call", False, 1, 1, f"the file {failed}"),)
    sandbox.close()
    return LayerReport(exercise.name, names, checks, missing, sandbox.printed()[1])


def _nothing_known(contents: dict[str, Any]) -> str:
    """Return the message for a file without a known layer; names that are nearly right help."""
    known = [exercise.signature for exercise in EXERCISES.values()]
    names = [name for exercise in EXERCISES.values() for name in exercise.functions]
    hints = "".join(
        f"; {name}{did_you_mean(base_name(name), names)}"
        for name in contents["functions"]
        if did_you_mean(base_name(name), names)
    )
    return (
        "the file has no layer that is known here"
        + hints
        + ". Expected one of:\n  "
        + ("\n  ".join(known))
    )
