"""Run the whole pipeline twice, each in a fresh clone with an empty cache, and compare the result tables byte by byte.

`make reproducible`
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def results(folder: Path) -> dict[str, str]:
    """Clone the committed project into `folder`, run it, and return the sha256 of every result table."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    environment = {**os.environ, "PYTHONPATH": str(folder), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["dvc", "repro", "-q"], cwd=folder, env=environment, check=True)
    tables = sorted((folder / "data" / "results").glob("*.parquet"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tables}


def main() -> int:
    """Print one line a table and return 1 where two runs differ."""
    with tempfile.TemporaryDirectory() as scratch:
        first, second = (results(Path(scratch) / name) for name in ("first", "second"))
    same = True
    for name in sorted(first.keys() | second.keys()):
        equal = first.get(name) == second.get(name)
        same = same and equal
        print(f"{'same' if equal else 'DIFFERENT':9} {first.get(name, 'absent')[:16]} {name}")
    return 0 if same and first else 1


if __name__ == "__main__":
    sys.exit(main())
