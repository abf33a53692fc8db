"""python tests/bench/bench_probe_streamed.py [--rows 1000000] [--dims 768] [--folder DIR]

Both heads on a memory-mapped file of float32 features that nobody wants in memory: 1,000,000 x 768 takes 3.1 GB of
disk in DIR, and is removed at the end. Prints GB/s of naive Bayes' one pass beside a plain read of the file, with the
file in the system's cache and without, scikit-learn's GaussianNB.partial_fit over the same blocks, then the logistic
head's passes, its estimated distance to the optimum and the true one against a fit continued until it is a thousand
times closer. Every part runs in a process of its own, whose peak memory is printed; the limit is 2 GiB.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from probe_features import BLOCK, blocks
from sklearn.naive_bayes import GaussianNB

from stages.probe import LogisticProbe, SharedVarianceGaussianNB

CHUNK = 2**24  # bytes of a plain read
GIB = 2**30


def write(folder: Path, rows: int, dims: int, classes: int) -> None:
    """Write x.npy and y.npy, block by block."""
    x = np.lib.format.open_memmap(folder / "x.npy", mode="w+", dtype=np.float32, shape=(rows, dims))
    labels, at = np.empty(rows, np.int64), 0
    for block, y in blocks(rows, dims, classes, 0):
        x[at : at + len(block)], labels[at : at + len(block)] = block, y
        at += len(block)
    x.flush()
    np.save(folder / "y.npy", labels)


def forget(path: Path) -> None:
    """Ask the system to drop the file from its cache, where it can be asked."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def plain_read(folder: Path) -> str:
    """Read the file into one buffer again and again."""
    buffer = bytearray(CHUNK)
    with (folder / "x.npy").open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return ""


def naive_bayes(folder: Path) -> str:
    """Fit our naive Bayes on the memory map."""
    model = SharedVarianceGaussianNB().fit(np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "y.npy"))
    return f"mean variance {model.var_.mean():.6f}"


def gaussian_nb(folder: Path) -> str:
    """Fit scikit-learn's on blocks of the memory map."""
    x, y, model = np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "y.npy"), GaussianNB()
    for start in range(0, len(x), BLOCK):
        model.partial_fit(x[start : start + BLOCK], y[start : start + BLOCK], classes=np.unique(y))
    return f"mean variance {(model.class_prior_ @ model.var_).mean():.6f}"


def logistic(folder: Path) -> str:
    """Fit the logistic head on the memory map, then go on until it is a thousand times closer to the optimum."""
    x, y = np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "y.npy")
    started = time.perf_counter()
    model = LogisticProbe(tol=1e-5).fit_streamed(x, y)
    took = time.perf_counter() - started
    closer = LogisticProbe(tol=1e-8).fit_streamed(x, y, start=model)
    return (
        f"{model.n_iter_} passes over all rows, {took:.1f} s; estimated distance {model.distance_:.1e}, true "
        f"{model.loss_ - closer.loss_:.1e} nats against {closer.n_iter_} passes more ({closer.distance_:.1e})"
    )


def measure(part: Callable[[Path], str], folder: Path, result: Any) -> None:
    """Send (seconds, peak memory in bytes, what the part says)."""
    started = time.perf_counter()
    said = part(folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    result.send((time.perf_counter() - started, peak, said))


def run(name: str, part: Callable[[Path], str], folder: Path, *, cold: bool) -> None:
    """Measure a part in a process of its own and print its line."""
    context = multiprocessing.get_context("spawn")
    if cold:
        forget(folder / "x.npy")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=measure, args=(part, folder, send))
    process.start()
    seconds, peak, said = receive.recv()
    process.join()
    rate = (folder / "x.npy").stat().st_size / seconds / 1e9
    print(f"{name:44} {seconds:7.2f} s  {rate:6.2f} GB/s  peak {peak / GIB:.2f} GiB  {said}", flush=True)


def main() -> None:
    """Write the file, run every part, remove the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dims", type=int, default=768)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    needed = options.rows * (4 * options.dims + 8)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        free = shutil.disk_usage(folder).free
        if free < 1.2 * needed:
            sys.exit(f"{folder} has {free / 1e9:.1f} GB free, {1.2 * needed / 1e9:.1f} GB are needed: name another --folder")
        started = time.perf_counter()
        write(folder, options.rows, options.dims, options.classes)
        print(
            f"{options.rows} x {options.dims} float32, {needed / 1e9:.1f} GB, "
            f"written in {time.perf_counter() - started:.0f} s; "
            f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
            f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}"
        )
        for cold, state in ((True, "not cached"), (False, "cached")):
            run(f"plain read, {state}", plain_read, folder, cold=cold)
            run(f"naive Bayes, {state}", naive_bayes, folder, cold=cold)
        run("scikit-learn GaussianNB.partial_fit, cached", gaussian_nb, folder, cold=False)
        run("logistic, both fits, cached", logistic, folder, cold=False)


if __name__ == "__main__":
    main()
