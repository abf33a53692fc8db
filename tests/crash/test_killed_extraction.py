"""An extraction killed half way: nothing partial is visible, the next run goes on from the last shard, to the same bytes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from stages import ingest, params, weights

ROOT = Path(__file__).resolve().parents[2]
SHARD_IMAGES = 64
ENCODER = {
    "arch": "test_vit", "arch_args": {"in_chans": 1, "img_size": 64}, "weights": "random", "input_size": 64,
    "layers": ["pooled", "blocks.3"],
}  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def shards(project: Path) -> list[Path]:
    return sorted((project / "data" / "store" / "features").glob("*/*/0*"))


def test_kill_and_resume(
    project: Path, write_params: Callable[..., Path], run_stage: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    write_params(run={"threads": 1}, encoders={"vit": ENCODER}, extract={"batch_size": 32, "shard_images": SHARD_IMAGES})
    ingest.main(params.load(), "digits")
    weights.main(params.load(), "vit")
    arguments = [sys.executable, "-m", "stages.extract", "--encoder", "vit"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    with subprocess.Popen(arguments, cwd=project, env=environment, stderr=subprocess.PIPE) as running:
        deadline = time.monotonic() + 180
        while len(shards(project)) < 3 and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        running.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL, running.stderr.read() if running.stderr else ""
    assert not (project / "data" / "features").exists()
    finished = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for shard in shards(project) for path in shard.iterdir()}
    total = -(-1797 // SHARD_IMAGES)
    assert 3 * 2 <= len(finished) < total * 2  # two layers a shard

    # The second run is killed as well, so that its reuse of the shards can be seen before they are joined.
    with subprocess.Popen(arguments, cwd=project, env=environment, stderr=subprocess.PIPE) as running:
        known = len(shards(project))
        while len(shards(project)) <= known and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        running.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL, running.stderr.read() if running.stderr else ""
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in finished} == finished
    assert not (project / "data" / "features").exists()

    ended = run_stage("extract", "--encoder", "vit")
    assert ended.returncode == 0, ended.stderr
    assert shards(project) == []
    resumed = contents(project / "data" / "features")
    assert sorted(resumed) == [
        f"vit/digits/{name}" for name in ("blocks.3.npy", "index.parquet", "manifest.json", "pooled.npy")
    ]

    shutil.rmtree(project / "data" / "features")
    shutil.rmtree(project / "data" / "store")
    assert run_stage("extract", "--encoder", "vit").returncode == 0
    assert contents(project / "data" / "features") == resumed
