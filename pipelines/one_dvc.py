"""DVC's command line in processes that leave nothing behind: `python -m pipelines.one_dvc SOCKET`.

Importing DVC costs more than most stages' bookkeeping. So this process imports it once and runs each command that it is
asked for in a fork of itself; `pipelines.forks` asks. DVC survives the death of whoever started it, and its stage
survives DVC: a fork that is asked to end, or whose parent dies, kills its stage and lets DVC put its books in order
(DVC rewrites dvc.lock in place), and what a dead fork has left of its process group is killed.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
from types import FrameType
from typing import Any

from pipelines.children import end_group, end_with_parent

LOOK_AGAIN_SECONDS = 0.2  # a stage that starts after the signal is found this late
LONGEST_REQUEST = 65536  # bytes: a command and a few variables
MOST_HANDLES = 8


def main(control: socket.socket) -> None:
    """Fork one DVC for each request until the other side closes the socket; then end them all.

    A request is one JSON line and its handles: the command's output, where to write its exit code, and any that the fork
    keeps open while it lives. The answer is the fork's process id.
    """
    _import_all_of_dvc()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    verdicts: dict[int, int] = {}  # of each fork: where to write its exit code
    listening = True
    while listening or verdicts:
        ready, _, _ = select.select([woken, control.fileno()] if listening else [woken], [], [])
        if woken in ready:
            os.read(woken, LONGEST_REQUEST)
            _reap(verdicts)
        if not listening or control.fileno() not in ready:
            continue
        message, handles, _, _ = socket.recv_fds(control, LONGEST_REQUEST, MOST_HANDLES)
        if not message:
            listening = False
            for pid in verdicts:
                os.kill(pid, signal.SIGTERM)
            continue
        output, verdict, *kept = handles
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            for handle in (woken, wake, control.detach(), *verdicts.values()):
                os.close(handle)
            _run(json.loads(message), output, parent)
        verdicts[pid] = verdict
        for handle in (output, *kept):
            os.close(handle)
        control.sendall(f"{pid}\n".encode())


def _run(request: dict[str, Any], output: int, parent: int) -> None:
    """Be the fork: run the command and exit with DVC's exit code (0, or 250 to 255)."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, _stop)
        signal.signal(signal.SIGALRM, _stop)
        os.setsid()
        end_with_parent(parent)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        os.environ.update(request["environment"])
        from dvc.cli import main as dvc

        code = int(dvc(["--wait-for-lock", *request["command"]]))
    except BaseException:  # whatever happens, this fork never goes on as its parent
        traceback.print_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        with contextlib.suppress(OSError):  # nobody reads any more
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _reap(verdicts: dict[int, int]) -> None:
    for pid in list(verdicts):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            end_group(pid)
            with contextlib.suppress(BrokenPipeError):
                os.write(verdicts[pid], str(os.waitstatus_to_exitcode(status)).encode())
            os.close(verdicts.pop(pid))


def _stop(_signal: int, _frame: FrameType | None) -> None:
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    signal.setitimer(signal.ITIMER_REAL, LOOK_AGAIN_SECONDS)


def _import_all_of_dvc() -> None:
    """Import what `dvc repro` imports on its way, which it does piece by piece."""
    import dvc.cli.parser
    import dvc.repo.reproduce
    import dvc.stage.cache
    import dvc.stage.run  # noqa: F401

    gc.freeze()  # the forks share these pages as long as no collection touches them


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
