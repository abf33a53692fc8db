"""The edge of every DVC stage: one place that reads params, sets threads, holds the lock, keeps time and exits rightly."""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from stages import params
from stages.artifacts import atomic
from stages.errors import Problem, TryAgain, out_of_memory

TIMINGS = Path("data/timings")  # ignored by git and DVC: durations never enter an artifact
_PR_SET_PDEATHSIG = 1  # linux/prctl.h

Body = Callable[[params.Params, str], None]


def run(stage: str, body: Body, *, item: str | None = None, argv: list[str] | None = None) -> None:
    """Run a stage's body and exit: 0 fine, 2 the input is wrong, 75 try again later, 1 a bug.

    Args:
        stage: the DVC stage's name.
        body: called with the params and the item's name ("" where the stage has no items).
        item: the command line option that names the item, for instance "dataset" for `--dataset digits`.
        argv: the arguments, `sys.argv[1:]` by default.
    """
    parser = argparse.ArgumentParser(prog=f"python -m stages.{stage}", description=f"DVC entry of stage {stage!r}.")
    if item:
        parser.add_argument(f"--{item}", required=True, dest="item")
    name = str(getattr(parser.parse_args(argv), "item", ""))
    sys.exit(execute(stage, body, name))


def execute(stage: str, body: Body, name: str = "") -> int:
    """Run a stage's body under its lock and return the exit code; messages go to standard error."""
    label = f"{stage}@{name}" if name else stage
    die_with_parent()
    started = time.perf_counter()
    try:
        settings = params.load()
        limit_threads(settings.run.threads)
        with atomic.lock(Path("stage") / label):
            body(settings, name)
    except Problem as problem:
        print(f"{label}: {problem}", file=sys.stderr)
        return problem.exit_code
    except Exception as error:
        if out_of_memory(error):
            said = (str(error).strip() or "no more is known").splitlines()[0]
            next_step = "free some memory or lower a batch size in params.yaml, then `dvc repro`"
            print(f"{label}: {TryAgain(f'out of memory ({said})', next_step=next_step)}", file=sys.stderr)
            return TryAgain.exit_code
        traceback.print_exc()
        return 1
    _keep_time(label, time.perf_counter() - started)
    return 0


def _keep_time(label: str, seconds: float) -> None:
    memory = psutil.Process().memory_info()
    peak = getattr(memory, "peak_wset", None) or _peak_rss()
    TIMINGS.mkdir(parents=True, exist_ok=True)
    line = {"stage": label, "seconds": round(seconds, 3), "peak_mib": round(peak / 2**20, 1)}
    (TIMINGS / f"{label}.json").write_text(json.dumps(line) + "\n", encoding="utf-8")


def keep_rate(stage: str, facts: dict[str, Any]) -> None:
    """Add one line to `data/timings/<stage>.jsonl`, with the time of day, for comparison with other runs."""
    TIMINGS.mkdir(parents=True, exist_ok=True)
    line = {"at": datetime.now(UTC).isoformat(timespec="seconds"), **facts}
    with (TIMINGS / f"{stage}.jsonl").open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(line) + "\n")


def _peak_rss() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def limit_threads(threads: int) -> None:
    """Give BLAS and torch the same number of threads everywhere: the order of their sums depends on it."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[variable] = str(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic cuBLAS
    if "numpy" in sys.modules:  # its BLAS has read the environment already
        import threadpoolctl

        threadpoolctl.threadpool_limits(threads)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)
        if torch.cuda.is_available():  # on the CPU the number of threads decides alone
            torch.use_deterministic_algorithms(mode=True, warn_only=True)


def die_with_parent() -> None:
    """On Linux, ask to be killed when the DVC that started this stage dies, so that no orphan goes on writing."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(TryAgain.exit_code)
