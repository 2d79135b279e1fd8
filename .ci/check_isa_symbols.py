"""Check that kernels of different instruction sets share no code.

    python .ci/check_isa_symbols.py BUILD_DIR

The kernels are compiled once per instruction set and linked into one module. An inline function of
external linkage (most of <algorithm> and <vector>) exists in every object file under one name; the
linker keeps any one of them, perhaps the AVX-512 one, which an older CPU cannot run. So:

1. no kernel source includes a standard header full of inline functions;
2. every weak symbol in the object files carries the instruction set's namespace in its name.

BUILD_DIR is the folder of a Release build (the one that pip made: build/<wheel tag>).
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ALLOWED_HEADERS = {
    *("cfloat", "climits", "cstddef", "cstdint", "cstring", "type_traits"),
    *("math.h", "immintrin.h", "arm_neon.h"),
}
COMPILED_ONCE = {"dispatch.cpp"}


def include_problems() -> list[str]:
    """Return every include of csrc/cpu that is not allowed."""
    problems = []
    for source in sorted((ROOT / "csrc/cpu").rglob("*")):
        if source.suffix not in (".cpp", ".h") or source.name in COMPILED_ONCE:
            continue
        for header in re.findall(r"^\s*#\s*include\s*<(.+?)>", source.read_text("utf-8"), re.M):
            if header not in ALLOWED_HEADERS:
                problems.append(f"{source.relative_to(ROOT)} includes <{header}>")
    return problems


def symbol_problems(build_dir: Path) -> list[str]:
    """Return every weak symbol outside the namespace of its instruction set."""
    problems = []
    folders = sorted(build_dir.glob("CMakeFiles/convcore_cpu_*.dir"))
    isas = [folder.stem.removeprefix("convcore_cpu_") for folder in folders]
    if "baseline" not in isas:
        sys.exit(f"check_isa_symbols: {build_dir} holds no object files of the kernels")
    checked = 0
    for isa, folder in zip(isas, folders, strict=True):
        if isa == "baseline":  # runs on every CPU, whichever copy the linker keeps
            continue
        for obj in sorted(folder.rglob("*.o")):
            checked += 1
            listing = subprocess.run(
                ["nm", "--defined-only", obj], check=True, capture_output=True, text=True
            ).stdout
            for line in listing.splitlines():
                kind, symbol = line.split()[-2:]
                harmless = symbol.startswith("DW.ref.")  # data: where the exception handler is
                if kind in "WVu" and f"{len(isa)}{isa}" not in symbol and not harmless:
                    problems.append(f"{obj.name} ({isa}) shares the symbol {symbol}")
    print(f"{len(isas)} instruction sets ({', '.join(isas)}), {checked} object files with symbols")
    return problems


if __name__ == "__main__":
    found = include_problems() + symbol_problems(Path(sys.argv[1]))
    for problem in found:
        print(f"check_isa_symbols: {problem}")
    sys.exit(bool(found))
