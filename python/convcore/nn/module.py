"""The base class of all layers: names, parameters, state, and the two directions."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np

from convcore._arrays import is_writeable, to_device, to_numpy
from convcore.functional._arguments import FloatArray
from convcore.nn import _checks as check
from convcore.nn.parameter import Parameter

AnyArray = np.ndarray[Any, Any]
Self = TypeVar("Self", bound="Module")


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict` left out under ``strict=False``."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class _Thread(threading.local):
    """What holds for every module that is called in this thread."""

    #: What `summary` and others put around every call.
    observer: Callable[[Module, Any], Any] | None = None
    #: Whether forward keeps what backward needs in evaluation mode, too.
    keep_in_eval: bool = False


_thread = _Thread()


@contextmanager
def observe(observer: Callable[[Module, Any], Any]) -> Iterator[None]:
    """Send every ``module(x)`` of this thread through ``observer(module, x)``."""
    outer = _thread.observer
    _thread.observer = observer
    try:
        yield
    finally:
        _thread.observer = outer


@contextmanager
def observe_backward(
    modules: Iterable[Module], wrap: Callable[[Module], Callable[..., Any]]
) -> Iterator[None]:
    """Put ``wrap(module)`` in the place of the backward of each of `modules`."""
    observed = list(modules)
    for module in observed:
        vars(module)["backward"] = wrap(module)
    try:
        yield
    finally:
        for module in observed:
            del vars(module)["backward"]


@contextmanager
def keep_in_eval() -> Iterator[None]:
    """Let forward keep what backward needs in evaluation mode, too, in this thread.

    So the gradients are those of the network as it predicts: batch norm with the running
    statistics, no dropout.
    """
    outer = _thread.keep_in_eval
    _thread.keep_in_eval = True
    try:
        yield
    finally:
        _thread.keep_in_eval = outer


class Module:
    """A layer, or a network of layers.

    A subclass writes `forward` and `backward`. Attributes that are a `Parameter` or a `Module` are
    found by themselves, under the attribute's name; other arrays that belong to the state are named
    by `register_buffer`.

    In training mode `forward` keeps what one `backward` needs, and that backward drops it; in
    evaluation mode nothing is kept (except within `keep_in_eval`). So a layer object may stand in a
    network only once. What is kept are the arrays themselves, not copies: do not write to the input
    or the output of a layer between forward and backward. Where nothing changes but the shape
    (`Flatten`, `Identity`, `Dropout` in evaluation mode), the output may be the input itself or a
    view of it.

    See Also
    --------
    Sequential : Layers one after another.
    Residual : A body with a shortcut around it.
    """

    training: bool = True
    _buffer_names: tuple[str, ...] = ()
    _kept: Any = None

    def __setattr__(self, name: str, value: Any) -> None:
        old = vars(self).get(name)
        if isinstance(old, Parameter) and not (value is None or isinstance(value, Parameter)):
            raise TypeError(
                f"{type(self).__name__}: {name} is a parameter: expected a Parameter or None, got "
                f"{type(value).__name__} (write layer.{name}.data = ... to give it new values)"
            )
        super().__setattr__(name, value)

    # ---- the two directions ----------------------------------------------------------------------

    def __call__(self, x: FloatArray) -> FloatArray:
        """Return the output for `x`, by way of `forward`."""
        observer = _thread.observer
        if observer is None:
            return self.forward(x)
        return observer(self, x)  # type: ignore[no-any-return]

    def forward(self, x: FloatArray) -> FloatArray:
        """Return the output for `x`."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Add the gradients of the parameters to their ``grad`` and return that of the input.

        Parameters
        ----------
        dy : ndarray, float32
            Gradient of the loss with respect to the output of the last `forward`.
        need_dx : bool, default True
            False leaves the gradient of the input out (None is returned): the first layer of a
            network has no use for it.

        Raises
        ------
        RuntimeError
            When there was no forward in training mode since the last backward.
        """
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    @property
    def _keeps(self) -> bool:
        """Whether forward shall keep what backward needs."""
        return self.training or _thread.keep_in_eval

    def _keep(self, *values: Any) -> None:
        """Keep `values` for backward, if one may follow."""
        self._kept = values if self._keeps else None

    def _take(self) -> Any:
        """Return what forward kept, and drop it."""
        kept, self._kept = self._kept, None
        if kept is None:
            raise RuntimeError(
                f"{type(self).__name__}: backward called before forward: expected one forward in "
                "training mode before each backward (and each layer object once in a network), "
                "got none"
            )
        return kept

    def forget(self) -> None:
        """Drop what forward kept for backward, in all modules."""
        for module in self.modules():
            module._kept = None

    # ---- children, parameters, buffers -----------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Iterate over the direct children and their names."""
        for name, value in list(vars(self).items()):
            if isinstance(value, Module):
                yield name, value

    def children(self) -> Iterator[Module]:
        """Iterate over the direct children."""
        for _, child in self.named_children():
            yield child

    def named_modules(
        self, prefix: str = "", _seen: set[int] | None = None
    ) -> Iterator[tuple[str, Module]]:
        """Iterate over this module (named by `prefix`) and all below it, each object once."""
        seen = set() if _seen is None else _seen
        if id(self) in seen:
            return
        seen.add(id(self))
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(_join(prefix, name), seen)

    def modules(self) -> Iterator[Module]:
        """Iterate over this module and all below it."""
        for _, module in self.named_modules():
            yield module

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Iterate over the parameters and their names, as ``"0.weight"``, each object once."""
        seen = set()
        for path, module in self.named_modules(prefix):
            for name, value in vars(module).items():
                if isinstance(value, Parameter) and id(value) not in seen:
                    seen.add(id(value))
                    yield _join(path, name), value

    def parameters(self) -> Iterator[Parameter]:
        """Iterate over the parameters."""
        for _, parameter in self.named_parameters():
            yield parameter

    def register_buffer(self, name: str, array: AnyArray | None) -> None:
        """Add an array that is no parameter to the state (None keeps the name free)."""
        if name not in self._buffer_names:
            self._buffer_names = (*self._buffer_names, name)
        setattr(self, name, array)

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, AnyArray]]:
        """Iterate over the buffers and their names, as ``"1.running_mean"``."""
        for path, module in self.named_modules(prefix):
            for name in module._buffer_names:
                array = getattr(module, name)
                if array is not None:
                    yield _join(path, name), array

    def buffers(self) -> Iterator[AnyArray]:
        """Iterate over the buffers."""
        for _, array in self.named_buffers():
            yield array

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to None."""
        for parameter in self.parameters():
            parameter.grad = None

    # ---- devices ---------------------------------------------------------------------------------

    def to(self: Self, device: str) -> Self:
        """Move the parameters, their gradients and the buffers to a device.

        What the network computes is computed there: its inputs must be there too (`Model.fit`,
        `evaluate` and `predict` see to that). Buffers that only Python reads, such as the number of
        batches that a batch norm has seen, stay where they are.

        Parameters
        ----------
        device : {'cpu', 'cuda'}

        Returns
        -------
        Module
            Itself. The parameters are the same objects, so an optimizer goes on with them; its
            arrays follow at its next step.

        Raises
        ------
        RuntimeError
            When CUDA is not available; the message tells why.
        """
        self.forget()
        for parameter in self.parameters():
            parameter.to(device)
        for module in self.modules():
            for name in module._buffer_names:
                array = getattr(module, name)
                if array is not None and array.dtype == np.float32:
                    setattr(module, name, to_device(array, device))
        return self

    def cuda(self: Self) -> Self:
        """Move everything to the GPU: ``to("cuda")``."""
        return self.to("cuda")

    def cpu(self: Self) -> Self:
        """Move everything to the CPU: ``to("cpu")``."""
        return self.to("cpu")

    # ---- modes -----------------------------------------------------------------------------------

    def train(self: Self, mode: bool = True) -> Self:
        """Switch this module and all below it to training mode."""
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self: Self) -> Self:
        """Switch this module and all below it to evaluation mode."""
        return self.train(False)

    # ---- state -----------------------------------------------------------------------------------

    def state_dict(self, prefix: str = "") -> dict[str, AnyArray]:
        """Return all parameters and buffers by name: the arrays themselves, not copies.

        Of a network on the GPU they are copies, as arrays of NumPy. The names and their order are
        those of torch.
        """
        return {name: to_numpy(array) for name, array in self._state(prefix).items()}

    def _state(self, prefix: str = "") -> dict[str, AnyArray]:
        """Return the arrays of the state themselves, on whatever device they are."""
        state: dict[str, AnyArray] = {}
        for path, module in self.named_modules(prefix):
            for name, value in vars(module).items():
                if isinstance(value, Parameter):
                    state[_join(path, name)] = value.data
            for name in module._buffer_names:
                if (array := getattr(module, name)) is not None:
                    state[_join(path, name)] = array
        return state

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy the arrays of `state` into the parameters and buffers.

        Parameters
        ----------
        state : mapping of str to array
            NumPy arrays, or what converts to them (a torch state_dict does).
        strict : bool, default True
            False leaves keys that only one side has as they are, and returns them.

        Raises
        ------
        TypeError
            When `state` is no mapping.
        ValueError
            Names every missing and unexpected key, every wrong shape or dtype, values that the
            dtype cannot hold and own arrays that cannot be written. Then nothing is changed.
        """
        if not isinstance(state, Mapping):
            raise TypeError(
                "load_state_dict: state has the wrong type: expected a mapping of names to arrays, "
                f"got {type(state).__name__}"
            )
        own = self._state()
        given = {name: _to_array(name, value) for name, value in state.items()}
        missing = [name for name in own if name not in given]
        unexpected = [name for name in given if name not in own]
        wrong = [
            f"{name!r}: expected {_describe(own[name])}, got {_describe(given[name])}"
            for name in own
            if name in given and not _fits(own[name], given[name])
        ]
        # As copies: an entry of `state` may be the memory of another own array.
        loaded = [name for name in own if name in given and not wrong]
        new = {name: check.converted(given[name], own[name].dtype) for name in loaded}
        too_large = [repr(name) for name, array in new.items() if array is None]
        read_only = [repr(name) for name in new if not is_writeable(own[name])]
        problems = []
        if strict and missing:
            problems.append("missing keys: expected " + ", ".join(map(repr, missing)))
        if strict and unexpected:
            problems.append("unexpected keys: got " + ", ".join(map(repr, unexpected)))
        if wrong:
            problems.append("wrong shapes or dtypes: " + "; ".join(wrong))
        if too_large:
            problems.append("values that the dtype cannot hold: got " + ", ".join(too_large))
        if read_only:
            problems.append("own arrays that are read-only: " + ", ".join(read_only))
        if problems:
            raise ValueError(
                f"load_state_dict: the state does not fit this {type(self).__name__}:\n  "
                + "\n  ".join(problems)
            )
        for name, array in new.items():
            own[name][...] = array
        for parameter in self.parameters():
            parameter.keep_mask()
        return IncompatibleKeys(missing, unexpected)

    # ---- description -----------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, in forms that JSON knows."""
        arguments = {}
        for name in inspect.signature(type(self)).parameters:
            value = getattr(self, name)
            is_switch = name == "bias"  # the argument says whether the attribute is a parameter
            arguments[name] = value is not None if is_switch else value
        return arguments

    def multiply_adds(self, x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> int:
        """Return the multiply-adds for one sample; the shapes are without the batch."""
        return 0

    def window(self) -> tuple[tuple[int, int], ...] | str | None:
        """Return what one output value sees of the input, per spatial axis.

        ``((extent, stride), ...)`` in pixels for a sliding window, ``"all"`` for the whole input,
        None for one value.
        """
        return None

    def extra_repr(self) -> str:
        """Return the arguments as they stand in ``repr``."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}" for name, child in self.named_children()]
        if not lines:
            return f"{type(self).__name__}({self.extra_repr()})"
        body = "\n".join(lines).replace("\n", "\n  ")
        return f"{type(self).__name__}(\n  {body}\n)"


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _fits(own: AnyArray, given: AnyArray) -> bool:
    # Floats of any width go into floats, as in torch: a file may hold float16 or float64 weights.
    kinds = "f" if own.dtype.kind == "f" else "iu"
    return own.shape == given.shape and given.dtype.kind in kinds


def _to_array(name: str, value: Any) -> AnyArray:
    if "bfloat16" in str(getattr(value, "dtype", "")):  # NumPy has no such type
        raise ValueError(
            f"load_state_dict: {name!r} has the wrong dtype: expected float32, got bfloat16, which "
            "is not supported (convert it to float32)"
        )
    return to_numpy(value)


def _describe(array: AnyArray) -> str:
    return f"{array.shape} of {array.dtype}"
