"""Check what a wheel holds: python .ci/check_wheel.py WHEEL (size and contents).

A wheel may hold the CUDA plug-in, which has a size of its own.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

LARGEST_SIZE = 3_000_000  # bytes, without the plug-in
LARGEST_PLUGIN = 12_000_000  # for all architectures
PLUGIN = "convcore/libconvcore_cuda.so"
NEEDED = ("convcore/__init__.py", "convcore/py.typed", "convcore/_core.pyi", "licenses/LICENSE")
FOREIGN = ("csrc/", "tests/", ".ci/", "CMakeLists.txt", "__pycache__")


def problems_of(wheel: Path) -> list[str]:
    """Return what is wrong with the wheel, one sentence each."""
    problems = []
    with zipfile.ZipFile(wheel) as archive:
        entries = archive.infolist()
    plugin = sum(entry.compress_size for entry in entries if entry.filename == PLUGIN)
    size = wheel.stat().st_size
    if size - plugin > LARGEST_SIZE:
        problems.append(f"it has {size - plugin:,} bytes: at most {LARGEST_SIZE:,} are allowed")
    if plugin > LARGEST_PLUGIN:
        problems.append(f"{PLUGIN} has {plugin:,} bytes: at most {LARGEST_PLUGIN:,} are allowed")
    names = [entry.filename for entry in entries]
    for needed in NEEDED:
        if not any(name.endswith(needed) for name in names):
            problems.append(f"{needed} is missing")
    if not any(
        name.startswith("convcore/_core.") and name.endswith((".so", ".pyd")) for name in names
    ):
        problems.append("the compiled module is missing")
    for name in names:
        top = name.split("/")[0]
        if top != "convcore" and not top.endswith(".dist-info"):
            problems.append(f"{name} lies outside of the package")
        elif any(part in name for part in FOREIGN):
            problems.append(f"{name} does not belong into a wheel")
    print(f"{wheel.name}: {size:,} bytes, {len(names)} files; the largest:")
    for entry in sorted(entries, key=lambda e: -e.compress_size)[:3]:
        print(f"  {entry.compress_size:>9,}  {entry.filename}")
    return problems


if __name__ == "__main__":
    found = problems_of(Path(sys.argv[1]))
    for problem in found:
        print(f"check_wheel: {problem}")
    sys.exit(bool(found))
