"""The process in which a student's file runs. Needs NumPy only, and is started by its path.

It reads requests from what was stdin and answers on what was stdout; before the file is loaded both
are put out of its reach: ``input()`` finds an end of file, and what the file prints goes to stderr,
which the parent collects.

A message is eight bytes with its length and an .npz file: the array ``meta`` is JSON, the others
are the arrays. Nothing is pickled, so an answer can hurt nobody.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import inspect
import io
import json
import math
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

Array = np.ndarray[Any, Any]
Answer = tuple[dict[str, Any], list[Array]]

#: An answer larger than this is not sent: no layer of the exercises returns so much.
LARGEST = 64 << 20

#: Stands in the output between what was printed while the file was loaded, and later.
LOADED = b"\0loaded\0"


def encode(meta: dict[str, Any], arrays: list[Array]) -> bytes:
    """Return a message."""
    file = io.BytesIO()
    named = {f"a{i}": array for i, array in enumerate(arrays)}
    np.savez(file, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **named)  # type: ignore[arg-type]
    content = file.getvalue()
    return len(content).to_bytes(8, "little") + content


def decode(content: bytes) -> Answer:
    """Return what `encode` was given."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        meta = json.loads(file["meta"].tobytes().decode())
        return meta, [file[f"a{i}"] for i in range(len(file.files) - 1)]


def read(stream: BinaryIO) -> bytes | None:
    """Return the next message, None at the end."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    size = int.from_bytes(head, "little")
    if size > 2 * LARGEST:
        return None
    content = stream.read(size)
    return content if len(content) == size else None


class Unusable(Exception):
    """The student's code did something that can be described better than by its type."""


# ---- calling the student's code ------------------------------------------------------------------


class Student:
    """The loaded file, and what its forward passes kept."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.module: Any = None
        self.caches: dict[str, Any] = {}

    def load(self) -> Answer:
        """Import the file; return what is in it."""
        sys.path[0] = os.path.dirname(os.path.abspath(self.path))
        loader = importlib.machinery.SourceFileLoader("student", self.path)
        spec = importlib.util.spec_from_loader("student", loader)
        assert spec is not None
        self.module = importlib.util.module_from_spec(spec)
        sys.modules["student"] = self.module
        loader.exec_module(self.module)
        return self.contents(), []

    def contents(self) -> dict[str, Any]:
        """Return the file's functions and classes with their parameters."""
        functions, classes = {}, {}
        for name, value in vars(self.module).items():
            if name.startswith("_") or not self._is_own(value):
                continue
            if inspect.isclass(value):
                if callable(getattr(value, "forward", None)):
                    classes[name] = {
                        "parameters": _parameters(value.__init__)[1:],
                        "backward": callable(getattr(value, "backward", None)),
                    }
            elif callable(value):
                functions[name] = _parameters(value)
        return {"functions": functions, "classes": classes}

    def _is_own(self, value: Any) -> bool:
        """Return whether this file, or one beside it, defines that: NumPy does not count."""
        home = sys.modules.get(getattr(value, "__module__", None) or "")
        folder = os.path.dirname(os.path.abspath(self.path))
        file = getattr(home, "__file__", None)
        return home is self.module or (file is not None and os.path.dirname(file) == folder)

    def forward(self, request: dict[str, Any], arrays: list[Array]) -> Answer:
        """Call a forward function; keep what it keeps for backward."""
        given = [array.copy() for array in arrays]
        settings = {
            name: np.array(value) if isinstance(value, list) else value
            for name, value in request["settings"].items()
        }
        result = self._call_forward(request, given, settings)
        outputs: list[Any] = [result]
        if request["form"] == "loss":
            outputs = list(_tuple(result, request["name"], "(loss, dx)", 2))
        elif isinstance(result, tuple):
            if not result:
                raise Unusable(f"{request['name']} returned an empty tuple")
            outputs = [result[0]]
            self.caches[request["key"]] = result[1] if len(result) == 2 else result[1:]
        meta: dict[str, Any] = {"modified": _modified(arrays, given)}
        updated = [name for name in request.get("updated", ()) if name in settings]
        outputs += [settings[name] for name in updated]
        meta["updated"] = updated
        if isinstance(result, tuple):  # there is a return: say which value is lacking
            parts = ("loss", "dx") if request["form"] == "loss" else ("out", *updated)
            for part, value in zip(parts, outputs, strict=True):
                if value is None:
                    raise Unusable(f"{request['name']}: {part} is None: is it not computed yet?")
        return meta, _numeric(outputs, request["name"])

    def _call_forward(
        self, request: dict[str, Any], given: list[Array], settings: dict[str, Any]
    ) -> Any:
        function = getattr(self.module, request["name"])
        if request["form"] == "class":
            layer, forms = _make(function, request, given)
            self.caches[request["key"]] = layer, forms
            result = layer.forward(_like_weights(layer, given[0]))
            return result[0] if isinstance(result, tuple) and result else result
        positional: list[Any] = list(given)
        if request["takes_settings"]:
            positional.append(settings)
        return function(*positional, **request["arguments"])

    def backward(self, request: dict[str, Any], arrays: list[Array]) -> Answer:
        """Call a backward function with what the forward of the same key kept."""
        given = [array.copy() for array in arrays]
        cache: Any = self.caches.get(request["key"])
        result: Any
        if request["form"] == "class":
            layer, forms = cache
            result = _backward_of_class(layer, forms, given[0])
        else:
            result = getattr(self.module, request["name"])(given[0], cache)
        gradients = list(result) if isinstance(result, (tuple, list)) else [result]
        meta: dict[str, Any] = {"modified": _modified(arrays, given)}
        meta["missing"] = [i for i, gradient in enumerate(gradients) if gradient is None]
        gradients = [np.zeros(0) if g is None else g for g in gradients]
        return meta, _numeric(gradients, request["name"])

    def numeric(self, request: dict[str, Any], arrays: list[Array]) -> Answer:
        """Return the gradients of ``sum(forward(...) * dy)`` by central differences.

        What the file prints in these many calls is not worth keeping.
        """
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            return {}, self._central_differences(request, arrays)

    def _central_differences(self, request: dict[str, Any], arrays: list[Array]) -> list[Array]:
        *inputs, dy = arrays
        step = request["step"]
        gradients = []
        for which in request["inputs"]:
            gradient = np.zeros(inputs[which].shape)
            for place in np.ndindex(gradient.shape):
                sums = []
                for sign in (1, -1):
                    moved = [array.copy() for array in inputs]
                    moved[which][place] += sign * step
                    (out, *_) = self.forward(request, moved)[1]
                    if out.shape != dy.shape:
                        raise Unusable("the output has another shape for other values")
                    sums.append(float((out * dy).sum()))
                gradient[place] = (sums[0] - sums[1]) / (2 * step)
            gradients.append(gradient)
        return gradients


#: Names under which classes keep weights and biases; gradients have them with the affixes below.
WEIGHTS = ("weight", "weights", "W", "w", "kernel", "kernels", "filters", "filter")
BIASES = ("bias", "biases", "b", "B")
_GRADIENTS = ("d{}", "grad_{}", "{}_grad", "d_{}", "{}_gradient", "g{}", "{}grad")


#: The shape in which the checker thinks of a parameter, and whether the class keeps it transposed.
Form = tuple[tuple[int, ...], bool]


def _make(kind: Any, request: dict[str, Any], given: list[Array]) -> tuple[Any, list[Form]]:
    """Make a layer of a class and give it its weights."""
    layer = kind(**request["arguments"])
    forms = []
    for names, array in zip((WEIGHTS, BIASES), given[1:], strict=False):
        name = next((name for name in names if getattr(layer, name, None) is not None), None)
        if name is None:
            raise Unusable(
                f"{request['name']} has no attribute for its {names[0]}: expected one of "
                f"{', '.join(names)}"
            )
        old = getattr(layer, name)
        is_parameter = hasattr(old, "data") and hasattr(old, "grad")
        own = np.shape(old.data if is_parameter else old)
        turned = own != array.shape and array.ndim == 2 and own == array.T.shape
        forms.append((array.shape, turned))
        fitting = array.T.copy() if turned else array
        if own != fitting.shape and math.prod(own) == fitting.size:
            fitting = fitting.reshape(own)
        if is_parameter:
            old.data = fitting.astype(old.data.dtype)
        else:
            setattr(layer, name, fitting)
    return layer, forms


def _backward_of_class(layer: Any, forms: list[Form], dy: Array) -> list[Any]:
    result = layer.backward(_like_weights(layer, dy))
    gradients = list(result) if isinstance(result, tuple) else [result]
    if len(gradients) == 1:
        gradients += [gradient_of(layer, names) for names in (WEIGHTS, BIASES)[: len(forms)]]
    for i, (shape, turned) in enumerate(forms, start=1):
        if i < len(gradients) and gradients[i] is not None:
            gradient = np.asarray(gradients[i])
            if turned:
                gradient = gradient.T
            if gradient.size == math.prod(shape) and gradient.ndim == len(shape) + 1:
                gradient = gradient.reshape(shape)  # a bias of shape (F, 1)
            gradients[i] = gradient
    return gradients


def _like_weights(layer: Any, array: Array) -> Array:
    """Return the array as float32 where the weights are Parameters, which are float32."""
    parameters = (getattr(layer, name, None) for name in WEIGHTS)
    narrow = any(hasattr(p, "grad") and hasattr(p, "data") for p in parameters)
    return array.astype(np.float32) if narrow else array


def gradient_of(layer: Any, names: tuple[str, ...]) -> Any:
    """Return the gradient of the attribute that goes by one of these names, None without."""
    for name in names:
        grad = getattr(getattr(layer, name, None), "grad", None)
        if grad is not None:
            return grad
        for pattern in _GRADIENTS:
            value = getattr(layer, pattern.format(name), None)
            if value is not None:
                return value
        for holder in ("grads", "gradients", "grad"):
            values = getattr(layer, holder, None)
            if isinstance(values, dict):
                for key in (name, *(pattern.format(name) for pattern in _GRADIENTS)):
                    if key in values:
                        return values[key]
    return None


def _parameters(function: Any) -> list[tuple[str, bool]]:
    """Return the names of the parameters, and whether each has to be given."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [(p.name, p.default is p.empty and p.kind not in several) for p in parameters]


def _tuple(result: Any, name: str, form: str, length: int) -> tuple[Any, ...]:
    if not isinstance(result, (tuple, list)) or len(result) != length:
        what = f"{len(result)} values" if isinstance(result, tuple) else type(result).__name__
        raise Unusable(f"{name} returned {what}: expected {form}")
    return tuple(result)


def _modified(before: list[Array], after: list[Array]) -> list[int]:
    pairs = enumerate(zip(before, after, strict=True))
    return [i for i, (a, b) in pairs if a.shape != b.shape or not np.array_equal(a, b)]


def _numeric(values: list[Any], name: str) -> list[Array]:
    arrays = []
    for value in values:
        if value is None:
            raise Unusable(f"{name} returned None: is a return missing?")
        try:
            array = np.asarray(value)
        except ValueError:
            array = np.asarray(None)
        if array.dtype.kind not in "fiub":
            raise Unusable(
                f"{name} returned {type(value).__name__} of {array.dtype}: expected real numbers"
            )
        arrays.append(array)
    if sum(array.nbytes for array in arrays) > LARGEST:
        raise Unusable(f"{name} returned arrays of shape {[a.shape for a in arrays]}: far too much")
    return arrays


# ---- the process ---------------------------------------------------------------------------------


def _limit_memory(limit: int) -> None:
    try:
        import resource
    except ImportError:  # no limits on this system; the time limit still holds
        return
    for what in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        try:
            resource.setrlimit(what, (limit, limit))
        except (OSError, ValueError):
            continue
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _describe(error: BaseException, path: str) -> dict[str, Any]:
    """Return type, message, and the innermost line of the student's file."""
    kind = "unusable" if isinstance(error, Unusable) else "raised"
    if isinstance(error, MemoryError):
        kind = "memory"
    elif isinstance(error, SystemExit):
        kind = "exit"
    line, code = None, ""
    for frame in traceback.extract_tb(error.__traceback__):
        if os.path.abspath(frame.filename) == os.path.abspath(path):
            line, code = frame.lineno, frame.line or ""
    if isinstance(error, SyntaxError) and error.filename and line is None:
        line, code = error.lineno, (error.text or "").strip()
    message = str(error)[:2000]
    return {
        "problem": kind,
        "type": type(error).__name__,
        "message": message,
        "line": line,
        "code": code,
    }


def main(path: str, memory_limit: int) -> None:
    """Answer requests until there are none."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    _limit_memory(memory_limit)
    student = Student(path)
    actions: dict[str, Callable[[dict[str, Any], list[Array]], Answer]] = {
        "load": lambda request, arrays: student.load(),
        "forward": student.forward,
        "backward": student.backward,
        "numeric": student.numeric,
    }
    while (content := read(requests)) is not None:
        request, arrays = decode(content)
        try:
            with np.errstate(all="ignore"):
                answer = encode(*actions[request["do"]](request, arrays))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever it is, it is the student's
            answer = encode(_describe(error, path), [])
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):
                continue
        if request["do"] == "load":
            with contextlib.suppress(OSError):
                os.write(2, LOADED)
        answers.write(answer)
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
