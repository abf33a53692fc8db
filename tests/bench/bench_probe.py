"""python tests/bench/bench_probe.py [--rows 10000] [--dims 1024] [--classes 10]

The heads against scikit-learn's own on the same features, in one run: seconds (best of three), their ratio, and the peak
memory each adds to the features, measured in a process of its own.
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
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from stages.probe import LogisticProbe, SharedVarianceGaussianNB

TOLERANCE = 1e-6
REPEATS = 3
PAIRS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "naive Bayes / GaussianNB": (SharedVarianceGaussianNB, GaussianNB),
    "logistic / MinMaxScaler + LogisticRegression": (
        lambda: LogisticProbe(tol=TOLERANCE),
        lambda: make_pipeline(MinMaxScaler(), LogisticRegression(tol=TOLERANCE, max_iter=5000)),
    ),
}


def measure(name: str, which: int, rows: int, dims: int, classes: int, result: Any) -> None:
    """Send (seconds of fit, seconds of predict, added peak MiB, training error) of one estimator."""
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, rows)
    means = random.normal(size=(classes, dims)) * 0.15
    features = np.empty((rows, dims), dtype=np.float32)
    for row, label in zip(features, labels, strict=True):  # one at a time, so that the peak before the fit is the features
        row[:] = np.maximum(means[label] + random.normal(size=dims), 0)  # as pooled features after a ReLU
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fits, predictions = [], []
    for _ in range(REPEATS):
        started = time.perf_counter()
        model = PAIRS[name][which]().fit(features, labels)
        fits.append(time.perf_counter() - started)
        started = time.perf_counter()
        predicted = model.predict(features)
        predictions.append(time.perf_counter() - started)
    kib = 1024 if sys.platform == "darwin" else 1
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / kib / 1024
    result.send((min(fits), min(predictions), peak, float((predicted != labels).mean())))


def main() -> None:
    """Print one line an estimator and one ratio a pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--dims", type=int, default=1024)
    parser.add_argument("--classes", type=int, default=10)
    options = parser.parse_args()
    shape = (options.rows, options.dims, options.classes)
    print(
        f"{shape[0]} x {shape[1]} float32, {shape[2]} classes; {platform.machine()}, {os.cpu_count()} cores, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}, numpy {np.__version__}, sklearn {sklearn.__version__}"
    )
    context = multiprocessing.get_context("spawn")
    for name in PAIRS:
        totals = []
        for which, label in enumerate(name.split(" / ")):
            receive, send = context.Pipe(duplex=False)
            process = context.Process(target=measure, args=(name, which, *shape, send))
            process.start()
            fit, predict, peak, error = receive.recv()
            process.join()
            totals.append(fit + predict)
            print(f"{label:36} fit {fit:7.3f} s  predict {predict:6.3f} s  +{peak:6.0f} MiB  training error {error:.4f}")
        print(f"{'':36} {totals[1] / totals[0]:.2f} times as fast\n")


if __name__ == "__main__":
    main()
