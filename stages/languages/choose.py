"""Which source to train on: ranked sources of each target, what each rule of choosing costs, and how good its order is."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages.languages.design import feature_columns, zero_shot
from stages.languages.holdout import BY_REGRET
from stages.languages.predict import PROTOCOL

RANKED = {
    "task": pl.String, "target": pl.String, "rank": pl.Int64, "source": pl.String,
    "predicted": pl.Float64, "interval_low": pl.Float64, "interval_high": pl.Float64, "measured": pl.Float64,
    "regret": pl.Float64, "conformal_set": pl.Boolean,
}  # fmt: skip
COMPARED = {"task": pl.String, "rule": pl.String, "mean_regret": pl.Float64, "ndcg_at_3": pl.Float64, "n_targets": pl.Int64}
PLACES = 3


def rank_sources(predictions: pl.DataFrame, *, model: str = BY_REGRET, protocol: str = PROTOCOL) -> pl.DataFrame:
    """Return `source_languages`: the sources of each target in the order of one model's predictions.

    Args:
        predictions: `language_predictions`; source and target always differ in it.
        model: whose predictions rank; ties go to the first name.
        protocol: under which they were made, one that knows nothing of the target.
    """
    chosen = predictions.filter(
        (pl.col("model") == model) & (pl.col("split_protocol") == protocol) & (pl.col("source") != pl.col("target"))
    )
    keys = ["task", "target"]
    ranked = chosen.sort(*keys, "predicted", "source", descending=[False, False, True, False]).with_columns(
        rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over(keys),
        measured=pl.col("score"),
        regret=pl.col("score").max().over(keys) - pl.col("score"),
        conformal_set=pl.col("in_set"),
    )
    return ranked.select(pl.col(name).cast(dtype) for name, dtype in RANKED.items()).sort("task", "target", "rank")


def ndcg(scores: NDArray[np.float64], order: NDArray[np.float64], places: int = PLACES) -> float | None:
    """Return the normalised discounted cumulative gain of one target's sources [n] put in the order of `order`, highest first.

    The gain of a source is its score's place between the target's worst and best source (0 to 1), so that a source nearly as
    good as the best counts nearly as much; the discount is 1 / log2(1 + place). None where all sources are equally good.
    """
    low, high = float(scores.min()), float(scores.max())
    if high - low <= 1e-12:
        return None
    gain = (scores - low) / (high - low)
    discount = 1 / np.log2(np.arange(min(places, len(gain))) + 2)
    found = gain[np.argsort(-order, kind="stable")][: len(discount)] @ discount
    return float(found / (np.sort(gain)[::-1][: len(discount)] @ discount))


def random_ndcg(scores: NDArray[np.float64], places: int = PLACES) -> float | None:
    """Return the expected `ndcg` of a random order."""
    low, high = float(scores.min()), float(scores.max())
    if high - low <= 1e-12:
        return None
    gain = (scores - low) / (high - low)
    discount = 1 / np.log2(np.arange(min(places, len(gain))) + 2)
    return float(gain.mean() * discount.sum() / (np.sort(gain)[::-1][: len(discount)] @ discount))


def choices(pairs: pl.DataFrame, predictions: pl.DataFrame) -> pl.DataFrame:
    """Return task, split_protocol, rule, mean_regret, ndcg_at_3, n_targets: models beside plain rules."""
    frames = [pl.DataFrame(schema={"split_protocol": pl.String, **COMPARED})]
    for (protocol,), made in predictions.group_by("split_protocol", maintain_order=True):
        if made["in_set"].count():  # the protocol knows nothing of the target
            orders = {
                str(name): of_model.select("task", "target", "source", order="predicted")
                for (name,), of_model in made.group_by("model", maintain_order=True)
                if not str(name).startswith(("always_english", "global_mean", "nearest_"))
            }
            frames.append(_compare(pairs, orders).with_columns(split_protocol=pl.lit(str(protocol))).select(frames[0].columns))
    return pl.concat(frames).sort("task", "split_protocol", "mean_regret", "rule")


def compare_choices(pairs: pl.DataFrame, ranked: pl.DataFrame) -> pl.DataFrame:
    """Return task, rule, mean_regret, ndcg_at_3, n_targets: what choosing by a rule costs against the best source measured.

    Rules: `model` (the order of `ranked`), `english` (no order beyond its first), `nearest_<x>` by each distance, `random`
    (what is expected of it). Only targets for which all rules have an answer count, so English itself is no target here. No row
    where nothing was measured without target examples.
    """
    return _compare(pairs, {"model": ranked.select("task", "target", "source", order=-pl.col("rank").cast(pl.Float64))})


def _compare(pairs: pl.DataFrame, orders: dict[str, pl.DataFrame]) -> pl.DataFrame:
    keys = ["task", "target"]
    rows = zero_shot(pairs).with_columns(regret=pl.col("score").max().over(keys) - pl.col("score"))
    rules = {rule: rows.join(order, on=[*keys, "source"]) for rule, order in orders.items()}
    rules["english"] = rows.filter(pl.col("source") == "en").with_columns(order=pl.lit(1.0))
    for name in feature_columns(zero_shot(pairs)):
        if name.endswith("_distance"):
            near = rows.filter(pl.col(name).is_not_null()).with_columns(order=-pl.col(name))
            rules["nearest_" + name.removesuffix("_distance")] = near
    rules = {rule: found for rule, found in rules.items() if not found.is_empty()}
    common = rows.select(keys).unique()
    for found in rules.values():
        common = common.join(found, on=keys, how="semi")
    measured = rows.join(common, on=keys, how="semi").sort(*keys, "source")
    lists = {key: group["score"].to_numpy() for key, group in measured.group_by(keys, maintain_order=True)}
    found_rows = [
        (str(task), "random", float((scores.max() - scores).mean()), random_ndcg(scores))
        for (task, _), scores in lists.items()
    ]  # fmt: skip
    for rule, found in rules.items():
        of_common = found.join(common, on=keys, how="semi").sort(*keys, "source")
        for key, group in of_common.group_by(keys, maintain_order=True):
            order = group["order"].to_numpy()
            quality = None
            if rule != "english" and group.height == len(lists[key]):
                quality = ndcg(group["score"].to_numpy(), order)
            found_rows.append((str(key[0]), rule, float(group["regret"][int(np.argmax(order))]), quality))
    schema = {"task": pl.String, "rule": pl.String, "mean_regret": pl.Float64, "ndcg_at_3": pl.Float64}
    table = pl.DataFrame(found_rows, schema=schema, orient="row").group_by("task", "rule").agg(
        pl.col("mean_regret").mean(), pl.col("ndcg_at_3").mean(), n_targets=pl.len().cast(pl.Int64)
    )  # fmt: skip
    return table.select(pl.col(name).cast(dtype) for name, dtype in COMPARED.items()).sort("task", "mean_regret", "rule")
