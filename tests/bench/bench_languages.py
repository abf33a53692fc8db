"""python tests/bench/bench_languages.py [--sources 65] [--targets 105] [--features 20]

Every protocol, model, interval, ranking, anchor, source set, cluster and claim on a table of sources x targets, in one process
with one thread, against the plain way to the same leave-one-target-out intervals: scikit-learn's RidgeCV and GridSearchCV over
HistGradientBoostingRegressor refitted for every target and every calibration fold. The plain way is timed on a few targets and
multiplied. Seconds, ratio and peak memory.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import sys
import time
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV, GroupKFold
from threadpoolctl import threadpool_limits

from stages.languages import MODELS, PROTOCOLS
from stages.languages.anchors import anchor_table
from stages.languages.choose import choices, rank_sources
from stages.languages.claims import contributions
from stages.languages.clusters import clusters, combined_distances
from stages.languages.explain import effects
from stages.languages.guards import warnings_of
from stages.languages.holdout import BLOCKS
from stages.languages.predict import PROTOCOL, evaluate, predictions, quality
from stages.languages.source_sets import offers, source_sets

PLAIN_TARGETS = 2
PLAIN_FOLDS = BLOCKS


def table(n_sources: int, n_targets: int, n_features: int, seed: int = 0) -> pl.DataFrame:
    """Return a table with a law: distances of places, strengths of both sides, features that say nothing."""
    rng = np.random.default_rng(seed)
    n = max(n_sources, n_targets)
    names = ["en", *(f"l{i:03d}" for i in range(1, n))]
    places = rng.uniform(0, 1, (n, 4))
    apart = np.abs(places[:, None] - places[None])
    noise = rng.normal(0, 1, (n, n, n_features))
    strength, level = rng.normal(0, 0.05, (2, n))
    rows: list[dict[str, Any]] = []
    for s in range(n_sources):
        for t in range(n_targets):
            score = 0.6 - 0.3 * apart[s, t] @ [0.5, 0.3, 0.2, 0.0] + strength[s] + level[t] + 0.03 * rng.normal()
            features = {
                f"{name}_distance": apart[s, t, i] for i, name in enumerate(("syntax", "phonology", "geographic", "genetic"))
            }
            features |= {"word_overlap": 1 - apart[s, t].mean() + 0.1 * noise[s, t, 0]}
            features |= {f"other_{i:02d}": noise[s, t, i] for i in range(1, n_features - 4)}
            rows.append({"task": "t", "source": names[s], "target": names[t], "score": float(np.clip(score, 0, 1)), **features})
    return pl.DataFrame(rows)


def ours(pairs: pl.DataFrame) -> dict[str, float]:
    """Return the seconds of each part."""
    seconds, models = {}, [*(f"nearest_{name}" for name in ("syntax", "phonology", "geographic", "genetic")), *MODELS]
    frames, evaluated = [], {}
    for protocol in PROTOCOLS:
        started = time.perf_counter()
        evaluated[protocol] = evaluate(pairs, protocol=protocol, models=models)
        frames.append(predictions(evaluated[protocol], protocol))
        seconds[protocol] = time.perf_counter() - started
    predicted = pl.concat(frames)

    def timed(name: str, body: Any) -> Any:
        started = time.perf_counter()
        found = body()
        seconds[name] = time.perf_counter() - started
        return found

    rng = np.random.default_rng(0)
    found = timed("quality", lambda: quality(predicted))
    timed("choices and ranking", lambda: (choices(pairs, predicted), rank_sources(predicted)))
    timed("anchors", lambda: anchor_table(evaluated[PROTOCOL], PROTOCOL, rng))
    distances = timed("combined distance", lambda: combined_distances(pairs))[1]
    timed("clusters", lambda: clusters(distances))
    timed("source sets", lambda: source_sets(offers(predicted, distances), rng, budget=3, tolerance=0.02))
    timed("effects and claims", lambda: (effects(pairs), contributions(pairs, rng)))
    timed("guards", lambda: warnings_of(pairs))
    with pl.Config(tbl_rows=-1, float_precision=3):
        print(found.filter(pl.col("model").is_in(["chosen", "ridge", "boosting", "lambdarank", "source_mean", "global_mean"])))
    return seconds


def plain(pairs: pl.DataFrame) -> float:
    """Return the seconds that leave-one-target-out with nested choice and calibration would take, both models."""
    rows = pairs.filter(pl.col("source") != pl.col("target"))
    names = [name for name, dtype in rows.schema.items() if dtype.is_float() and name != "score"]
    x, y, targets = rows.select(names).to_numpy(), rows["score"].to_numpy(), rows["target"].to_numpy()
    grid = {"max_iter": [10, 20, 40]}

    def fit(seen: NDArray[np.bool_], asked: NDArray[np.bool_]) -> None:
        folds = list(GroupKFold(5).split(x[seen], y[seen], targets[seen]))
        RidgeCV(np.logspace(-1, 4, 11), cv=folds).fit(x[seen], y[seen]).predict(x[asked])
        trees = HistGradientBoostingRegressor(learning_rate=0.2, max_leaf_nodes=8, early_stopping=False)
        GridSearchCV(trees, grid, cv=folds).fit(x[seen], y[seen]).predict(x[asked])

    every = np.unique(targets)
    started = time.perf_counter()
    for target in every[:PLAIN_TARGETS]:
        seen = targets != target
        fit(seen, ~seen)
        fold = np.isin(targets, every[every != target][::PLAIN_FOLDS])
        fit(seen & ~fold, fold)  # one of the calibration folds
    per_fit = (time.perf_counter() - started) / (2 * PLAIN_TARGETS)
    return per_fit * len(every) * (1 + PLAIN_FOLDS)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    for name, default in (("sources", 65), ("targets", 105), ("features", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    limits = threadpool_limits(1)  # as the stage has it; its trees read the variable alone
    print(f"{platform.machine()}, {os.cpu_count()} cores, one thread, Python {platform.python_version()}")
    pairs = table(asked.sources, asked.targets, asked.features)
    seconds = ours(pairs)
    for part, taken in seconds.items():
        print(f"{part:24} {taken:8.2f} s")
    total, by_hand = sum(seconds.values()), plain(pairs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    print(f"{'all of it':24} {total:8.2f} s, peak {peak:.0f} MiB: {asked.sources} x {asked.targets}, {asked.features} features")
    ratio = by_hand / seconds[PROTOCOL]
    print(f"plain leave-one-target-out of ridge and boosting alone: {by_hand:.0f} s, {ratio:.0f} times ours of all models")
    limits.restore_original_limits()


if __name__ == "__main__":
    main()
