"""Processes that must not outlive the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_PARENT = "TRANSFERSCOPE_PARENT"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def start(module: str, *arguments: str, handles: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Start `python -m module arguments` in a process group of its own, and throw its output away.

    The folder of this Python comes first in its PATH: `python` in dvc.yaml is this Python, activated or not.

    Args:
        module: a module whose main calls `end_with_parent`.
        arguments: its command line.
        handles: file descriptors that it inherits.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", _PARENT: str(os.getpid())},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=handles,
        start_new_session=True,
    )


def end_with_parent(parent: int | None = None) -> None:
    """On Linux, ask for SIGTERM when the parent dies, however it dies.

    Args:
        parent: the process id of the one that forked this process; None where it came from `start`.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != (parent or int(os.environ.get(_PARENT, os.getppid()))):  # it died before the line above
        os.kill(os.getpid(), signal.SIGTERM)


def end(process: subprocess.Popen[bytes], grace_seconds: float) -> None:
    """Ask a started process to end, wait, and kill its whole group where it does not."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(grace_seconds)
    except subprocess.TimeoutExpired:
        end_group(process.pid)
        process.wait()


def end_group(pid: int) -> None:
    """Kill what is left of the process group that a process leads or led."""
    with suppress(ProcessLookupError, PermissionError):  # nothing is left; macOS says so with the second
        os.killpg(pid, signal.SIGKILL)
