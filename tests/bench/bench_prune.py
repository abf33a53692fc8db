"""python tests/bench/bench_prune.py

Feature mapping at 100,000 x 256 source features, 1,000 groups and 10,000 target images, each way in a process of its
own (Linux): ours from memory and from a file, the definition as a numpy loop, and faiss's exact search over the means.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import faiss
import numpy as np

from stages.prune import Rows, feature_mapping

N, D, T, GROUPS = 100_000, 256, 10_000, 1_000
WAYS = ("ours", "ours_from_file", "faiss_flat", "numpy_loop")


def votes_of(way: str, source: np.ndarray, groups: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the votes of every group by one of the ways."""
    if way.startswith("ours"):
        return feature_mapping(Rows(source, np.arange(N)) if way == "ours_from_file" else source, groups, target).scores
    means = np.stack([source[groups == group].mean(axis=0, dtype=np.float64) for group in range(GROUPS)])
    if way == "faiss_flat":
        index = faiss.IndexFlatL2(D)
        index.add(means.astype(np.float32))
        nearest = index.search(target, 1)[1][:, 0]
    else:
        nearest = np.array([np.square(image - means).sum(axis=1).argmin() for image in target])
    return np.bincount(nearest, minlength=GROUPS)


def run(way: str, folder: Path) -> dict[str, float | str]:
    """Map, and return the best seconds of three (of one for the loop), memory above the inputs', and a sum over votes."""
    groups, target = np.load(folder / "groups.npy"), np.load(folder / "target.npy")
    mapped = np.load(folder / "source.npy", mmap_mode="r")
    source = mapped if way == "ours_from_file" else np.array(mapped)
    before = resident_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    seconds = []
    for _ in range(1 if way == "numpy_loop" else 3):
        started = time.perf_counter()
        votes = votes_of(way, source, groups, target)
        seconds.append(time.perf_counter() - started)
    peak = resident_mib("VmHWM") - before
    return {"way": way, "seconds": min(seconds), "peak_mib": peak, "votes": int((votes * np.arange(1, GROUPS + 1)).sum())}


def resident_mib(field: str) -> float:
    """Return the resident memory now (VmRSS) or at its highest (VmHWM), in MiB; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def main() -> None:
    """Make the inputs, run every way in turn and print seconds, ratios to ours and peak memory."""
    stream = np.random.default_rng(0)
    with TemporaryDirectory() as name:
        folder = Path(name)
        groups = stream.integers(0, GROUPS, N)
        centres = stream.normal(size=(GROUPS, D)).astype(np.float32)
        np.save(folder / "groups.npy", groups)
        np.save(folder / "source.npy", centres[groups] + stream.normal(size=(N, D), scale=2).astype(np.float32))
        target = centres[stream.integers(0, GROUPS, T)] + stream.normal(size=(T, D), scale=2).astype(np.float32)
        np.save(folder / "target.npy", target)
        rows = []
        for way in WAYS:
            made = subprocess.run([sys.executable, __file__, way, name], capture_output=True, text=True, check=True)
            rows.append(json.loads(made.stdout))
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{platform.machine()}, {os.cpu_count()} cores, {threads} threads, numpy {np.__version__}")
    for row in rows:
        print(
            f"{row['way']:15} {row['seconds']:7.3f} s  x{row['seconds'] / rows[0]['seconds']:6.2f}"
            f"  {row['peak_mib']:6.0f} MiB more at the peak  votes {row['votes']}"
        )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(run(sys.argv[1], Path(sys.argv[2]))))
    else:
        main()
