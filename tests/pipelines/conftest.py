"""Small DVC projects with shell stages, the installed command line, and one Prefect server for all tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from pipelines import server

COMMANDS = Path(sys.executable).parent
Stages = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Toy:
    """A DVC project of its own, and the two command lines that work on it."""

    path: Path
    environment: dict[str, str]

    def dvc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run("dvc", *arguments)

    def transferscope(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run("transferscope", *arguments)

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start `transferscope` and return at once; its messages go to the file `said`."""
        with (self.path / "said").open("w") as said:
            return subprocess.Popen(
                [COMMANDS / "transferscope", *arguments], cwd=self.path, env=self.environment | variables,
                stdout=said, stderr=said, text=True,
            )  # fmt: skip

    def wait_for(self, name: str, seconds: float = 60) -> str:
        """Return the content of a file as soon as it has one."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            file = self.path / name
            if file.is_file() and file.read_text().endswith("\n"):
                return file.read_text()
            time.sleep(0.05)
        raise AssertionError(f"{name} did not appear; {(self.path / 'said').read_text()}")

    @property
    def lock(self) -> Any:
        return yaml.safe_load((self.path / "dvc.lock").read_text())

    def write(self, stages: Stages, **params: Any) -> None:
        (self.path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
        (self.path / "params.yaml").write_text(yaml.safe_dump({"x": 1, **params}))

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMANDS / program, *arguments], cwd=self.path, env=self.environment,
            capture_output=True, text=True, check=False, timeout=180,
        )  # fmt: skip


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's home of the test run: its database takes seconds to make."""
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="session")
def api(prefect_home: Path) -> Iterator[str]:
    """The URL of a Prefect server that records flows and schedules nothing."""
    before = dict(os.environ)
    os.environ["PREFECT_HOME"] = str(prefect_home)
    os.environ.pop("PREFECT_API_URL", None)
    with server.running(scheduler=False) as wait:
        url = wait()
        os.environ.clear()
        os.environ.update(before | {"PREFECT_API_URL": url})
        yield url
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def make_toy(tmp_path: Path, prefect_home: Path) -> Callable[..., Toy]:
    """Make a project folder with these stages; it has no server, so commands that need one start one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "DVC_"))}
    environment |= {"PREFECT_HOME": str(prefect_home), "COLUMNS": "300", "DVC_NO_ANALYTICS": "1"}

    def make(name: str, stages: Stages, **params: Any) -> Toy:
        toy = Toy(tmp_path / name, dict(environment))
        toy.path.mkdir()
        done = toy.dvc("init", "--no-scm", "-q")
        assert done.returncode == 0, done.stderr
        toy.write(stages, **params)
        return toy

    return make


@pytest.fixture
def make_served_toy(make_toy: Callable[..., Toy], api: str) -> Callable[..., Toy]:
    """As `make_toy`, with the test run's server, so that a flow costs no server start."""

    def make(name: str, stages: Stages, **params: Any) -> Toy:
        toy = make_toy(name, stages, **params)
        toy.environment["PREFECT_API_URL"] = api
        return toy

    return make


def processes_in(folder: Path) -> list[psutil.Process]:
    """Return the processes whose working directory is `folder`."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == folder and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


@pytest.fixture
def all_gone() -> Callable[[Path], None]:
    """Assert that soon no process works in a folder."""

    def check(folder: Path, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while processes_in(folder) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert [process.cmdline() for process in processes_in(folder)] == []

    return check
