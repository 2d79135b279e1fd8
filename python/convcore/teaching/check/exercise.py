"""What an exercise is: names, shapes, the right answer, and the known mistakes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convcore.teaching.check.bugs import Array, Bug, Inputs


@dataclass(frozen=True, eq=False)
class Case:
    """One call.

    Attributes
    ----------
    inputs : dict
        Arrays and settings by name; ``dy`` is the gradient of the output.
    label : str
        The shapes and settings, for people.
    tags : frozenset of str
        What is special about it; "only wrong with ..." is said in these words.
    has_backward : bool
        Whether backward is called: not for batch normalisation in test mode.
    """

    inputs: Inputs
    label: str
    tags: frozenset[str] = frozenset()
    has_backward: bool = True


def no_settings(inputs: Inputs) -> dict[str, Any]:
    """Return no settings."""
    return {}


@dataclass(frozen=True)
class Exercise:
    """A layer that students write, in the form of CS231n's assignments or as a class.

    Attributes
    ----------
    name : str
        'conv', 'max_pool', ...
    functions : tuple of str
        The names of the forward function, without an ending as ``_naive``.
    signature : str
        How the functions are called, for error messages.
    arrays : tuple of str
        The inputs that are arrays, in order.
    outputs : mapping of str to callable
        What forward returns: the right answers by name.
    gradients : mapping of str to callable
        What backward returns, in order.
    cases : callable
        Makes the cases from random numbers.
    bugs : mapping of str to tuple of Bug
        By the name of the output or gradient.
    settings : callable
        Makes the dictionary that is the last argument; {} for none.
    updated : tuple of str
        Entries of that dictionary that forward changes; they stand in `outputs` too.
    form : {'function', 'loss'}
        A loss returns itself and the gradient of its input.
    differentiated : tuple of str
        The arrays, in the order of `gradients`, that finite differences go along.
    classes : tuple of str
        Names of classes, in lower case.
    arguments : callable, optional
        The constructor's arguments of a class by all the names they may have.
    """

    name: str
    functions: tuple[str, ...]
    signature: str
    arrays: tuple[str, ...]
    outputs: Mapping[str, Callable[[Inputs], Array]]
    gradients: Mapping[str, Callable[[Inputs], Array]]
    cases: Callable[[np.random.Generator], list[Case]]
    bugs: Mapping[str, tuple[Bug, ...]]
    settings: Callable[[Inputs], dict[str, Any]] = no_settings
    updated: tuple[str, ...] = ()
    form: str = "function"
    differentiated: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    arguments: Callable[[Inputs], Mapping[tuple[str, ...], Any]] | None = field(default=None)

    @property
    def backward_functions(self) -> tuple[str, ...]:
        """The names of the backward function."""
        return tuple(name.replace("forward", "backward") for name in self.functions)

    def right(self, part: str) -> Callable[[Inputs], Array]:
        """Return the function that computes an output or a gradient."""
        return self.outputs[part] if part in self.outputs else self.gradients[part]


_ENDINGS = re.compile(r"_(naive|fast|vectori[sz]ed|loops?|im2col|strides|simple)$")


def base_name(function: str) -> str:
    """Return a function's name without its ending and without capitals."""
    return _ENDINGS.sub("", function.lower())


def matching(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return the names that are one of those wanted, up to an ending."""
    return [name for name in names if base_name(name) in wanted]
