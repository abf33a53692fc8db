"""python tests/bench/bench_rank.py [--rows 2000] [--dims 512] [--classes 10]

Every metric alone, and all of them on shared statistics, against LogME by a plain SVD and TMI by SciPy's k-d tree, in one
run: seconds (best of three), their ratio, and the peak memory each adds to the features, measured in a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import digamma

from stages.rank import METRICS, Statistics

REPEATS = 3
LOGME, TMI = "LogME by SVD", "TMI by k-d tree"
ALL = "all metrics, shared"


def logme_by_svd(features: NDArray, labels: NDArray, _: NDArray) -> float:
    """The paper's fixed point on the singular value decomposition, with the number of singular values before ln alpha."""
    left, singular, _ = np.linalg.svd(features.astype(np.float64), full_matrices=False)
    n, squares, values = len(features), singular**2, []
    for label in np.unique(labels):
        y = (labels == label).astype(np.float64)
        z2 = (left.T @ y) ** 2
        outside, ratio = max(float(y @ y - z2.sum()), 0.0), 1.0
        for _ in range(10_000):
            gamma = float((squares / (squares + ratio)).sum())
            weights = float((squares * z2 / (squares + ratio) ** 2).sum())
            residual = float((z2 * (ratio / (squares + ratio)) ** 2).sum()) + outside
            alpha, beta, last = gamma / weights, (n - gamma) / residual, ratio
            ratio = alpha / beta
            if abs(ratio - last) < 1e-9 * last:
                break
        evidence = len(squares) * np.log(alpha) + n * np.log(beta / (2 * np.pi)) - np.log(alpha + beta * squares).sum()
        values.append((evidence - beta * residual - alpha * weights) / 2 / n)
    return float(np.mean(values))


def tmi_by_tree(features: NDArray, labels: NDArray, _: NDArray) -> float:
    """TMI with SciPy's k-d tree."""
    n, d = features.shape
    terms = []
    for label in np.unique(labels):
        group = features[labels == label].astype(np.float64)
        distances = cKDTree(group).query(group, k=4, p=np.inf)[0][:, 3]
        terms.append(len(group) / n * (digamma(len(group)) - digamma(3) + d * np.log(2 * np.maximum(distances, 1)).mean()))
    return float(np.mean(terms))


def everything(features: NDArray, labels: NDArray, probabilities: NDArray) -> float:
    """Score with all metrics as the entry does; the values are compared one by one elsewhere."""
    statistics = Statistics(features, labels, probabilities)
    for name in METRICS:
        METRICS[name].rows(name, statistics)
    return float("nan")


def ways() -> dict[str, Callable[[NDArray, NDArray, NDArray], float | None]]:
    """Return what is measured by name: the alternatives first."""
    metrics = {name: (lambda x, y, p, name=name: METRICS[name](x, y, p).value) for name in METRICS}
    return {LOGME: logme_by_svd, TMI: tmi_by_tree, **metrics, ALL: everything}


def measure(name: str, rows: int, dims: int, classes: int, result: Any) -> None:
    """Send (seconds, added peak MiB, value) of one way."""
    stream = np.random.default_rng(0)
    labels = stream.integers(0, classes, rows)
    means = (0.15 * stream.normal(size=(classes, dims))).astype(np.float32)
    features = stream.standard_normal((rows, dims), dtype=np.float32)
    for row, label in zip(features, labels, strict=True):  # in place, so that the peak before is the features themselves
        row += means[label]
        row *= 3
    probabilities = stream.dirichlet(np.ones(classes), rows).astype(np.float32)
    way = ways()[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, value = [], None
    for _ in range(REPEATS):
        started = time.perf_counter()
        value = way(features, labels, probabilities)
        seconds.append(time.perf_counter() - started)
    kib = 1024 if sys.platform == "darwin" else 1
    result.send((min(seconds), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / kib / 1024, value))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("rows", 2000), ("dims", 512), ("classes", 10)):
        parser.add_argument(f"--{option}", type=int, default=default)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    found: dict[str, tuple[float, float, float | None]] = {}
    for name in ways():
        receive, send = context.Pipe(duplex=False)
        process = context.Process(target=measure, args=(name, options.rows, options.dims, options.classes, send))
        process.start()
        send.close()
        found[name] = receive.recv()
        process.join()
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{platform.machine()}, {os.cpu_count()} cores, {threads} threads, numpy {np.__version__}, scipy {scipy.__version__}")
    print(f"n = {options.rows}, d = {options.dims}, {options.classes} classes")
    print(f"{'':22} {'seconds':>9} {'MiB more':>9} {'value':>14}   times faster than")
    for name, (seconds, mib, value) in found.items():
        against = [f"{other} {found[other][0] / seconds:.1f}" for other in (LOGME, TMI) if other.split()[0].lower() in name]
        shown = f"{LOGME} {found[LOGME][0] / seconds:.2f}" if name == ALL else ", ".join(against)
        number = "" if value is None or np.isnan(value) else f"{value:14.8f}"
        print(f"{name:22} {seconds:9.4f} {mib:9.0f} {number:>14}   {shown}")


if __name__ == "__main__":
    main()
