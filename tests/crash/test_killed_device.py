"""One of several extracting processes is killed: the run ends with a message, no process is left, a rerun goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from stages import extract, ingest, params, weights

ROOT = Path(__file__).resolve().parents[2]
ENCODER = {"arch": "test_vit", "arch_args": {"in_chans": 1, "img_size": 64}, "weights": "random", "input_size": 64}
EXTRACT = {"batch_size": 32, "shard_images": 64}


def shards(project: Path) -> list[Path]:
    return sorted((project / "data" / "store" / "features").glob("*/*/0*"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process that its parent has died")
@pytest.mark.parametrize("victim", ["worker", "parent"])
def test_a_killed_process_ends_all_and_loses_nothing(project: Path, write_params: Callable[..., Path], victim: str) -> None:
    write_params(run={"threads": 1}, encoders={"vit": ENCODER}, extract={**EXTRACT, "devices": ["cpu", "cpu"]})
    ingest.main(params.load(), "digits")
    weights.main(params.load(), "vit")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-m", "stages.extract", "--encoder", "vit"]
    with subprocess.Popen(arguments, cwd=project, env=environment, stderr=subprocess.PIPE, text=True) as running:
        deadline = time.monotonic() + 240
        while len(shards(project)) < 3 and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        workers = [child for child in psutil.Process(running.pid).children() if "spawn_main" in " ".join(child.cmdline())]
        assert len(workers) == 2
        (workers[0] if victim == "worker" else psutil.Process(running.pid)).send_signal(signal.SIGKILL)
        said = running.communicate()[1]
    if victim == "worker":
        assert running.returncode == 75, said
        assert f"the process on cpu (process {workers[0].pid}) died with exit code -9" in said
        assert "goes on from them" in said
    assert psutil.wait_procs(workers, timeout=20)[1] == []
    assert not (project / "data" / "features").exists()
    assert 3 <= len(shards(project)) < -(-1797 // EXTRACT["shard_images"])
    if victim == "parent":
        return
    rest = {**EXTRACT, "devices": "auto"}  # by one process, whatever has been begun by two
    write_params(run={"threads": 1}, encoders={"vit": ENCODER}, extract=rest)
    pooled = project / "data" / "features" / "vit" / "digits" / "pooled.npy"
    extract.main(params.load(), "vit")
    assert not shards(project)
    resumed = pooled.read_bytes()
    for folder in ("features", "store"):
        shutil.rmtree(project / "data" / folder)
    extract.main(params.load(), "vit")
    assert pooled.read_bytes() == resumed
