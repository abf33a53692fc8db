"""`dvc repro --single-item STAGE` as a process that leaves nothing behind: `python -m pipelines.one_stage STAGE`.

DVC survives the death of whoever started it, and its stage survives DVC. This process runs DVC's own command line and,
when it is asked to end or its parent dies, kills the stage and lets DVC put its books in order: dvc.lock is rewritten
in place, so DVC itself must not be killed while it writes.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

from pipelines.children import end_with_parent

LOOK_AGAIN_SECONDS = 0.2  # a stage that starts after the signal is found this late


def main(stage: str) -> int:
    """Run one stage through DVC and return DVC's exit code (0, or 250 to 255)."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGALRM, _stop)
    end_with_parent()
    from dvc.cli import main as dvc

    code = int(dvc(["--wait-for-lock", "repro", "--single-item", "--", stage]))
    signal.setitimer(signal.ITIMER_REAL, 0)
    return code


def _stop(_signal: int, _frame: FrameType | None) -> None:
    import psutil

    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    signal.setitimer(signal.ITIMER_REAL, LOOK_AGAIN_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
