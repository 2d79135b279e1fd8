"""Check that no case of a bench executable reports an error: check_bench.py JSON_FILE."""

from __future__ import annotations

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    rows = json.loads(Path(sys.argv[1]).read_text("utf-8"))["benchmarks"]
    failed = [row for row in rows if row.get("error_occurred")]
    for row in failed:
        print(f"check_bench: {row['name']}: {row['error_message']}")
    print(f"{len(rows)} cases measured")
    sys.exit(bool(failed) or not rows)
