"""_core.pyi says what the compiled module has: every function, with its arguments."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import BuiltinFunctionType

import pytest

import convcore
from convcore import _core


def stub_functions() -> dict[str, list[tuple[str, bool]]]:
    """Return, by function, each argument's name ("" when positional only) and "has a default"."""
    path = Path(convcore.__file__).with_name("_core.pyi")
    functions = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            names = [""] * len(node.args.posonlyargs) + [a.arg for a in node.args.args]
            required = len(names) - len(node.args.defaults)
            functions[node.name] = [(name, i >= required) for i, name in enumerate(names)]
    return functions


def module_functions() -> dict[str, list[tuple[str, bool]]]:
    """Return the same from the signatures in pybind11's docstrings."""
    functions = {}
    for name, function in vars(_core).items():
        if not isinstance(function, BuiltinFunctionType) or name.startswith("__"):
            continue
        signature = function.__doc__.splitlines()[0]
        # The names lie outside of all brackets: take out the brackets from the inside.
        arguments = signature[signature.index("(") + 1 : signature.rindex(") ->")]
        while (plain := re.sub(r"\[[^\[\]]*\]|\([^()]*\)", "", arguments)) != arguments:
            arguments = plain
        parts = [
            part.strip() for part in arguments.split(",") if part.strip() not in ("", "/", "*")
        ]
        functions[name] = [
            (re.sub(r"^arg\d+$", "", part.split(":")[0]), "=" in part) for part in parts
        ]
    return functions


def test_stub_lists_exactly_the_functions_of_the_module():
    stub, module = stub_functions(), module_functions()
    missing = [_core.__dict__[name].__doc__.splitlines()[0] for name in module.keys() - stub.keys()]
    assert not missing, f"python/convcore/_core.pyi lacks: {missing}"
    extra = stub.keys() - module.keys()
    assert not extra, f"python/convcore/_core.pyi lists what the module does not have: {extra}"
    assert list(stub) == sorted(stub), "keep _core.pyi in alphabetical order"


def test_stub_lists_exactly_the_classes_of_the_module_and_their_methods():
    path = Path(convcore.__file__).with_name("_core.pyi")
    stub = {
        node.name: sorted(
            f.name
            for f in node.body
            if isinstance(f, ast.FunctionDef) and (f.name == "__init__" or f.name[0] != "_")
        )
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }
    module = {
        name: sorted(["__init__", *(key for key in vars(value) if not key.startswith("_"))])
        for name, value in vars(_core).items()
        if isinstance(value, type)
    }
    assert stub == module


@pytest.mark.parametrize("name", sorted(module_functions()))
def test_stub_has_the_arguments_of(name):
    stub = stub_functions()
    if name in stub:  # otherwise the test above tells
        assert stub[name] == module_functions()[name], _core.__dict__[name].__doc__
