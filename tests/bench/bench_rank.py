"""python tests/bench/bench_rank.py [--parts compare growth large] [--rows 10000] [--dims 2048] [--classes 10]
                                   [--large 200000] [--figure docs/growth.svg]

1. Every metric alone, and all of them on shared statistics, against LogME by a plain SVD and TMI by SciPy's k-d tree, in one
   run: seconds (best of three within ten), their ratio, and the peak memory each adds, in a process of its own.
2. Growth in the number of rows at 256 dims, each metric with statistics of its own on one thread, in seconds of the CPU so
   that other programs matter less; as a table of exponents and a figure.
3. A large target on disk, 1,024 dims, float32 features and 100 source classes in float16, read through memory maps: seconds
   of every metric, the peak memory of the whole process after it, and which of them look at a sample of the rows.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import scipy
import torch
import vl_convert
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import digamma

from stages.rank import METRICS, Statistics
from stages.rank.accelerator import Accelerator

REPEATS, ENOUGH = 3, 10.0  # runs of one way, and the seconds after which one more is not worth the wait
REFITTED = ("nleep", "linear_cv")  # they fit models, by definition in minutes
LAST = ("tmi", "knn", *REFITTED)  # of the large target, the slowest at the end
ALIKE = ("tmi_per_dim", "tmi_unclamped", "regularized_h_score")  # the same work under another name
SAMPLED = ("parc", "pactran_gauss")
GROWTH = (2000, 4000, 8000, 16000, 32000)
WARM = 2100  # rows on which everything is imported and compiled: more than one of kNN's tiles
LOGME, TMI = "LogME by SVD", "TMI by k-d tree"
ALL, CUDA = "all metrics, shared", "all metrics, CUDA"


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
    """Score with all metrics but those that refit, as the entry does; the values are compared one by one elsewhere."""
    statistics = Statistics(features, labels, probabilities)
    for name in METRICS:
        if name not in REFITTED:
            METRICS[name].rows(name, statistics)
    return float("nan")


def on_cuda(features: NDArray, labels: NDArray, probabilities: NDArray) -> float:
    """Score as `everything` does, with the heavy parts on the GPU."""
    statistics = Statistics(features, labels, probabilities, accelerator=Accelerator(torch.device("cuda")))
    for name in METRICS:
        if name not in REFITTED:
            METRICS[name].rows(name, statistics)
    return float("nan")


def alone(name: str) -> Callable[[NDArray, NDArray, NDArray], float]:
    """Return one metric with statistics of its own; a pool metric's value needs a pool, its time does not."""

    def way(features: NDArray, labels: NDArray, probabilities: NDArray) -> float:
        scores = METRICS[name].rows(name, Statistics(features, labels, probabilities))
        value = next(iter(scores.values())).value
        return float("nan") if value is None or len(scores) > 1 else value

    return way


def ways() -> dict[str, Callable[[NDArray, NDArray, NDArray], float]]:
    """Return what is measured by name: the alternatives first."""
    there = {CUDA: on_cuda} if torch.cuda.is_available() else {}
    return {LOGME: logme_by_svd, TMI: tmi_by_tree, **{name: alone(name) for name in METRICS}, ALL: everything, **there}


def target(rows: int, dims: int, classes: int) -> tuple[NDArray, NDArray, NDArray]:
    """Return features [n, d] of float32 with one Gaussian a class, labels [n] and source probabilities [n, 10]."""
    stream = np.random.default_rng(0)
    labels = stream.integers(0, classes, rows)
    means = (0.15 * stream.normal(size=(classes, dims))).astype(np.float32)
    features = stream.standard_normal((rows, dims), dtype=np.float32)
    for row, label in zip(features, labels, strict=True):  # in place, so that the peak before is the features themselves
        row += means[label]
        row *= 3
    return features, labels, stream.dirichlet(np.ones(10), rows).astype(np.float32)


def peak() -> float:
    """Return this process's peak memory in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)


def measure(result: Any, name: str, rows: int, dims: int, classes: int) -> None:
    """Send (seconds, added peak MiB, value) of one way."""
    inputs, way = target(rows, dims, classes), ways()[name]
    way(*(part[:WARM] for part in inputs))  # imported and compiled before the clock starts
    before, seconds, value = peak(), [], float("nan")
    while len(seconds) < REPEATS and sum(seconds) < ENOUGH:
        started = time.perf_counter()
        value = way(*inputs)
        seconds.append(time.perf_counter() - started)
    result.send((min(seconds), peak() - before, value))


def write_large(folder: str, rows: int, dims: int) -> None:
    """Write a target that is larger than what a process may hold, block by block."""
    stream = np.random.default_rng(0)
    features = np.lib.format.open_memmap(f"{folder}/x.npy", "w+", np.float32, (rows, dims))
    probabilities = np.lib.format.open_memmap(f"{folder}/p.npy", "w+", np.float16, (rows, 100))
    means = 0.15 * stream.normal(size=(10, dims))
    labels = stream.integers(0, 10, rows)
    np.save(f"{folder}/y.npy", labels)
    for start in range(0, rows, 10_000):
        block = slice(start, min(start + 10_000, rows))
        features[block] = 3 * (stream.normal(size=(block.stop - start, dims)) + means[labels[block]])
        probabilities[block] = stream.dirichlet(np.ones(100), block.stop - start)


def measure_large(result: Any, folder: str) -> None:
    """Send (metric, seconds, peak MiB of the process so far, warning) of shared statistics and every metric."""
    started = time.perf_counter()
    features, probabilities = (np.load(f"{folder}/{name}.npy", mmap_mode="r") for name in "xp")
    statistics = Statistics(features, np.load(f"{folder}/y.npy"), probabilities)
    _ = statistics.spectrum
    result.send(("shared statistics", time.perf_counter() - started, peak(), None))
    for name in sorted(METRICS, key=lambda name: (name in LAST and LAST.index(name) + 1, name)):
        started = time.perf_counter()
        scores = METRICS[name].rows(name, statistics)
        result.send((name, time.perf_counter() - started, peak(), next(iter(scores.values())).warning))


def measure_growth(result: Any, rows: int) -> None:
    """Send [(metric, CPU seconds with statistics of its own)] at 256 dims."""
    inputs, seconds = target(rows, 256, 10), []
    for name in METRICS:
        if name not in REFITTED + ALIKE:
            way = alone(name)
            way(*(part[:WARM] for part in inputs))
            started = time.process_time()
            way(*inputs)
            seconds.append((name, time.process_time() - started))
    result.send(seconds)


def answers(body: Callable[..., None], *arguments: Any) -> Iterator[Any]:
    """Yield what `body` sends from a process of its own, whose peak memory is then its own."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=body, args=(send, *arguments))
    process.start()
    send.close()
    with contextlib.suppress(EOFError):
        while True:
            yield receive.recv()
    process.join()


def in_process(body: Callable[..., None], *arguments: Any) -> Any:
    """Return the one answer of a process."""
    (answer,) = answers(body, *arguments)
    return answer


def compare(rows: int, dims: int, classes: int) -> None:
    """Print every way's seconds, memory and ratio."""
    found: dict[str, float] = {}
    print(f"\nn = {rows}, d = {dims}, {classes} classes")
    print(f"{'':24} {'seconds':>9} {'MiB more':>9} {'value':>16}   times faster than")
    for name in ways():  # the alternatives first: what follows is printed beside them at once
        seconds, mib, value = in_process(measure, name, rows, dims, classes)
        found[name] = seconds
        against = [f"{other} {found[other] / seconds:.1f}" for other in (LOGME, TMI) if other.split()[0].lower() in name]
        shown = f"{seconds / found[LOGME]:.2f} times the seconds of {LOGME}" if name in (ALL, CUDA) else ", ".join(against)
        scored = "" if np.isnan(value) else f"{value:16.8f}"
        print(f"{name:24} {seconds:9.4f} {mib:9.0f} {scored:>16}   {shown}", flush=True)


def large(rows: int, dims: int = 1024) -> None:
    """Print seconds and peak memory on a target on disk."""
    with tempfile.TemporaryDirectory() as folder:
        write_large(folder, rows, dims)
        print(f"\nn = {rows}, d = {dims} from disk ({rows * dims * 4 / 2**20:.0f} MiB of features)")
        print(f"{'':24} {'seconds':>9} {'peak MiB':>9}")
        total = 0.0
        for name, seconds, mib, warning in answers(measure_large, folder):
            total += seconds
            print(f"{name:24} {seconds:9.2f} {mib:9.0f}   {warning or ''}", flush=True)
        print(f"{'all':24} {total:9.2f} {mib:9.0f}")


def growth(figure: Path | None) -> None:
    """Print how seconds grow with rows, and draw it."""
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))  # of children
    found = {rows: dict(in_process(measure_growth, rows)) for rows in GROWTH}
    print("\nCPU seconds at 256 dims by rows, one thread; exponent p of seconds ~ rows^p over the last three")
    print(f"{'':24} " + " ".join(f"{rows:>8}" for rows in GROWTH) + "        p")
    table = []
    for name in found[GROWTH[0]]:
        seconds = [found[rows][name] for rows in GROWTH]
        slope = np.polyfit(np.log(GROWTH[-3:]), np.log(seconds[-3:]), 1)[0]
        print(f"{name:24} " + " ".join(f"{value:8.3f}" for value in seconds) + f" {slope:8.2f}")
        table += [{"metric": name, "rows": rows, "seconds": value} for rows, value in zip(GROWTH, seconds, strict=True)]
    if figure:
        figure.write_text(vl_convert.vegalite_to_svg(drawn(table).to_dict()), encoding="utf-8")
        print(f"drawn: {figure}")


def drawn(table: list[dict[str, Any]]) -> alt.LayerChart:
    """Return seconds against rows, both logarithmic, each line named at its end, beside lines of exponent 1 and 2."""
    first, last = GROWTH[0], GROWTH[-1]
    ends = sorted((row for row in table if row["rows"] == last), key=lambda row: float(row["seconds"]))
    places = np.log10([row["seconds"] for row in ends])
    for _ in range(500):  # names that would overlap push each other apart
        short = np.maximum(0.125 - np.diff(places), 0) / 2
        places[:-1] -= short
        places[1:] += short
    kinds = {"tmi": "all pairs of rows (of a class: tmi)", "knn": "all pairs of rows (of a class: tmi)"}
    kinds |= dict.fromkeys(SAMPLED, "a sample of the rows, once there are more")
    lines = [{**row, "work": kinds.get(row["metric"], "every row")} for row in table]
    ends = [
        {**row, "place": 10**place, "work": kinds.get(row["metric"], "every row")}
        for row, place in zip(ends, places.tolist(), strict=True)
    ]
    guides = [
        {
            "rows": rows,
            "seconds": least * (rows / first) ** power,
            "power": power,
            "said": ("rows" if power == 1 else "rows²") * (rows == last),
        }
        for power, least in ((1, 0.0028), (2, 0.1))
        for rows in (first, last)
    ]
    x = alt.X("rows:Q", title="rows of 256 dimensions", scale=alt.Scale(type="log", domain=[first, last], nice=False))
    x = x.axis(values=list(GROWTH), format=",d", grid=False)
    y = alt.Y("seconds:Q", title="CPU seconds, one thread", scale=alt.Scale(type="log", domain=[1e-3, 40], nice=False))
    y = y.axis(values=[0.001, 0.01, 0.1, 1, 10], format="~g")
    colour = alt.Color("work:N", title=None).scale(range=["#c2410c", "#0f766e", "#1d4ed8"]).legend(orient="top", labelLimit=400)

    def of(rows: list[dict[str, Any]]) -> alt.Chart:
        return alt.Chart(alt.Data(values=rows))

    name = {"align": "left", "dx": 6, "fontSize": 11}
    chart = alt.layer(
        of(guides).mark_line(strokeDash=[4, 4], color="#777").encode(x=x, y=y, detail="power:N"),
        of(guides).mark_text(**name, color="#777").encode(x=x, y=y, text="said:N"),
        of(lines).mark_line(strokeWidth=1.5).encode(x=x, y=y, color=colour, detail="metric:N"),
        of(ends).mark_text(**name).encode(x=x, y="place:Q", text="metric:N", color=colour),
    )
    chart = chart.properties(width=520, height=460, background="white")
    return chart.configure_axis(labelColor="#222", titleColor="#222", gridColor="#ddd").configure_view(stroke=None)


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("rows", 10_000), ("dims", 2048), ("classes", 10), ("large", 200_000)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--parts", nargs="+", choices=("compare", "growth", "large"), default=("compare", "growth", "large"))
    options = parser.parse_args()
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{platform.machine()}, {os.cpu_count()} cores, {threads} threads, numpy {np.__version__}, scipy {scipy.__version__}")
    if "compare" in options.parts:
        compare(options.rows, options.dims, options.classes)
    if "large" in options.parts:
        large(options.large)
    if "growth" in options.parts:  # the last: its processes have one thread
        growth(options.figure)


if __name__ == "__main__":
    main()
