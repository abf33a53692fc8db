"""Nothing half-written is ever visible: write aside, sync to disk, then rename."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from stages.errors import InputProblem, TryAgain

SCRATCH = Path("data/store/scratch")  # on the file system of the outputs, outside every output


def sync(path: Path) -> None:
    """Flush a file, or every file below a folder and the folders themselves, to the disk."""
    members = [path, *path.rglob("*")] if path.is_dir() else [path]
    for member in members:
        handle = os.open(member, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _disk_problem(error: OSError, target: Path) -> OSError | InputProblem | TryAgain:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TryAgain("the disk is full", where=str(target), next_step="free some space and run `dvc repro` again")
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return InputProblem(
            f"cannot be written ({error.strerror})", where=str(target), next_step="check the folder's permissions"
        )
    return error


def _replace(scratch: Path, target: Path) -> None:
    sync(scratch)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        aside = scratch.with_name(scratch.name + ".old")
        os.rename(target, aside)
        os.rename(scratch, target)
        shutil.rmtree(aside)
    else:
        os.replace(scratch, target)
    sync(target.parent) if os.name == "posix" and not target.parent.is_symlink() else None


def _scratch_for(target: Path) -> Path:
    """Return a scratch path of this process for `target`, and clear away those of processes that died over it."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    name = target.as_posix().replace("/", "~")
    for left in SCRATCH.iterdir():
        found = re.fullmatch(rf"{re.escape(name)}\.(\d+)(\.old)?", left.name)
        if found and (int(found[1]) == os.getpid() or not psutil.pid_exists(int(found[1]))):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    return SCRATCH / f"{name}.{os.getpid()}"


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a scratch folder that becomes `target` when the block ends without an exception."""
    scratch = _scratch_for(target)
    scratch.mkdir()
    try:
        yield scratch
        _replace(scratch, target)
    except OSError as error:
        raise _disk_problem(error, target) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Yield a scratch path; what is written there becomes `target` when the block ends without an exception."""
    scratch = _scratch_for(target)
    try:
        yield scratch
        _replace(scratch, target)
    except OSError as error:
        raise _disk_problem(error, target) from error
    finally:
        scratch.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Write a small text file atomically."""
    with new_file(target) as scratch:
        scratch.write_text(text, encoding="utf-8")


@contextmanager
def lock(target: Path) -> Iterator[None]:
    """Hold the one lock of an output; a second writer gets `TryAgain` at once."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    held = FileLock(SCRATCH / f"{target.as_posix().replace('/', '~')}.lock", timeout=0)
    try:
        held.acquire()
    except Timeout:
        raise TryAgain(
            "another process is writing this output", where=str(target), next_step="wait for it, then run again"
        ) from None
    try:
        yield
    finally:
        held.release()
