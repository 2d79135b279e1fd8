"""Networks made of layers: one after another, and around a shortcut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, overload

import convcore.functional as F
from convcore.engine import Model
from convcore.functional._arguments import FloatArray
from convcore.nn.module import Module

Layers = Module | Mapping[str, Module]


class Sequential(Model, Module):
    """Layers one after another.

    Parameters
    ----------
    *layers : Module
        In order, named ``"0"``, ``"1"``, ...; or one mapping from names to modules.

    Examples
    --------
    >>> import numpy as np
    >>> from convcore import nn
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> model(np.zeros((3, 4), np.float32)).shape
    (3, 2)
    >>> list(model.state_dict())
    ['0.weight', '0.bias', '2.weight', '2.bias']
    >>> model[1]
    ReLU()
    """

    def __init__(self, *layers: Layers) -> None:
        if len(layers) == 1 and isinstance(layers[0], Mapping):
            named = list(layers[0].items())
        else:
            named = [(str(i), layer) for i, layer in enumerate(layers)]  # type: ignore[misc]
        for name, layer in named:
            self._add(name, layer)

    def _add(self, name: str, layer: Module) -> None:
        if not isinstance(name, str) or not name or "." in name or hasattr(self, name):
            raise ValueError(
                "Sequential: the name of a layer cannot be used: expected a string without dots "
                f"that is neither taken nor an attribute of Sequential, got {name!r}"
            )
        setattr(self, name, _expect_module("Sequential", f"layer {name!r}", layer))

    def forward(self, x: FloatArray) -> FloatArray:
        """Send `x` through all layers."""
        for layer in self.children():
            x = layer(x)
        return x

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Send `dy` back through all layers; without `need_dx` as far as there are parameters."""
        layers = list(self.children())
        stop = 0 if need_dx else _first_with_parameters(layers)
        gradient: FloatArray | None = dy
        for i in range(len(layers) - 1, stop - 1, -1):
            needed = need_dx or i > stop
            gradient = layers[i].backward(gradient, need_dx=needed)  # type: ignore[arg-type]
            if needed and gradient is None:
                raise TypeError(
                    f"Sequential: backward of layer {i}, {type(layers[i]).__name__}, returned "
                    "nothing: expected the gradient of its input, got None"
                )
        for layer in layers[:stop]:
            layer.forget()
        return gradient if need_dx else None

    def append(self, layer: Module) -> Sequential:
        """Add a layer to the end, named by its index, and return the network."""
        index = len(self)
        while hasattr(self, str(index)):  # a slice keeps the names that its layers had
            index += 1
        self._add(str(index), layer)
        return self

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Module | Sequential:
        """Return a layer, or a network of some of the layers, which keep their names."""
        named = list(self.named_children())
        if isinstance(index, slice):
            return Sequential(dict(named[index]))
        return named[index][1]

    def __setitem__(self, index: int, layer: Module) -> None:
        name = list(self.named_children())[index][0]
        setattr(self, name, _expect_module("Sequential", f"layer {name!r}", layer))

    def config(self) -> dict[str, Any]:
        """Return the layers by name."""
        return {"layers": dict(self.named_children())}


class _Shortcut(Model, Module):
    """What `Residual` and `ResidualBlock` share: ``y = activation(body(x) + shortcut(x))``."""

    activation: Module | None

    def _branches(self) -> tuple[Module, Module | None]:
        """Return the body and the shortcut; None is the identity."""
        raise NotImplementedError

    def _expect(self, name: str, value: Module | None) -> Module | None:
        """Return `value` when it is a module or None."""
        return None if value is None else _expect_module(type(self).__name__, name, value)

    def forward(self, x: FloatArray) -> FloatArray:
        """Return ``activation(body(x) + shortcut(x))``."""
        body, shortcut = self._branches()
        main = body(x)
        side = x if shortcut is None else shortcut(x)
        if main.shape != side.shape:
            raise ValueError(
                f"{type(self).__name__}: body and shortcut return different shapes: expected the "
                f"body's {main.shape}, got {side.shape} from the shortcut"
            )
        y = F.add(main, side)
        return y if self.activation is None else self.activation(y)

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Send `dy` back through both branches and add what arrives."""
        if self.activation is not None:
            dy = self.activation.backward(dy)  # type: ignore[assignment]
        body, shortcut = self._branches()
        dmain = body.backward(dy, need_dx=need_dx)
        dside = dy
        if shortcut is not None:
            dside = shortcut.backward(dy, need_dx=need_dx)  # type: ignore[assignment]
        return None if dmain is None else F.add(dmain, dside)


class Residual(_Shortcut):
    """A body with a shortcut around it, ``y = activation(body(x) + shortcut(x))``.

    Parameters
    ----------
    body : Module
    shortcut : Module, optional
        The default is the identity; its output has the shape of the body's.
    activation : Module, optional
        What the sum goes through; the default is nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from convcore import nn
    >>> block = nn.Residual(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    >>> block(np.zeros((3, 4), np.float32)).shape
    (3, 4)
    >>> list(block.state_dict())
    ['body.0.weight', 'body.0.bias']
    """

    def __init__(
        self, body: Module, shortcut: Module | None = None, activation: Module | None = None
    ) -> None:
        self.body = _expect_module("Residual", "body", body)
        self.shortcut = self._expect("shortcut", shortcut)
        self.activation = self._expect("activation", activation)

    def _branches(self) -> tuple[Module, Module | None]:
        return self.body, self.shortcut


class ResidualBlock(_Shortcut):
    """A residual block with torchvision's keys: the layers of its body stand in the block itself.

    Parameters
    ----------
    layers : mapping of str to Module
        The body, in order.
    downsample : Module, optional
        The shortcut; the default is the identity.
    activation : Module, optional
        What the sum goes through; the default is nothing.

    See Also
    --------
    Residual : The same for any body, under the names ``body`` and ``shortcut``.

    Examples
    --------
    >>> from convcore import nn
    >>> layers = {"conv1": nn.Conv2d(4, 4, 3, padding=1, bias=False), "bn1": nn.BatchNorm2d(4)}
    >>> block = nn.ResidualBlock(layers, activation=nn.ReLU())
    >>> list(block.state_dict())[:2]
    ['conv1.weight', 'bn1.weight']
    """

    def __init__(
        self,
        layers: Mapping[str, Module],
        downsample: Module | None = None,
        activation: Module | None = None,
    ) -> None:
        self._names = tuple(layers)
        for name, layer in Sequential(layers).named_children():
            setattr(self, name, layer)
        self.downsample = self._expect("downsample", downsample)
        self.activation = self._expect("activation", activation)

    def _branches(self) -> tuple[Module, Module | None]:
        return Sequential(self.body_layers()), self.downsample

    def body_layers(self) -> dict[str, Module]:
        """Return the layers of the body by name."""
        return {name: getattr(self, name) for name in self._names}

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "layers": self.body_layers(),
            "downsample": self.downsample,
            "activation": self.activation,
        }


def _expect_module(owner: str, name: str, value: object) -> Module:
    if not isinstance(value, Module):
        unpack = owner == "Sequential" and isinstance(value, (list, tuple))
        hint = " (unpack it: Sequential(*layers))" if unpack else ""
        raise TypeError(
            f"{owner}: {name} is not a module: expected a convcore.nn.Module, "
            f"got {type(value).__name__}{hint}"
        )
    return value


def _first_with_parameters(layers: list[Module]) -> int:
    """Return the index of the first layer that has a trainable parameter."""
    for i, layer in enumerate(layers):
        if any(p.requires_grad for p in layer.parameters()):
            return i
    return len(layers)
