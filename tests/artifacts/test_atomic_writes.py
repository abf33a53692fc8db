"""Nothing half-written is visible, locks hold, and reading notices damage."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors import SafetensorError

from stages.artifacts import atomic, manifest, store
from stages.errors import InputProblem, TryAgain


def test_a_folder_appears_whole_or_not_at_all(project: Path) -> None:
    target = Path("data/thing")
    with pytest.raises(RuntimeError), atomic.new_folder(target) as folder:
        (folder / "half").write_text("x", encoding="utf-8")
        raise RuntimeError
    assert not target.exists()
    assert [path for path in atomic.SCRATCH.iterdir() if path.is_dir()] == []
    with atomic.new_folder(target) as folder:
        (folder / "whole").write_text("x", encoding="utf-8")
        assert not target.exists()
    assert (target / "whole").read_text(encoding="utf-8") == "x"


def test_a_folder_replaces_the_old_one(project: Path) -> None:
    for name in ("old", "new"):
        with atomic.new_folder(Path("data/thing")) as folder:
            (folder / name).touch()
    assert [path.name for path in Path("data/thing").iterdir()] == ["new"]


def test_a_failed_file_leaves_the_old_one(project: Path) -> None:
    atomic.write_text(Path("data/note"), "old")
    with pytest.raises(RuntimeError), atomic.new_file(Path("data/note")) as scratch:
        scratch.write_text("half", encoding="utf-8")
        raise RuntimeError
    assert Path("data/note").read_text(encoding="utf-8") == "old"


def test_a_full_disk_is_worth_another_try(project: Path) -> None:
    with pytest.raises(TryAgain, match="disk is full"), atomic.new_file(Path("data/note")) as scratch:
        scratch.touch()
        with Path("/dev/full").open("w", encoding="utf-8") as full:  # a device whose every write fails as a full disk does
            full.write("x")
    assert not Path("data/note").exists()


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda: pl.DataFrame({"a": range(100_000)}).write_parquet("/dev/full"), id="polars"),
        pytest.param(lambda: torch.save({"a": torch.zeros(100_000)}, "/dev/full"), id="torch"),
        pytest.param(lambda: np.zeros(100_000).tofile("/dev/full"), id="numpy"),
    ],
)
def test_a_full_disk_in_a_library_s_own_words(project: Path, write: Callable[[], object]) -> None:
    with pytest.raises(TryAgain, match="disk is full"), atomic.new_folder(Path("data/thing")):
        write()
    assert not Path("data/thing").exists()
    assert list(atomic.SCRATCH.iterdir()) == []


def test_safetensors_words_for_a_full_disk(project: Path) -> None:
    """It writes aside and renames, so no device file stands in for its disk: its message is given."""
    said = "Error while serializing: I/O error: No space left on device (os error 28)"
    with pytest.raises(TryAgain, match="disk is full"), atomic.new_file(Path("data/thing")):
        raise SafetensorError(said)


@pytest.fixture
def unprivileged(project: Path) -> Iterator[None]:
    """File permissions count, also where the tests run as root."""
    for folder in (project, *project.rglob("*")):
        folder.chmod(0o777)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)


@pytest.mark.usefixtures("unprivileged")
@pytest.mark.parametrize("new", [atomic.new_file, atomic.new_folder])
def test_only_an_output_that_cannot_be_written_is_called_so(new: Callable[[Path], AbstractContextManager[Path]]) -> None:
    secret = Path("data/secret")
    secret.touch(mode=0o000)
    with pytest.raises(PermissionError, match="secret"), new(Path("data/thing")):
        secret.read_bytes()
    locked = Path("data/locked")
    locked.mkdir(mode=0o500)
    with pytest.raises(InputProblem, match="data/locked/thing: cannot be written"), new(locked / "thing") as scratch:
        scratch.touch()
    shutil.rmtree(atomic.SCRATCH)
    atomic.SCRATCH.mkdir(mode=0o500)
    with pytest.raises(InputProblem, match="data/thing: cannot be written"), new(Path("data/thing")) as scratch:
        scratch.touch()
    with pytest.raises(InputProblem, match="scratch: cannot be written"), atomic.lock(Path("stage")):
        pass


def test_what_a_killed_process_left_is_cleared_away(project: Path) -> None:
    atomic.SCRATCH.mkdir(parents=True)
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    dead = atomic.SCRATCH / f"data~thing.{finished.pid}"
    alive = atomic.SCRATCH / f"data~thing.{os.getppid()}"
    for folder in (dead, alive):
        folder.mkdir()
    with atomic.new_folder(Path("data/thing")):
        assert not dead.exists()
        assert alive.exists()


def test_one_writer_at_a_time(project: Path) -> None:
    code = "from pathlib import Path; from stages.artifacts import atomic\nwith atomic.lock(Path('out')): pass"
    environment = {**os.environ, "PYTHONPATH": str(Path(atomic.__file__).parents[2])}
    command = [sys.executable, "-c", code]
    with atomic.lock(Path("out")):
        blocked = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    free = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "another process is writing" in blocked.stderr
    assert free.returncode == 0, free.stderr


def made(folder: Path) -> Path:
    with atomic.new_folder(folder) as scratch:
        (scratch / "a.txt").write_text("hello", encoding="utf-8")
        manifest.write(scratch, kind="thing", version=1, inputs={"x": "y"})
    return folder


def test_damage_is_noticed(project: Path) -> None:
    folder = made(Path("data/thing"))
    manifest.read(folder, kind="thing", version=1, made_by="make", verify=True)
    (folder / "a.txt").write_text("hallo", encoding="utf-8")
    manifest.read(folder, kind="thing", version=1, made_by="make")  # the same size: only the sha256 tells
    with pytest.raises(InputProblem, match="another sha256"):
        manifest.read(folder, kind="thing", version=1, made_by="make", verify=True)
    (folder / "a.txt").write_text("hell", encoding="utf-8")
    with pytest.raises(InputProblem, match="4 bytes instead of 5"):
        manifest.read(folder, kind="thing", version=1, made_by="make")
    (folder / "a.txt").unlink()
    with pytest.raises(InputProblem, match="is missing"):
        manifest.read(folder, kind="thing", version=1, made_by="make")


@pytest.mark.parametrize(("kind", "version"), [("other", 1), ("thing", 2)])
def test_another_kind_or_version_is_refused(project: Path, kind: str, version: int) -> None:
    folder = made(Path("data/thing"))
    with pytest.raises(InputProblem, match="dvc repro make"):
        manifest.read(folder, kind=kind, version=version, made_by="make")


def test_no_manifest_means_not_there(project: Path) -> None:
    Path("data/thing").mkdir()
    with pytest.raises(InputProblem, match="never finished"):
        manifest.read(Path("data/thing"), kind="thing", version=1, made_by="make")


def test_the_store_key_sees_inputs_code_and_packages(project: Path) -> None:
    first = store.key({"a": 1, "b": 2}, ["training.py"])
    assert first == store.key({"b": 2, "a": 1}, ["training.py"])
    assert first != store.key({"a": 1, "b": 3}, ["training.py"])
    assert first != store.key({"a": 1, "b": 2}, ["training.py", "encoders"])
    with Path("requirements.lock").open("a", encoding="utf-8") as lock:
        lock.write("# changed\n")
    assert first != store.key({"a": 1, "b": 2}, ["training.py"])


def test_dropping_the_store_frees_what_it_says(project: Path) -> None:
    (store.folder("features", "k") / "x").write_bytes(bytes(1000))
    store.link(store.folder("features", "k") / "x", store.folder("training", "k") / "again")  # the same bytes, once
    (store.folder("features", "k") / "y").write_bytes(bytes(300))
    store.link(store.folder("features", "k") / "y", Path("data/output"))  # which keeps the bytes
    with atomic.lock(Path("out")):
        assert store.drop() == 1000
        assert [path.name for path in store.STORE.iterdir()] == ["scratch"]
        with pytest.raises(TryAgain), atomic.lock(Path("out")):
            pass
    assert Path("data/output").stat().st_size == 300
    assert store.drop() == 0
