"""The command line as a person has it: every test runs it in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        def refuse(name):
            raise AssertionError(f"{name} is no JSON")

        assert self.out, self.err
        return json.loads(self.out, parse_constant=refuse)

    @property
    def error(self) -> str:
        """The one line on stderr."""
        assert self.out == ""
        assert self.err.endswith("\n")
        assert self.err.count("\n") == 1, self.err
        return self.err.rstrip("\n")


@dataclass
class CommandLine:
    """Runs ``convcore`` in a folder."""

    folder: Path

    def environment(self, **changes: str) -> dict[str, str]:
        """Return the environment without settings of convcore, and with an empty cache folder."""
        keep = {k: v for k, v in os.environ.items() if not k.startswith("CONVCORE_")}
        for name in ("CONVCORE_ISA", "CONVCORE_NUM_THREADS", "CONVCORE_POISON"):
            if name in os.environ:
                keep[name] = os.environ[name]
        return {**keep, "XDG_CACHE_HOME": str(self.folder / "cache"), **changes}

    def __call__(self, *words: object, **environment: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "convcore", *map(str, words)],
            cwd=self.folder,
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )
        return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def cli(tmp_path) -> CommandLine:
    """Give the command line, in an empty folder."""
    return CommandLine(tmp_path)


@dataclass
class Trained:
    """A training with the default settings."""

    folder: Path
    done: Done

    @property
    def file(self) -> Path:
        return self.folder / "lenet5.safetensors"


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Trained:
    """Train as the README says: ``convcore train lenet5``."""
    folder = tmp_path_factory.mktemp("trained")
    return Trained(folder, CommandLine(folder)("train", "lenet5"))
