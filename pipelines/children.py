"""Processes that must not outlive the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

_PARENT = "TRANSFERSCOPE_PARENT"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def start(module: str, *arguments: str, quiet: bool = False) -> subprocess.Popen[str]:
    """Start `python -m module arguments` in a process group of its own, its output (both streams) as lines of text.

    The folder of this Python comes first in its PATH: `python` in dvc.yaml is this Python, activated or not.

    Args:
        module: a module whose main calls `end_with_parent`.
        arguments: its command line.
        quiet: throw its output away.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", _PARENT: str(os.getpid())},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL if quiet else subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def end_with_parent() -> None:
    """On Linux, ask for SIGTERM when the process that called `start` dies, however it dies; call it in the child."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(os.environ.get(_PARENT, os.getppid())):  # it died before the line above
        os.kill(os.getpid(), signal.SIGTERM)


def end(process: subprocess.Popen[str], grace_seconds: float) -> None:
    """Ask a started process to end, wait, and kill its whole group where it does not."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(grace_seconds)
    except subprocess.TimeoutExpired:
        end_group(process)
        process.wait()


def end_group(process: subprocess.Popen[str]) -> None:
    """Kill what is left of the group of a started process."""
    with suppress(ProcessLookupError, PermissionError):  # nothing is left; macOS says so with the second
        os.killpg(process.pid, signal.SIGKILL)
