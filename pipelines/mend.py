"""Puts DVC's own records right where a power cut, a full disk or SIGKILL met DVC while it rewrote them in place."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import yaml

from pipelines import graph

RECORD = Path("dvc.lock")
ASIDE = Path("dvc.lock.damaged")


def records() -> list[str]:
    """Set aside a dvc.lock, and remove a list of held paths, that DVC could not read; say what was done.

    Nothing is lost: DVC finds in its run cache what the stages have made, and writes dvc.lock anew.

    Raises:
        InputProblem: this is no DVC project.
        TryAgain: another DVC process holds the project.
    """
    if _readable_record() and _readable_list(Path(".dvc/tmp/rwlock")):
        return []
    from dvc.lock import make_lock
    from dvc.repo import Repo, lock_repo
    from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK

    done = []
    # Whoever rewrites one of the two files holds the lock beside it, so neither is seen while it is written.
    with graph.explained(), Repo(".") as repo, lock_repo(repo):
        if not _readable_record():
            os.replace(RECORD, ASIDE)
            done.append(f"{RECORD} was damaged, as it is when DVC is killed while it writes: kept as {ASIDE}, written anew")
        folder = Path(repo.tmp_dir)
        hardlink = repo.config["core"].get("hardlink_lock", False)
        with make_lock(str(folder / RWLOCK_LOCK), tmp_dir=str(folder), hardlink_lock=hardlink):
            if not _readable_list(folder / RWLOCK_FILE):
                (folder / RWLOCK_FILE).unlink()
                done.append(f"{folder / RWLOCK_FILE} was damaged: removed")
    return done


def _readable_record() -> bool:
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    with suppress(FileNotFoundError):
        try:
            COMPILED_LOCKFILE_SCHEMA(graph.parse(RECORD))
        except (yaml.YAMLError, UnicodeDecodeError, Invalid):
            return False
    return True


def _readable_list(path: Path) -> bool:
    with suppress(FileNotFoundError):
        try:
            return isinstance(json.loads(path.read_bytes()), dict)
        except ValueError:
            return False
    return True
