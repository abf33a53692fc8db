"""Work in progress that a killed run must not lose, keyed by the content of everything it was made from.

DVC empties a stage's outputs before it runs, so what a long stage has finished (shards of features, a training's
epochs, fine-tuned scores) lives here and the outputs are linked or copied from it. The store can be dropped at any
time (`transferscope drop-store`): it costs time, never a result.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from stages.artifacts import atomic
from stages.artifacts.manifest import digest, sha256

STORE = Path("data/store")
LOCK_FILE = Path("requirements.lock")
PACKAGE = Path(__file__).resolve().parents[1]  # the `stages` package
BASE = ("params", "seeds.py", "artifacts")  # code that every stage's results depend on


def key(inputs: Mapping[str, object], code: Iterable[str] = ()) -> str:
    """Return the content key of one unit of work: its inputs, its code and the pinned packages.

    `code` names modules or folders below `stages/`, for instance `["train.py", "encoders"]`: what is kept must
    become invalid with the same edits that make DVC run the stage again.
    """
    named = [PACKAGE / name for name in (*code, *BASE)]
    files = {file for path in named for file in ([path] if path.suffix == ".py" else path.rglob("*.py"))}
    sources = {file.relative_to(PACKAGE).as_posix(): sha256(file) for file in sorted(files)}
    packages = sha256(LOCK_FILE) if LOCK_FILE.is_file() else None
    return digest({"inputs": dict(inputs), "code": sources, "packages": packages})[:32]


def folder(kind: str, content_key: str) -> Path:
    """Return the (created) folder that belongs to one unit of work."""
    path = STORE / kind / content_key
    path.mkdir(parents=True, exist_ok=True)
    return path


def link(source: Path, target: Path) -> None:
    """Make `target` the same file as `source` by a hard link, or by a copy where the file system has none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def drop() -> int:
    """Delete the kept work and return the number of bytes freed; call it while nothing runs.

    The scratch folder stays: it holds locks. A file that an output still links to frees nothing.
    """
    kept = [path for path in STORE.glob("*") if path.is_dir() and path.name != atomic.SCRATCH.name]
    facts = [path.stat() for folder in kept for path in folder.rglob("*") if path.is_file()]
    sizes = {(fact.st_dev, fact.st_ino): fact.st_size for fact in facts}
    links = Counter((fact.st_dev, fact.st_ino) for fact in facts)
    outside = {(fact.st_dev, fact.st_ino) for fact in facts if fact.st_nlink > links[fact.st_dev, fact.st_ino]}
    for folder in kept:
        shutil.rmtree(folder)
    return sum(size for file, size in sizes.items() if file not in outside)
