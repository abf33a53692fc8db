"""What README and docs/operating.md say of a remote and of CI, run on a small project with real DVC."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STAGES = {
    "one": {"cmd": "echo one >> log; cp raw one.txt", "deps": ["raw"], "outs": ["one.txt"]},
    "two": {"cmd": "echo two >> log; mkdir two; cp one.txt two/a", "deps": ["one.txt"], "outs": ["two"]},
}


def test_a_remote_gives_everything_back(make_toy: Callable[..., Any], tmp_path: Path) -> None:
    toy = make_toy("toy", STAGES)
    (toy.path / "raw").write_text("raw\n")
    assert toy.dvc("add", "raw").returncode == 0
    assert toy.dvc("repro").returncode == 0
    (command,) = {line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("dvc remote add")}
    storage = tmp_path / "storage"
    assert toy.dvc(*command.split("#")[0].split()[1:-1], str(storage)).returncode == 0
    assert toy.dvc("push", "--run-cache").returncode == 0
    for path in (".dvc/cache", "raw", "one.txt", "two", "log"):
        shutil.rmtree(toy.path / path) if (toy.path / path).is_dir() else (toy.path / path).unlink()
    done = toy.dvc("pull", "--run-cache", "--allow-missing")
    assert done.returncode == 0, done.stderr
    assert toy.transferscope("repro").stderr == "3 stages, all up to date\n"
    assert not (toy.path / "log").exists(), "a stage ran"
    assert (toy.path / "two" / "a").read_text() == "raw\n"
    # On a machine that has never run it there is no dvc.lock either: the run cache has the results.
    (toy.path / "dvc.lock").unlink()
    assert toy.dvc("repro").returncode == 0
    assert not (toy.path / "log").exists(), "a stage ran"


def current(toy: Any) -> int:
    return subprocess.run([ROOT / ".ci" / "current"], cwd=toy.path, env=toy.environment, check=False).returncode


def test_ci_sees_that_a_stage_would_run(make_toy: Callable[..., Any]) -> None:
    toy = make_toy("toy", STAGES)
    (toy.path / "raw").write_text("raw\n")
    assert current(toy) == 1
    assert toy.dvc("repro").returncode == 0
    assert current(toy) == 0
    shutil.rmtree(toy.path / "two")
    assert current(toy) == 0, "files that are not here are no change"
    toy.write({**STAGES, "two": STAGES["two"] | {"cmd": "mkdir two; cp one.txt two/b"}})
    assert current(toy) == 1
    toy.write(STAGES)
    assert current(toy) == 0
    (toy.path / "raw").write_text("other\n")
    assert current(toy) == 1
