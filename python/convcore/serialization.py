"""Files: models, weights and checkpoints, all safetensors, all replaced in one step.

A model's file holds its state_dict under torch's keys; the metadata entry ``convcore`` holds the
architecture as JSON. A checkpoint's file holds the weights (``model.``), the state of the optimizer
(``optimizer.``), and in the metadata the random state, the epoch and the history.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from convcore import random
from convcore.functional._arguments import to_unsigned
from convcore.history import History

if TYPE_CHECKING:
    from convcore.engine import Model
    from convcore.nn.module import IncompatibleKeys, Module

AnyArray = np.ndarray[Any, Any]

METADATA_KEY = "convcore"
CHECKPOINT_NAME = "checkpoint.safetensors"

# What comes of a description that `save` did not write: wrong types, endless nesting, huge sizes.
_CONTENT_ERRORS = (
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    MemoryError,
    OverflowError,
    RecursionError,
)


# ---- models --------------------------------------------------------------------------------------


def save(
    model: Module, path: str | os.PathLike[str], extra: Mapping[str, Any] | None = None
) -> None:
    """Save architecture, weights and what else the file shall say (`Model.save`)."""
    content = {"format": 1, "architecture": describe(model), "extra": dict(extra or {})}
    _write(path, model.state_dict(), content)


def load(path: str | os.PathLike[str]) -> Model:
    """Return the model that `Model.save` wrote, in evaluation mode.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When the file is truncated or corrupt, or holds no architecture that convcore can build.

    Examples
    --------
    >>> import convcore, tempfile, os
    >>> from convcore import nn
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> nn.Sequential(nn.Linear(4, 3)).save(path)
    >>> convcore.load(path)
    Sequential(
      (0): Linear(in_features=4, out_features=3, bias=True)
    )
    """
    tensors, metadata = _read("load", path)
    architecture = metadata.get("architecture")
    if architecture is None:
        raise ValueError(
            f"load: {os.fspath(path)!r} holds no architecture: expected a file written by "
            "model.save() of convcore's own layers, got weights only (build the model and call "
            "model.load_weights(path))"
        )
    kept = random.get_rng_state()  # the first weights are drawn and thrown away: leave no trace
    try:
        model = build(architecture)
        model.load_state_dict(tensors)
    except _CONTENT_ERRORS as error:
        raise ValueError(
            f"load: {os.fspath(path)!r} holds an architecture that cannot be built: {error}"
        ) from error
    finally:
        random.set_rng_state(kept)
    return model.eval()  # type: ignore[return-value]


def load_extra(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the `extra` of `Model.save` or `save_checkpoint`; empty when there was none.

    Parameters
    ----------
    path : str or Path
        A file, or the folder of a checkpoint.

    Raises
    ------
    FileNotFoundError, ValueError
        As `load`.

    Examples
    --------
    >>> import os, tempfile
    >>> from convcore import nn, serialization
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> nn.Sequential(nn.Linear(4, 3)).save(path, extra={"classes": ["a", "b", "c"]})
    >>> serialization.load_extra(path)
    {'classes': ['a', 'b', 'c']}
    """
    if os.path.isdir(path):
        path = Path(os.fsdecode(path)) / CHECKPOINT_NAME
    extra = _read("load_extra", path)[1].get("extra", {})
    return extra if isinstance(extra, dict) else {}


def load_weights(
    model: Module, path: str | os.PathLike[str], strict: bool = True
) -> IncompatibleKeys:
    """Read the weights of `model` from a file (`Model.load_weights`)."""
    tensors, _ = _read("load_weights", path)
    try:
        return model.load_state_dict(tensors, strict)
    except ValueError as error:
        raise ValueError(f"load_weights: {os.fspath(path)!r}: {error}") from error


def describe(module: Module) -> dict[str, Any] | None:
    """Return the architecture in forms that JSON knows; None when a class is not convcore's."""
    classes = _layer_classes()
    if any(classes.get(type(m).__name__) is not type(m) for m in module.modules()):
        return None
    return _encode_module(module)


def build(architecture: dict[str, Any]) -> Module:
    """Return the module that `describe` described, with new weights."""
    classes = _layer_classes()
    name = architecture["class"]
    if name not in classes:
        raise ValueError(
            f"the class of a layer is not known: expected one of {', '.join(classes)}, got {name!r}"
        )
    arguments = {key: _decode(value) for key, value in architecture["arguments"].items()}
    if name == "Sequential":
        return classes[name](arguments["layers"])  # type: ignore[call-arg]
    return classes[name](**arguments)


def _layer_classes() -> dict[str, type[Module]]:
    from convcore import nn

    public = {name: getattr(nn, name) for name in nn.__all__}
    return {n: c for n, c in public.items() if issubclass(c, nn.Module) and c is not nn.Module}


def _encode_module(module: Module) -> dict[str, Any]:
    arguments = {name: _encode(value) for name, value in module.config().items()}
    return {"class": type(module).__name__, "arguments": arguments}


def _encode(value: Any) -> Any:
    from convcore.nn.module import Module

    if isinstance(value, Module):
        return _encode_module(value)
    if isinstance(value, dict):
        return {name: _encode(inner) for name, inner in value.items()}
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_decode, value))
    if not isinstance(value, dict):
        return value
    if value.keys() == {"class", "arguments"}:
        return build(value)
    return {name: _decode(inner) for name, inner in value.items()}


# ---- checkpoints ---------------------------------------------------------------------------------


class Checkpoint(NamedTuple):
    """Where a training stood; ``model.fit(..., initial_epoch=checkpoint.epoch)`` goes on."""

    epoch: int
    history: History


def save_checkpoint(
    directory: str | os.PathLike[str],
    model: Module,
    optimizer: Any,
    epoch: int,
    history: History,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Save all that a bitwise resume needs, in one file, in one step.

    Parameters
    ----------
    directory : str or Path
        Made when it is missing; an older checkpoint in it is replaced.
    model : Module
    optimizer : optimizer
        Something with ``state_dict()``.
    epoch : int
        The number of epochs done.
    history : History
        Of these epochs.
    extra : dict, optional
        More to keep, in forms that JSON knows; `load_extra` reads it.

    Returns
    -------
    Path
        Of the file.
    """
    epoch = to_unsigned("save_checkpoint", "epoch", epoch)
    tensors: dict[str, AnyArray] = {
        f"model.{name}": array for name, array in model.state_dict().items()
    }
    state = _pack(optimizer.state_dict(), "optimizer", tensors)
    folder = Path(os.fsdecode(directory))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CHECKPOINT_NAME
    content = {
        "format": 1,
        "checkpoint": {
            "epoch": epoch,
            "rng_state": list(random.get_rng_state()),
            "optimizer": state,
            "history": json.loads(history.to_json()),
        },
        "extra": dict(extra or {}),
    }
    _write(path, tensors, content)
    return path


def load_checkpoint(directory: str | os.PathLike[str], model: Module, optimizer: Any) -> Checkpoint:
    """Put model, optimizer and random numbers back to where `save_checkpoint` saved them.

    Raises
    ------
    FileNotFoundError
        When there is no checkpoint in `directory`.
    ValueError
        When it is truncated, corrupt, or does not fit. Then nothing is changed.
    """
    path = Path(os.fsdecode(directory)) / CHECKPOINT_NAME
    tensors, metadata = _read("load_checkpoint", path)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    optimizer_before = optimizer.state_dict()
    loaded = False
    try:
        content = metadata["checkpoint"]
        epoch = to_unsigned("checkpoint", "epoch", content["epoch"])
        history = History.from_json(json.dumps(content["history"]))
        rng_state = random.checked_key("checkpoint", "rng_state", content["rng_state"])
        optimizer_state = _unpack(content["optimizer"], tensors)
        prefix = "model."
        weights = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
        model.load_state_dict(weights)
        loaded = True
        optimizer.load_state_dict(optimizer_state)
    except _CONTENT_ERRORS as error:
        if loaded:
            model.load_state_dict(before)
            optimizer.load_state_dict(optimizer_before)
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"load_checkpoint: {str(path)!r} is no fitting checkpoint: {what}"
        ) from error
    random.set_rng_state(rng_state)
    return Checkpoint(epoch, history)


def _pack(value: Any, path: str, tensors: dict[str, AnyArray]) -> Any:
    """Return `value` for JSON; its arrays go into `tensors` under names that begin with `path`."""
    if isinstance(value, np.ndarray):
        tensors[path] = value
        return {"array": path}
    if isinstance(value, Mapping):  # as pairs: JSON would make strings of integer keys
        return {"map": [[k, _pack(v, f"{path}.{k}", tensors)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"list": [_pack(v, f"{path}.{i}", tensors) for i, v in enumerate(value)]}
    return {"value": value.item() if isinstance(value, np.generic) else value}


def _unpack(packed: dict[str, Any], tensors: dict[str, AnyArray]) -> Any:
    ((kind, content),) = packed.items()
    if kind == "array":
        return tensors[content]
    if kind == "map":
        return {key: _unpack(value, tensors) for key, value in content}
    if kind == "list":
        return [_unpack(value, tensors) for value in content]
    return content


# ---- files ---------------------------------------------------------------------------------------


def _write(
    path: str | os.PathLike[str], tensors: Mapping[str, AnyArray], content: dict[str, Any]
) -> None:
    from safetensors.numpy import save as to_bytes

    # order="C" and not ascontiguousarray, which would make a scalar one-dimensional.
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    write_atomically(path, to_bytes(arrays, metadata={METADATA_KEY: json.dumps(content)}))


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that at any time there is the old one or the whole new one.

    The bytes go to a temporary file in the same folder, down to the disk, and then take the name. A
    file that was there keeps its permissions, a symbolic link still points to it.
    """
    name = os.fsdecode(path)
    if not name:
        raise ValueError("save: path is empty: expected the name of a file, got ''")
    target = Path(os.path.realpath(name))
    if target.is_dir():
        raise ValueError(f"save: {name!r} is a folder: expected the name of a file")
    if os.path.exists(name) and not os.path.isfile(name):  # a device or a pipe would be replaced
        raise ValueError(f"save: {name!r} is no regular file: expected the name of one")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"save: the folder of {name!r} does not exist")
    temporary = target.with_name(f".{secrets.token_hex(12)}.tmp")
    try:
        with open(temporary, "xb") as file:
            if target.exists():
                os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the name itself is on the disk when its folder is
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _read(owner: str, path: str | os.PathLike[str]) -> tuple[dict[str, AnyArray], dict[str, Any]]:
    """Return the tensors of a safetensors file and convcore's part of its metadata."""
    from safetensors import safe_open

    name = os.fsdecode(path)
    if not os.path.exists(name):
        raise FileNotFoundError(f"{owner}: there is no file {name!r}")
    if os.path.isdir(name):
        raise ValueError(f"{owner}: {name!r} is a folder: expected a file")
    try:
        with safe_open(name, framework="numpy") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            text = (file.metadata() or {}).get(METADATA_KEY)
        content = {} if text is None else json.loads(text)
        if not isinstance(content, dict):
            raise ValueError(f"its metadata entry {METADATA_KEY!r} is no JSON object")
    except Exception as error:  # the library has many ways to say it
        if "bfloat16" in str(error):  # NumPy has no such type
            raise ValueError(
                f"{owner}: {name!r} cannot be read: bfloat16 is not supported: expected float32, "
                "got bfloat16 (convert it to float32)"
            ) from error
        raise ValueError(
            f"{owner}: {name!r} cannot be read: expected a whole safetensors file, got: {error}"
        ) from error
    return tensors, content
