"""The tables of agreement and of verdicts, from scores and accuracies of the same candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl

from stages.rank.agreement import agreement
from stages.rank.metric import joined
from stages.rank.verdict import Comparison, Study

LAYERS = "layers"  # the mode in which every layer is a candidate, instead of one an encoder
SOURCE_HEAD = "source_head"

Seed = Callable[..., int]


def agreements(pairs: pl.DataFrame, seed: Seed) -> list[dict[str, Any]]:
    """Return a row for each target, metric and mode: the keys and the columns of the table `agreement`.

    Args:
        pairs: target, mode, encoder, layer, metric, score (null where there is none), higher_is_better, accuracy.
        seed: turns names into the seed of a bootstrap, which draws the same encoders for every metric.
    """
    rows = []
    ordered = pairs.sort("target", "metric", "mode", "encoder", "layer")
    for key, group in ordered.group_by("target", "metric", "mode", maintain_order=True):
        target, metric, mode = (str(part) for part in key)
        values = agreement(
            group["score"].to_list(),
            group["accuracy"].to_list(),
            encoders=group["encoder"].to_list() if mode == LAYERS else None,
            higher_is_better=bool(group["higher_is_better"][0]),
            seed=seed("agreement", target, mode),
        )
        rows.append({"target": target, "metric": metric, "mode": mode, **values})
    return rows


def verdicts(pairs: pl.DataFrame, kinds: pl.DataFrame, headless: set[str], seed: Seed) -> list[dict[str, Any]]:
    """Return a row for each kind of target and metric: the keys and the columns of the table `metric_verdicts`.

    Args:
        pairs: as for `agreements`.
        kinds: target, aspect, level.
        headless: encoders without a source head: the others are judged by themselves too, because a metric that needs
            a head is compared with the rest fairly only there.
        seed: turns names into the seed of the bootstrap.
    """
    if pairs.is_empty():
        return []
    study = _study(pairs, seed("verdict"))
    places = {(part.target, part.mode): index for index, part in enumerate(study.comparisons)}
    rows = []
    for (aspect, level), group in kinds.sort("aspect", "level", "target").group_by(["aspect", "level"], maintain_order=True):
        targets = set(group["target"])
        rows += _level(study, str(aspect), str(level), [place for (target, _), place in places.items() if target in targets])
    modes = sorted({mode for _, mode in places})
    for mode in modes if len(modes) > 1 else ():
        rows += _level(study, "mode", mode, [place for (_, of), place in places.items() if of == mode])
    for level, without in (("encoders with one", False), ("encoders without", True)):
        part = pairs.filter(pl.col("encoder").is_in(sorted(headless)) == without)
        if 0 < len(part) < len(pairs):
            restricted = _study(part, seed("verdict", level))
            rows += _level(restricted, SOURCE_HEAD, level, list(range(len(restricted.comparisons))))
    return rows


def _study(pairs: pl.DataFrame, seed: int) -> Study:
    metrics = pairs["metric"].unique().sort().to_list()
    return Study(tuple(metrics), tuple(_comparisons(pairs, metrics)), seed)


def _comparisons(pairs: pl.DataFrame, metrics: list[str]) -> Iterator[Comparison]:
    signed = pairs.with_columns(pl.when("higher_is_better").then("score").otherwise(-pl.col("score")).alias("score"))
    ordered = signed.sort("target", "mode", "encoder", "layer")
    for (target, mode), group in ordered.group_by(["target", "mode"], maintain_order=True):
        wide = group.pivot("metric", index=["encoder", "layer", "accuracy"], values="score", maintain_order=True)
        missing = [pl.lit(None, pl.Float64).alias(name) for name in metrics if name not in wide.columns]
        scores = wide.with_columns(missing).select(metrics).fill_null(float("nan")).to_numpy().T
        accuracies = np.asarray(wide["accuracy"].to_numpy(), dtype=np.float64)
        yield Comparison(str(target), str(mode), tuple(wide["encoder"]), np.ascontiguousarray(scores), accuracies)


def _level(study: Study, aspect: str, level: str, chosen: list[int]) -> list[dict[str, Any]]:
    if not chosen:
        return []
    rows = [{"aspect": aspect, "level": level, **row} for row in study.verdicts(chosen)]
    most = max(row["n_encoders"] for row in rows)
    for row in rows:
        few = f"scores {row['n_encoders']} of {most} encoders: not comparable with metrics that score all"
        alone = "of one target: says nothing of others"
        row["warning"] = joined(few if row["n_encoders"] < most else None, alone if row["n_targets"] == 1 else None)
    return rows
