"""Random durations, random kills, a full disk: always the bytes and the dvc.lock of one undisturbed `dvc repro`.

The suite makes a few trials; `TRANSFERSCOPE_TRIALS=30 pytest tests/pipelines/test_safety.py` makes that many of each kind.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

MakeToy = Callable[..., Any]  # makes the Toy of conftest.py
TRIALS = int(os.environ.get("TRANSFERSCOPE_TRIALS", "0"))

# A stage that takes a random time, and writes a folder in two steps with time between them.
WORK = """
import hashlib, os, pathlib, random, sys, time
name, *needs = sys.argv[1:]
pause = random.Random(os.environ["DURATIONS"] + name).uniform(0, 0.3)
with open("log", "a") as log:
    log.write(name + "\\n")
time.sleep(pause)
read = b"".join(path.read_bytes() for need in needs for path in sorted(pathlib.Path(need).iterdir()))
out = pathlib.Path("out") / name
out.mkdir(parents=True, exist_ok=True)
for part in ("first", "second"):
    made = hashlib.sha256(read + name.encode() + part.encode()).hexdigest()
    (out / part).write_text(made * 2000)
    time.sleep(pause)
"""
NEEDS = {"a": "", "b": "", "c": "a", "d": "ab", "e": "b", "f": "cd", "g": "de", "h": "fg"}
STAGES = {
    name: {
        "cmd": f"python work.py {name} {' '.join(f'out/{need}' for need in needs)}".strip(),
        "deps": ["work.py", *(f"out/{need}" for need in needs)],
        "outs": [f"out/{name}"],
    }
    for name, needs in NEEDS.items()
}


def outputs(toy: Any) -> dict[str, str]:
    """Return the hash of every output file."""
    files = [path for path in (toy.path / "out").rglob("*") if path.is_file()]
    return {str(path.relative_to(toy.path)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def damaged(toy: Any) -> list[str]:
    """Return the objects of DVC's cache whose content is not what their name says."""
    objects = [path for path in (toy.path / ".dvc" / "cache" / "files" / "md5").glob("??/*") if path.is_file()]
    assert objects
    return [
        str(path)
        for path in objects
        if hashlib.md5(path.read_bytes()).hexdigest() != path.parent.name + path.name.removesuffix(".dir")
    ]


@pytest.fixture
def reference(make_toy: MakeToy) -> Any:
    """What one undisturbed serial `dvc repro` leaves."""
    toy = make_toy("serial", STAGES)
    (toy.path / "work.py").write_text(WORK)
    toy.environment["DURATIONS"] = "none"
    done = toy.dvc("repro")
    assert done.returncode == 0, done.stderr
    return toy


@pytest.fixture
def fresh(make_served_toy: MakeToy, reference: Any) -> Callable[[int], Any]:
    """Make a project with nothing done yet, the durations of its stages drawn from a seed."""

    def make(seed: int) -> Any:
        toy = make_served_toy(f"trial{seed}", STAGES)
        shutil.copy(reference.path / "work.py", toy.path)
        toy.environment["DURATIONS"] = str(seed)
        return toy

    return make


def as_undisturbed(toy: Any, reference: Any) -> None:
    assert toy.lock == reference.lock
    assert outputs(toy) == outputs(reference)
    assert damaged(toy) == []
    assert "up to date" in toy.dvc("status").stdout


@pytest.mark.parametrize("seed", range(TRIALS or 1))
def test_parallel_runs_leave_what_a_serial_run_leaves(fresh: Callable[[int], Any], reference: Any, seed: int) -> None:
    toy = fresh(seed)
    done = toy.transferscope("repro", "--jobs", "3")
    assert done.returncode == 0, done.stderr
    assert f"{len(STAGES)} ran" in done.stderr
    as_undisturbed(toy, reference)


VICTIMS = ("flow", "loader", "dvc", "stage")


def victim(run: int, kind: str) -> psutil.Process | None:
    """Return a process of a running flow: itself, the one with DVC loaded, one of its forks, or a stage."""
    try:
        flow = psutil.Process(run)
        loaded = [child for child in flow.children() if "pipelines.one_dvc" in child.cmdline()]
        forks = [fork for loader in loaded for fork in loader.children()]
        stages = [stage for fork in forks for stage in fork.children(recursive=True)]
    except psutil.Error:
        return None
    return next(iter({"flow": [flow], "loader": loaded, "dvc": forks, "stage": stages}[kind]), None)


@pytest.mark.parametrize("seed", range(TRIALS or 2))
def test_a_run_killed_anywhere_is_made_good_by_the_next(
    fresh: Callable[[int], Any], reference: Any, all_gone: Callable[[Path], None], seed: int
) -> None:
    draw = random.Random(f"kill {seed}")
    toy, kind = fresh(seed), VICTIMS[(seed + 2) % len(VICTIMS)]
    run = toy.start("repro", "--jobs", "3", "--retry-seconds", "0.1")
    begun = draw.randrange(len(STAGES) + 1)  # stages begun before the kill
    log = toy.path / "log"
    while run.poll() is None and begun and not (log.exists() and len(log.read_text().split()) >= begun):
        time.sleep(0.01)
    time.sleep(draw.uniform(0, 0.8 if begun else 4))
    while run.poll() is None:
        chosen = victim(run.pid, kind)
        if chosen is not None:
            chosen.send_signal(signal.SIGKILL)
            break
        time.sleep(0.001)
    code = run.wait(180)
    said = (toy.path / "said").read_text()
    assert code in ((-signal.SIGKILL, 0) if kind == "flow" else (0, 1, 75)), said
    assert "Traceback" not in said
    all_gone(toy.path)
    again = toy.transferscope("repro", "--jobs", "3")
    assert again.returncode == 0, (said, again.stderr)
    all_gone(toy.path)
    as_undisturbed(toy, reference)


def test_two_runs_started_at_once_are_one_run(fresh: Callable[[int], Any], reference: Any) -> None:
    toy = fresh(0)
    runs = [toy.start("repro", DURATIONS=str(number)) for number in range(2)]
    codes = [run.wait(180) for run in runs]
    assert sorted(codes) in ([0, 75], [0, 0])  # the second may come when the first has just ended
    as_undisturbed(toy, reference)
    assert sorted((toy.path / "log").read_text().split()) == sorted(STAGES), "a stage ran twice"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for the project and not much more."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.name != "posix" or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("mounting a small tmpfs takes root")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_ends_the_run_and_loses_nothing(
    fresh: Callable[[int], Any], reference: Any, small_disk: Path, all_gone: Callable[[Path], None]
) -> None:
    made = fresh(0)
    shutil.copytree(made.path, small_disk / "toy")
    toy = type(made)(small_disk / "toy", made.environment)
    run = toy.start("repro", "--jobs", "2", "--retry-seconds", "0.1")
    log = toy.path / "log"
    while run.poll() is None and not (log.exists() and len(log.read_text().split()) >= 3):
        time.sleep(0.01)
    # Something else fills the disk: from here on neither the stages nor DVC's own records can be written.
    subprocess.run("cat /dev/zero > filler", shell=True, cwd=toy.path, stderr=subprocess.DEVNULL, check=False)
    assert run.wait(180) != 0
    all_gone(toy.path)
    (toy.path / "filler").unlink()
    again = toy.transferscope("repro", "--jobs", "2")
    assert again.returncode == 0, again.stderr
    as_undisturbed(toy, reference)
