"""Check that `import convcore` costs at most 0.1 s more than `import numpy`.

Run it with the Python that has both. The two are timed in fresh processes, one after the other, so
that a slow moment of the machine meets both; the medians are compared.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

ROUNDS = 9
LARGEST_DIFFERENCE = 0.1  # seconds
PROGRAM = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def import_time(module: str) -> float:
    """Return the seconds that a fresh process takes to import `module`."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(module)], check=True, capture_output=True, text=True
    )
    return float(result.stdout)


if __name__ == "__main__":
    times: dict[str, list[float]] = {"numpy": [], "convcore": []}
    for module in times:
        import_time(module)  # warms the file cache
    for _ in range(ROUNDS):
        for module, seconds in times.items():
            seconds.append(import_time(module))
    numpy, convcore = (statistics.median(seconds) for seconds in times.values())
    print(f"import numpy {numpy:.3f} s, import convcore {convcore:.3f} s (medians of {ROUNDS})")
    if convcore - numpy > LARGEST_DIFFERENCE:
        sys.exit(f"check_import: convcore takes {convcore - numpy:.3f} s more: at most 0.1 s")
