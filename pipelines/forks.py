"""Starts DVC commands as forks of one process that has DVC loaded (`pipelines.one_dvc`), and ends them."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TextIO

from pipelines import children


class Fork:
    """One running command: its process id, which is its process group's too, and the text that it writes."""

    def __init__(self, pid: int, output: int, verdict: int) -> None:
        self.pid = pid
        self.output: TextIO = open(output, encoding="utf-8", errors="replace")  # noqa: SIM115  # its reader closes it
        self._verdict = verdict
        self._reading = threading.Lock()
        self._code: int | None = None
        weakref.finalize(self, os.close, verdict)  # not before: several threads may wait on it

    def wait(self, seconds: float | None = None) -> int | None:
        """Return DVC's exit code, negative for the signal that killed it, or None where it still runs after `seconds`.

        When this returns a code, nothing of its process group is left.
        """
        if not select.select([self._verdict], [], [], seconds)[0]:
            return None
        with self._reading:
            if self._code is None:
                said = os.read(self._verdict, 16)
                if not said:  # the process that forked it was killed
                    children.end_group(self.pid)
                self._code = int(said) if said else -signal.SIGKILL
            return self._code

    def end(self, grace_seconds: float) -> None:
        """Ask it to end, and kill its group where it does not."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        if self.wait(grace_seconds) is None:
            children.end_group(self.pid)
            self.wait()


class Forks:
    """The process that forks, started when it is first needed and again where it was killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self, command: Sequence[str], environment: Mapping[str, str] | None = None, hold: Sequence[int] = ()) -> Fork:
        """Start a DVC command in a process group of its own.

        Args:
            command: its arguments, `repro` for instance and what follows.
            environment: variables to set for it.
            hold: file descriptors that the fork keeps open until it has ended, however it ends.
        """
        with self._lock:
            for attempt in (1, 2):
                control = self._connected()
                output, verdict = os.pipe(), os.pipe()
                request = json.dumps({"command": list(command), "environment": dict(environment or {})}) + "\n"
                try:
                    socket.send_fds(control, [request.encode()], [output[1], verdict[1], *hold])
                    answer = control.recv(32)
                except OSError:
                    answer = b""
                finally:
                    os.close(output[1])
                    os.close(verdict[1])
                if answer:
                    return Fork(int(answer), output[0], verdict[0])
                os.close(output[0])
                os.close(verdict[0])
                self._disconnect()
                if attempt == 2:
                    break
        raise RuntimeError("`python -m pipelines.one_dvc` ends as soon as it starts")

    def close(self) -> None:
        """End the process that forks, and with it every fork."""
        with self._lock:
            self._disconnect()

    def _connected(self) -> socket.socket:
        if self._control is None:
            self._control, theirs = socket.socketpair()
            with theirs:
                handle = theirs.fileno()
                self._process = children.start("pipelines.one_dvc", str(handle), handles=[handle])
        return self._control

    def _disconnect(self) -> None:
        if self._control is not None and self._process is not None:
            self._control.close()
            self._process.wait()
        self._control = self._process = None
