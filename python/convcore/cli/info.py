"""``convcore info``: what this installation is and uses."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

from convcore.cli._parser import Args, Verbs, add_verb
from convcore.cli._result import Result, facts

_EPILOG = """\
environment variables:
  CONVCORE_ISA          the best instruction set to use: baseline, avx2 or avx512
  CONVCORE_NUM_THREADS  number of threads
  CONVCORE_VERBOSE      1: each convolution and its algorithm on stderr, when it first runs
  CONVCORE_ALGORITHMS   file of convcore tune with the algorithms to take
  CONVCORE_DATA         folder with data sets
  CONVCORE_MIRRORS      addresses to download data sets from
  CONVCORE_TRACEBACK    1: errors with the whole traceback

examples:
  convcore info
  convcore info --json
"""


def add_parser(verbs: Verbs) -> None:
    """Declare the arguments."""
    add_verb(verbs, run, "info", "show version, build, CPU features, threads, libraries", _EPILOG)


def run(args: Args) -> Result:
    """Gather the facts."""
    import numpy as np

    import convcore
    from convcore import _core

    build = _core.build_info()
    isa, isas = _core.isa(), _core.reachable_isas().split(",")
    threads, cpus = convcore.num_threads(), os.cpu_count()
    runtimes = openmp_runtimes()
    cuda = _cuda(build["cuda"])
    system = platform.platform()
    document = {
        "version": convcore.__version__,
        "build": {"compiler": build["compiler"], "type": build["build_type"]},
        "instruction_set": isa,
        "reachable_instruction_sets": isas,
        "threads": threads,
        "cpus": cpus,
        "openmp": {"version": build["openmp"], "runtimes": runtimes},
        "cuda": cuda,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": system,
    }
    text = facts(
        [
            ("convcore", convcore.__version__),
            ("build", f"{build['compiler']}, {build['build_type']}"),
            ("instruction set", f"{isa} (this build on this CPU: {', '.join(isas)})"),
            ("threads", f"{threads} (the machine has {cpus} logical CPUs)"),
            ("OpenMP", f"version {build['openmp']}; {_describe(runtimes)}"),
            ("CUDA", _describe_cuda(cuda)),
            ("NumPy", np.__version__),
            ("Python", f"{platform.python_version()}, {system}"),
        ]
    )
    return Result(document, text)


def openmp_runtimes() -> list[str] | None:
    """Return the OpenMP libraries in this process; None where the system does not tell.

    More than one means as many pools of threads, which get in each other's way.
    """
    try:
        maps = Path("/proc/self/maps").read_text(errors="replace")
    except OSError:
        return None
    # Of GNU (also as wheels rename it: libgomp-a34b3233.so.1), LLVM and Intel.
    return sorted(set(re.findall(r"/.*/lib(?:gomp|omp|iomp5)[-.].*", maps)))


def _describe(runtimes: list[str] | None) -> str:
    if runtimes is None:
        return "libraries not known on this system"
    return ", ".join(runtimes) or "no library loaded"


def _cuda(built: bool) -> dict[str, Any]:
    from convcore import cuda

    available = cuda.is_available()
    return {
        "available": available,
        "reason": cuda.reason() or None,
        "built": built,
        "architectures": cuda.architectures(),
        "device": cuda.get_device_properties()._asdict() if available else None,
    }


def _describe_cuda(cuda: dict[str, Any]) -> str:
    built = f"built for {', '.join(cuda['architectures'])}" if cuda["architectures"] else ""
    if not cuda["available"]:
        return f"not available: {cuda['reason']}" + (f" ({built})" if built else "")
    device = cuda["device"]
    major, minor = device["compute_capability"]
    gigabytes = device["memory_bytes"] / 2**30
    return f"{device['name']}, compute capability {major}.{minor}, {gigabytes:.0f} GiB ({built})"
