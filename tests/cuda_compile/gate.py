"""Compile the CUDA kernels and read what came out. Needs nvcc and nvdisasm, and no GPU.

    python tests/cuda_compile/gate.py                                all architectures
    python tests/cuda_compile/gate.py --architectures 80 90          some
    python tests/cuda_compile/gate.py --record                       write the budget anew
    python tests/cuda_compile/gate.py --library libconvcore_cuda.so  check a built plug-in instead

Of every kernel, for every architecture: it compiles without a warning, nothing spills, the machine code
reads and writes no local memory (LDL, STL), tensor cores are used (HMMA) where the template argument
`Precision` asks for them and nowhere else, and registers and static shared memory are within
budget.json. The budget holds what the compiler of its "nvcc" made; another version is held to
everything else. A kernel that is new, gone or smaller than its budget asks for --record as well, so
that every change is seen in the diff.

Of the plug-in: it exports one symbol, needs neither libcuda nor libcudart, can be opened, and says
why it cannot be used where it cannot.

What was compiled is kept (--build) and compiled again when the file, a header or nvcc has changed.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUDGET = Path(__file__).with_name("budget.json")
ARCHITECTURES = (80, 86, 89, 90, 100, 120)  # as cmake/cuda.cmake
BUDGETED = (80, 90, 120)  # the others differ from one of these in the scheduling only
FLAGS = ("-std=c++17", "-O3", "-I", "csrc", "-Werror", "all-warnings", "-Xptxas", "-v", "-cubin")
# The values of cuda::Precision (csrc/cuda/device.cuh) as they stand in the names of kernels.
FP32, ON_TENSOR_CORES = 0, (1, 2, 3)


@dataclass
class Kernel:
    """What the compiler says of a kernel, and what its machine code holds."""

    registers: int = 0
    shared: int = 0  # bytes, static
    stack: int = 0  # bytes
    spills: int = 0  # bytes stored and loaded
    instructions: dict[str, int] = field(default_factory=dict)


# ---- reading what nvcc and nvdisasm write


def parse_ptxas(text: str) -> dict[str, Kernel]:
    """Return the kernels of `nvcc -Xptxas -v`, by mangled name."""
    kernels: dict[str, Kernel] = {}
    current = Kernel()
    for line in text.splitlines():
        if m := re.search(r"Compiling entry function '(\S+)'", line):
            current = kernels.setdefault(m[1], Kernel())
        elif m := re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line
        ):
            current.stack = int(m[1])
            current.spills = int(m[2]) + int(m[3])
        elif m := re.search(r"Used (\d+) registers", line):
            current.registers = int(m[1])
            if m := re.search(r"(\d+) bytes smem", line):
                current.shared = int(m[1])
    return kernels


def parse_sass(text: str) -> dict[str, dict[str, int]]:
    """Return how often each instruction stands in each function of `nvdisasm -c`, by mangled name.

    Instructions by their first word: HMMA for HMMA.16816.F32.BF16.
    """
    functions: dict[str, dict[str, int]] = {}
    counts: dict[str, int] = {}
    for line in text.splitlines():
        if m := re.match(r"\.text\.(\S+):", line):
            counts = functions.setdefault(m[1], {})
        elif m := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*)", line):
            counts[m[1]] = counts.get(m[1], 0) + 1
    return functions


def short_name(demangled: str) -> str:
    """Return a kernel's name without namespaces, result and parameters.

    ``void convcore::cuda::detail::f<(convcore::cuda::Precision)0, 4>(long)`` is
    ``f<(Precision)0, 4>``.
    """
    name = re.sub(r"\(anonymous namespace\)::", "", demangled)
    name = re.sub(r"\b(?:[a-z_]\w*::)+", "", name)
    name = re.sub(r"^(?:static )?void ", "", name)
    name = re.sub(r" (?=>)", "", name)
    depth = 0
    for i, c in enumerate(name):  # the parameters: the first bracket outside of <>
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0:
            return name[:i]
    return name


def demangle(names: Iterable[str]) -> dict[str, str]:
    """Return the names as C++ has them, by c++filt."""
    mangled = list(names)
    result = subprocess.run(
        ["c++filt"], input="\n".join(mangled), capture_output=True, text=True, check=True
    )
    return dict(zip(mangled, result.stdout.splitlines(), strict=True))


# ---- what must hold


def problems_of_kernel(name: str, kernel: Kernel) -> list[str]:
    """Return what is wrong with a kernel whatever its budget says."""
    problems = []
    if kernel.spills:
        problems.append(f"{kernel.spills} bytes of registers are spilled")
    local = {i: kernel.instructions[i] for i in ("LDL", "STL") if i in kernel.instructions}
    if kernel.stack or local:
        found = "".join(f", {count} {i}" for i, count in local.items())
        problems.append(f"it uses local memory: {kernel.stack} bytes of stack{found}")
    if not kernel.instructions:
        problems.append("no machine code was found")
    tensor = kernel.instructions.get("HMMA", 0)
    precisions = {int(p) for p in re.findall(r"\(Precision\)(\d+)", name)}
    if precisions & set(ON_TENSOR_CORES) and not tensor:
        problems.append("it has a precision of the tensor cores and no HMMA")
    if not precisions & set(ON_TENSOR_CORES) and tensor:
        problems.append(f"{tensor} HMMA in a kernel that is to compute in float32")
    if FP32 in precisions and not kernel.instructions.get("FFMA"):
        problems.append("no FFMA")
    return problems


def problems_of_budget(
    budget: dict[str, dict[str, int]], found: dict[str, dict[str, int]], architectures: list[str]
) -> list[str]:
    """Compare what kernels use with what they may.

    Both map a name to {"shared": bytes, "80": registers, ...}.
    """
    problems = [f"{name}: not in the budget" for name in sorted(found.keys() - budget.keys())]
    problems += [f"{name}: in the budget and gone" for name in sorted(budget.keys() - found.keys())]
    for name in sorted(budget.keys() & found.keys()):
        for what in [*architectures, "shared"]:
            allowed, used = budget[name].get(what, 0), found[name].get(what, 0)
            unit = (
                "bytes of static shared memory" if what == "shared" else f"registers on sm_{what}"
            )
            if used > allowed:
                problems.append(f"{name}: {used} {unit}, the budget is {allowed}")
            elif used < allowed:
                problems.append(f"{name}: only {used} {unit}, the budget is {allowed}: lower it")
    return problems


# ---- compiling


def tool(name: str, beside: Path | None) -> Path:
    """Return a tool of the CUDA toolkit: from nvcc's folder, the PATH, or /usr/local/cuda."""
    places = [str(beside)] if beside else []
    places += [os.environ.get("PATH", ""), "/usr/local/cuda/bin"]
    found = shutil.which(name, path=os.pathsep.join(places))
    if not found:
        sys.exit(f"gate: {name} was not found (tests/cuda_compile/toolkit.txt: where to get it)")
    return Path(found)


def version_of(nvcc: Path) -> str:
    """Return nvcc's version, as 13.0.88."""
    text = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"\bV(\d+\.\d+\.\d+)", text)
    return match[1] if match else "unknown"


def headers_digest() -> bytes:
    """Return a digest of every header that a kernel could include."""
    digest = hashlib.sha256()
    for path in sorted(p for p in (ROOT / "csrc").rglob("*") if p.suffix in (".h", ".cuh")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.digest()


@dataclass
class Compiler:
    """nvcc and nvdisasm, with a folder for what they make."""

    nvcc: Path
    nvdisasm: Path
    build: Path

    def compile(self, source: Path, architecture: int) -> dict[str, Kernel]:
        """Return the kernels of a file, by mangled name; raise RuntimeError with nvcc's errors."""
        cubin = self.build / f"{source.stem}.sm_{architecture}.cubin"
        kept = cubin.with_suffix(".json")
        digest = hashlib.sha256(self.stamp + source.read_bytes()).hexdigest()
        if kept.exists() and (found := json.loads(kept.read_text()))["digest"] == digest:
            return {name: Kernel(**facts) for name, facts in found["kernels"].items()}
        command = [self.nvcc, *FLAGS, f"-arch=sm_{architecture}", "-o", cubin, source]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(f"{source.name}, sm_{architecture}:\n{result.stderr}")
        kernels = parse_ptxas(result.stderr)
        if kernels:  # nvdisasm fails where there is no code
            sass = subprocess.run([self.nvdisasm, "-c", cubin], capture_output=True, text=True)
            if sass.returncode:
                raise RuntimeError(f"nvdisasm {cubin.name}:\n{sass.stderr}")
            for name, instructions in parse_sass(sass.stdout).items():
                kernels.setdefault(name, Kernel()).instructions = instructions
        facts = {name: asdict(kernel) for name, kernel in kernels.items()}
        kept.write_text(json.dumps({"digest": digest, "kernels": facts}))
        return kernels

    def __post_init__(self) -> None:
        """Prepare the folder, and what the results depend on besides the source."""
        self.build.mkdir(parents=True, exist_ok=True)
        self.version = version_of(self.nvcc)
        self.stamp = f"{self.version} {FLAGS}".encode() + headers_digest()


def compile_all(
    compiler: Compiler, architectures: Iterable[int], jobs: int
) -> dict[int, dict[str, Kernel]]:
    """Return all kernels by architecture and "file/name"."""
    sources = sorted((ROOT / "csrc/cuda").glob("*.cu"))
    sources.sort(key=lambda s: -s.stat().st_size)  # the long ones first
    tasks = [(source, a) for source in sources for a in architectures]
    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(lambda t: compiler.compile(*t), tasks))
    names = demangle({name for kernels in results for name in kernels})
    everything: dict[int, dict[str, Kernel]] = {a: {} for a in architectures}
    for (source, a), kernels in zip(tasks, results, strict=True):
        for name, kernel in kernels.items():
            short = f"{source.stem}/{short_name(names[name])}"
            if short in everything[a]:
                raise RuntimeError(f"two kernels of {source.name} are called {short}")
            everything[a][short] = kernel
    return everything


def usage_of(everything: dict[int, dict[str, Kernel]]) -> dict[str, dict[str, int]]:
    """Return what the budget holds: {"file/name": {"shared": bytes, "80": registers, ...}}."""
    usage: dict[str, dict[str, int]] = {}
    for architecture, kernels in everything.items():
        if architecture not in BUDGETED:
            continue
        for name, kernel in kernels.items():
            entry = usage.setdefault(name, {"shared": 0})
            entry["shared"] = max(entry["shared"], kernel.shared)
            entry[str(architecture)] = kernel.registers
    return usage


def write_budget(version: str, usage: dict[str, dict[str, int]]) -> None:
    """Write budget.json, a kernel per line."""
    lines = [f"    {json.dumps(name)}: {json.dumps(usage[name])}" for name in sorted(usage)]
    text = ",\n".join(lines)
    BUDGET.write_text(f'{{\n  "nvcc": "{version}",\n  "kernels": {{\n{text}\n  }}\n}}\n')


def check_kernels(args: argparse.Namespace) -> list[str]:
    """Compile and check; return the problems."""
    nvcc = Path(args.nvcc) if args.nvcc else tool("nvcc", None)
    compiler = Compiler(nvcc, tool("nvdisasm", nvcc.resolve().parent), Path(args.build))
    architectures = sorted({*args.architectures, *(BUDGETED if args.record else ())})
    try:
        everything = compile_all(compiler, architectures, args.jobs)
    except RuntimeError as error:
        return [str(error)]
    problems = [
        f"{name} on sm_{architecture}: {problem}"
        for architecture, kernels in everything.items()
        for name, kernel in sorted(kernels.items())
        for problem in problems_of_kernel(name, kernel)
    ]
    usage = usage_of(everything)
    count = len(set().union(*everything.values()))
    print(f"nvcc {compiler.version}: {count} kernels for {', '.join(map(str, architectures))}")
    if args.record:
        write_budget(compiler.version, usage)
        return problems
    budget = json.loads(BUDGET.read_text())
    if budget["nvcc"] != compiler.version:
        print(f"registers are not compared: the budget is of nvcc {budget['nvcc']}")
    elif usage:
        budgeted = [str(a) for a in architectures if a in BUDGETED]
        found = problems_of_budget(budget["kernels"], usage, budgeted)
        if found:
            found.append("write the budget anew with --record, and look at the difference")
        problems += found
    return problems


# ---- the plug-in


def problems_of_symbols(nm: str, readelf: str) -> list[str]:
    """Return what is wrong in the words of `nm -D --defined-only` and `readelf -d`."""
    problems = []
    exported = [line.split()[-1] for line in nm.splitlines() if line.split()]
    if exported != ["convcore_cuda_api"]:
        problems.append(f"it exports {exported}, expected convcore_cuda_api alone")
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", readelf)
    if wrong := [name for name in needed if re.match(r"lib(cuda|cudart|nvidia)", name)]:
        problems.append(f"it cannot be opened without {', '.join(wrong)}")
    return problems


class ApiHead(ctypes.Structure):
    """The beginning of the table of csrc/cuda/api.h."""

    _fields_ = (
        ("version", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("architectures", ctypes.c_char_p),
        ("probe", ctypes.CFUNCTYPE(ctypes.c_char_p)),
    )


def check_library(path: Path) -> list[str]:
    """Check a built plug-in; return the problems."""

    def output_of(*command: str) -> str:
        result = subprocess.run([*command, path], capture_output=True, text=True, check=True)
        return result.stdout

    problems = problems_of_symbols(
        output_of("nm", "-D", "--defined-only"), output_of("readelf", "-d")
    )
    header = (ROOT / "csrc/cuda/api.h").read_text()
    match = re.search(r"kApiVersion = (\d+)", header)
    assert match
    library = ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_LOCAL)
    library.convcore_cuda_api.restype = ctypes.POINTER(ApiHead)
    if library.convcore_cuda_api(ctypes.c_uint32(int(match[1]) + 1)):
        problems.append("it gives its table to a caller of another version")
    table = library.convcore_cuda_api(ctypes.c_uint32(int(match[1])))
    if not table:
        return [*problems, "it does not give its table"]
    architectures = table.contents.architectures.decode()
    reason = table.contents.probe()
    if reason is None and not Path("/dev/nvidiactl").exists():
        problems.append("it claims to run where there is no GPU")
    if reason is not None and len(reason) < 10:
        problems.append(f"it cannot be used and says only {reason!r}")
    said = reason.decode() if reason else "it can be used"
    print(f"{path.name}: {path.stat().st_size:,} bytes, for {architectures}; {said}")
    return problems


def main() -> None:
    """Check, print what is wrong, and exit with 1 when something is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--nvcc", default=os.environ.get("CUDACXX"), help="nvcc; nvdisasm is looked for beside it"
    )
    parser.add_argument("--architectures", type=int, nargs="+", default=list(ARCHITECTURES))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--build", default=ROOT / "build/cuda_compile")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--library", type=Path)
    args = parser.parse_args()
    problems = check_library(args.library) if args.library else check_kernels(args)
    for problem in problems:
        print(f"gate: {problem}")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
