"""python tests/bench/bench_prune_large.py [rows]

A source of ImageNet's size on disk: 1,280,000 features of 512 dimensions (2.6 GB of float32), 1,000 classes, 50,000 target
images. Class means and votes in one streamed pass against a plain read of the file; k-means with 2,000 clusters against
scikit-learn's MiniBatchKMeans. Every way runs in a process of its own (Linux); the scratch files are deleted at the end.
`rows`, or PRUNE_BENCH_ROWS, makes the source smaller. At full size: 6 GB of disk, 4 GB of memory for the ways that hold the
file, and ten minutes or so on two idle cores, most of them MiniBatchKMeans's.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

D, TARGETS, CLASSES, CLUSTERS = 512, 50_000, 1_000, 2_000
STEP = 16_384  # rows written, or read plainly, at once
Result = dict[str, float]


def make(folder: Path, rows: int) -> None:
    """Write source.npy, groups.npy and target.npy: overlapping classes that each have several centres."""
    stream = np.random.default_rng(0)
    centres = stream.normal(size=(5 * CLASSES, D), scale=0.6).astype(np.float32)
    source = np.lib.format.open_memmap(folder / "source.npy", mode="w+", dtype=np.float32, shape=(rows, D))
    groups = np.empty(rows, dtype=np.int64)
    for start in range(0, rows, STEP):
        chosen = slice(start, min(start + STEP, rows))
        centre = stream.integers(0, len(centres), chosen.stop - start)
        source[chosen] = centres[centre] + stream.standard_normal((chosen.stop - start, D), dtype=np.float32)
        groups[chosen] = centre % CLASSES
    source.flush()
    np.save(folder / "groups.npy", groups)
    near = stream.integers(0, len(centres) // 4, TARGETS)
    np.save(folder / "target.npy", centres[near] + stream.standard_normal((TARGETS, D), dtype=np.float32))


def forget(path: Path) -> None:
    """Drop a file from the system's cache."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
        os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def plain_read(folder: Path) -> Result:
    """Read the file once, into one buffer."""
    buffer = memoryview(np.empty((STEP, D), dtype=np.float32)).cast("B")
    started = time.perf_counter()
    with (folder / "source.npy").open("rb", buffering=0) as handle:
        while handle.readinto(buffer):
            pass
    return {"seconds": time.perf_counter() - started}


def streamed(folder: Path) -> Result:
    """Means and votes as the pipeline computes them, the source read from disk block by block."""
    from stages.prune import Rows
    from stages.prune.by_feature import feature_mapping, group_means, nearest_mean

    groups, target = np.load(folder / "groups.npy"), np.load(folder / "target.npy")
    mapped = np.load(folder / "source.npy", mmap_mode="r")
    source = Rows(mapped, np.arange(len(groups)))
    started = time.perf_counter()
    means, _ = group_means(source, groups, CLASSES)
    means_done = time.perf_counter()
    votes = np.bincount(nearest_mean(target, means), minlength=CLASSES)
    ended = time.perf_counter()
    assert (votes == feature_mapping(source, groups, target).scores).all()
    return {"seconds": ended - started, "means_seconds": means_done - started, "check": checksum(votes)}


def in_memory(folder: Path) -> Result:
    """The obvious program: load everything, one mask a class, one matrix of distances a thousand images."""
    groups, target = np.load(folder / "groups.npy"), np.load(folder / "target.npy")
    started = time.perf_counter()
    source = np.load(folder / "source.npy")
    means = np.stack([source[groups == group].mean(axis=0) for group in range(CLASSES)])
    squares = np.square(means).sum(axis=1)
    nearest = [(squares - 2 * target[start : start + 1000] @ means.T).argmin(axis=1) for start in range(0, TARGETS, 1000)]
    votes = np.bincount(np.concatenate(nearest), minlength=CLASSES)
    return {"seconds": time.perf_counter() - started, "check": checksum(votes)}


def kmeans(folder: Path) -> Result:
    """Cluster as the pipeline does: faiss on a sample, then the nearest centroid of every row, streamed."""
    from stages.prune import Rows
    from stages.prune.by_cluster import kmeans_clusters

    mapped = np.load(folder / "source.npy", mmap_mode="r")
    source = Rows(mapped, np.arange(len(mapped)))
    started = time.perf_counter()
    clusters = kmeans_clusters(source, CLUSTERS, seed=0)
    return {"seconds": time.perf_counter() - started, **quality(mapped, clusters)}


def mini_batch(folder: Path) -> Result:
    """Cluster by scikit-learn's MiniBatchKMeans as it comes, over the file in memory."""
    from sklearn.cluster import MiniBatchKMeans

    source = np.load(folder / "source.npy")
    started = time.perf_counter()
    clusters = MiniBatchKMeans(CLUSTERS, random_state=0).fit(source).labels_
    return {"seconds": time.perf_counter() - started, **quality(source, clusters)}


def quality(source: np.ndarray, clusters: np.ndarray) -> Result:
    """Return the inertia: the mean squared distance of a row to its cluster's mean; and how many clusters have rows."""
    from stages.prune.by_feature import group_means

    means, counts = group_means(source, clusters, int(clusters.max()) + 1)
    total = sum(
        float(np.square(source[start : start + STEP] - means[clusters[start : start + STEP]]).sum())
        for start in range(0, len(source), STEP)
    )
    return {"inertia": total / len(source), "clusters": int((counts > 0).sum())}


def checksum(votes: np.ndarray) -> int:
    """Return a number that changes with any vote."""
    return int((votes * np.arange(1, len(votes) + 1)).sum())


WAYS = {way.__name__: way for way in (plain_read, streamed, in_memory, kmeans, mini_batch)}


def child(way: str, folder: Path, *, cold: bool = False) -> Result:
    """Run one way in a process of its own, which also says how much memory it had at most, imports and all."""
    if cold:
        forget(folder / "source.npy")
    made = subprocess.run([sys.executable, __file__, "--way", way, str(folder)], stdout=subprocess.PIPE, text=True, check=True)
    result: Result = json.loads(made.stdout)
    return result


def main() -> None:
    """Make the source, run every way and print seconds, GB/s, ratios and peak memory."""
    rows = int(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("PRUNE_BENCH_ROWS", "1280000"))
    size = rows * D * 4
    with TemporaryDirectory() as name:
        if shutil.disk_usage(name).free < size + 2**30:
            sys.exit(f"{name} has no room for {size / 1e9:.1f} GB; set TMPDIR, or give fewer rows")
        folder = Path(name)
        # Not here: a child's peak memory begins at that of the process that starts it.
        subprocess.run([sys.executable, __file__, "--make", str(rows), name], check=True)
        threads = os.environ.get("OMP_NUM_THREADS", "all")
        print(f"{platform.machine()}, {os.cpu_count()} cores, {threads} threads; {rows:,} x {D}, {size / 1e9:.2f} GB")
        for cold in (True, False):
            base = child("plain_read", folder, cold=cold)
            for way in ("plain_read", "streamed", "in_memory"):
                row = base if way == "plain_read" else child(way, folder, cold=cold)
                print(
                    f"{'cold' if cold else 'cached'} {way:11} {row['seconds']:7.2f} s  {size / 1e9 / row['seconds']:6.2f} GB/s"
                    f"  x{row['seconds'] / base['seconds']:6.2f}  peak {row['peak_mib']:6.0f} MiB"
                    + (f"  votes {row['check']}" if "check" in row else "")
                    + (f"  (means {size / 1e9 / row['means_seconds']:.2f} GB/s)" if "means_seconds" in row else ""),
                    flush=True,
                )
        ours: Result = {}
        for way, body in (("ours (faiss)", "kmeans"), ("MiniBatchKMeans", "mini_batch")):
            row = child(body, folder)
            ours = ours or row
            print(
                f"k-means {CLUSTERS}: {way:15} {row['seconds']:7.1f} s  x{row['seconds'] / ours['seconds']:5.2f}"
                f"  inertia {row['inertia']:.3f}  x{row['inertia'] / ours['inertia']:.4f}  {row['clusters']} clusters"
                f"  peak {row['peak_mib']:.0f} MiB",
                flush=True,
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make(Path(sys.argv[3]), int(sys.argv[2]))
    elif sys.argv[1:2] == ["--way"]:
        result = WAYS[sys.argv[2]](Path(sys.argv[3]))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({**result, "peak_mib": peak}))
    else:
        main()
