"""The project folder that a command works in: found, prepared for Prefect, and held by one run at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.artifacts import atomic
from stages.errors import InputProblem, TryAgain

MARKS = ("dvc.yaml", "params.yaml")
REPORT = Path("data/reports/index.html")
PREFECT_HOME = Path("data/prefect")  # Prefect's own database; nothing is written into the user's home


def require() -> None:
    """Check that the working directory is a project folder.

    Raises:
        InputProblem: it is not; the message names the project folder above it, if there is one.
    """
    here = Path.cwd()
    if _is_project(here):
        return
    above = next((folder for folder in here.parents if _is_project(folder)), None)
    raise InputProblem(
        f"there is no {' and '.join(MARKS)} here",
        where=str(here),
        next_step=f"cd {above}" if above else "change to the project's folder, the one with dvc.yaml and params.yaml",
    )


def _is_project(folder: Path) -> bool:
    return all((folder / mark).is_file() for mark in MARKS)


def prepare_prefect(log_level: str) -> None:
    """Set what Prefect reads when it is imported: its home, how much it says, and that it tells nobody else.

    Call it before importing Prefect. What the user has set wins, `PREFECT_API_URL` above all: with it that server
    records the runs.
    """
    os.environ.setdefault("PREFECT_HOME", str(PREFECT_HOME.absolute()))
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", log_level)
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")


@contextmanager
def one_run() -> Iterator[None]:
    """Hold the project's one run, so that two never overlap, with or without a Prefect server.

    Raises:
        TryAgain: another process holds it.
    """
    try:
        with atomic.lock(Path("run")):
            yield
    except TryAgain as problem:
        if problem.where != "run":
            raise
        raise TryAgain(
            "another run of this project is under way", where=str(Path.cwd()), next_step="wait for it, then run again"
        ) from None
