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

from stages.errors import InputProblem, Problem, TryAgain

FULL = re.compile(  # what libraries say with exceptions of their own
    r"No space left on device|Disk quota exceeded"  # polars, safetensors
    r"|PytorchStreamWriter failed writing|unexpected pos \d+ vs \d+"  # torch.save says only where it stopped
    r"|\d+ requested and \d+ written"  # numpy.save too
)
SCRATCH = Path("data/store/scratch")  # on the file system of the outputs, outside every output


def sync(path: Path) -> None:
    """Flush a file, or every file below a folder and the folders themselves, to the disk."""
    members = [path, *path.rglob("*")] if path.is_dir() else [path]
    for member in members:
        _sync_one(member)


def _sync_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _room_for(target: Path) -> Iterator[None]:
    """Turn whatever a full disk makes the block raise into `TryAgain`."""
    try:
        yield
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or (not isinstance(error, Problem) and FULL.search(str(error))):
            raise TryAgain(
                "the disk is full", where=str(target), next_step="free some space and run `dvc repro` again"
            ) from error
        raise


@contextmanager
def _right_to_write(target: Path) -> Iterator[None]:
    """Turn a refusal of the file system into `InputProblem`; for our own writes only, a body may also read."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise InputProblem(
                f"cannot be written ({error.strerror})", where=str(target), next_step="check the folder's permissions"
            ) from error
        raise


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
    if os.name == "posix":  # the name; what else is in the folder belongs to others, who may be changing it
        _sync_one(target.parent)


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
    with _room_for(target):
        with _right_to_write(target):
            scratch = _scratch_for(target)
            scratch.mkdir()
        try:
            yield scratch
            with _right_to_write(target):
                _replace(scratch, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Yield a scratch path; what is written there becomes `target` when the block ends without an exception."""
    with _room_for(target):
        with _right_to_write(target):
            scratch = _scratch_for(target)
            scratch.touch()  # the body makes it: find out here whether it can
            scratch.unlink()
        try:
            yield scratch
            with _right_to_write(target):
                _replace(scratch, target)
        finally:
            scratch.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Write a small text file atomically."""
    with new_file(target) as scratch:
        scratch.write_text(text, encoding="utf-8")


@contextmanager
def lock(target: Path) -> Iterator[None]:
    """Hold the one lock of an output; a second writer gets `TryAgain` at once."""
    held = FileLock(SCRATCH / f"{target.as_posix().replace('/', '~')}.lock", timeout=0)
    try:
        with _room_for(SCRATCH), _right_to_write(SCRATCH):
            SCRATCH.mkdir(parents=True, exist_ok=True)
            held.acquire()
    except Timeout:
        raise TryAgain(
            "another process is writing this output", where=str(target), next_step="wait for it, then run again"
        ) from None
    try:
        yield
    finally:
        held.release()
