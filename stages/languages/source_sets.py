"""Which few sources serve many targets, each target by the source of the set that is predicted best for it.

The value of a set is the mean over targets of the best predicted score in it (facility location, monotone and submodular: the
greedy choice reaches at least 1 - 1/e of the best value at unit costs, Nemhauser, Wolsey and Fisher 1978). Small problems are
solved exactly beside it, and the cheapest set that covers all targets is an integer programme.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from stages.errors import InputProblem, nearest
from stages.languages.holdout import BY_REGRET
from stages.languages.predict import PROTOCOL

MOST_SETS = 50_000  # that are tried one by one for the exact answer
RANDOM_SETS = 200
STEPS = 10  # budgets at most
ENGLISH = "en"

SETS = {
    "task": pl.String, "rule": pl.String, "budget": pl.Float64, "sources": pl.String, "cost": pl.Float64, "n_targets": pl.Int64,
    "predicted": pl.Float64, "measured": pl.Float64, "covered": pl.Float64,
}  # fmt: skip


@dataclass(frozen=True)
class Offer:
    """Sources, their costs [s], and what each gives to each target: predicted, measured, distances [s, t]; NaN: nothing."""

    sources: list[str]
    costs: NDArray[np.float64]
    predicted: NDArray[np.float64]
    measured: NDArray[np.float64]
    distances: NDArray[np.float64]

    def value(self, chosen: Sequence[int], of: NDArray[np.float64]) -> float:
        """Return the mean over targets of the best in the set by `of` [s, t]; a target without any counts as 0."""
        return float(np.nan_to_num(_best(of[list(chosen)])).mean())

    def outcome(self, chosen: Sequence[int], tolerance: float) -> dict[str, float | None]:
        """Return the predicted and measured mean score of a set and the share of targets that it covers."""
        rows = list(chosen)
        best = _best(self.predicted[rows])
        served = np.isfinite(best)
        if not served.any():
            return {"predicted": None, "measured": None, "covered": 0.0}
        taken = np.argmax(np.nan_to_num(self.predicted[rows], nan=-np.inf), axis=0)
        measured = self.measured[rows][taken, np.arange(len(best))][served]
        within = best >= _best(self.predicted) - tolerance - 1e-12
        return {
            "predicted": float(best[served].mean()), "measured": float(np.nanmean(measured)), "covered": float(within.mean()),
        }  # fmt: skip


def _best(values: NDArray[np.float64]) -> NDArray[np.float64]:
    found = np.nan_to_num(values, nan=-np.inf).max(axis=0, initial=-np.inf)
    return np.where(np.isfinite(found), found, np.nan)


def greedy(offer: Offer, of: NDArray[np.float64], budget: float) -> list[int]:
    """Return sources taken one by one, each the one that adds most to the value by `of` per cost, while the budget lasts.

    With unequal costs the best single source is taken instead where it is worth more. Of equal gains the first name counts.
    """
    lowest = float(np.nanmin(of)) if np.isfinite(of).any() else 0.0
    worth = np.nan_to_num(of, nan=lowest) - lowest  # a set without any source is worth 0, whatever the sign of `of`
    chosen: list[int] = []
    have = np.zeros(worth.shape[1])
    while True:
        left = budget - offer.costs[chosen].sum()
        able = [i for i in range(len(offer.sources)) if i not in chosen and offer.costs[i] <= left + 1e-9]
        if not able:
            break
        gains = np.maximum(worth[able] - have, 0.0).mean(axis=1) / offer.costs[able]
        chosen.append(able[int(np.argmax(gains))])
        have = worth[chosen].max(axis=0)
    alone = [i for i in range(len(offer.sources)) if offer.costs[i] <= budget + 1e-9]
    if alone:
        single = max(alone, key=lambda i: float(worth[i].mean()))
        if worth[single].mean() > have.mean():
            return [single]
    return chosen


def exact(offer: Offer, of: NDArray[np.float64], budget: float) -> list[int] | None:
    """Return the set of the greatest value within the budget, None where there are more than 50,000 sets to try.

    Of equally good sets the cheapest, then the first by name.
    """
    order = np.sort(offer.costs)
    most = int((np.cumsum(order) <= budget + 1e-9).sum())
    if not most or math.comb(len(offer.sources), most) > MOST_SETS:
        return None
    worth = np.nan_to_num(of)
    found: tuple[float, float, list[int]] | None = None
    for size in range(1, most + 1):
        sets = np.array(list(combinations(range(len(offer.sources)), size)))
        costs = offer.costs[sets].sum(axis=1)
        sets, costs = sets[costs <= budget + 1e-9], costs[costs <= budget + 1e-9]
        for first in range(0, len(sets), 5000):
            part = sets[first : first + 5000]
            values = np.round(worth[part].max(axis=1).mean(axis=1), 12)
            if not len(part):
                continue
            best = np.lexsort((costs[first : first + 5000], -values))[0]
            candidate = (float(values[best]), -float(costs[first + best]), part[best].tolist())
            if found is None or candidate[:2] > found[:2]:
                found = candidate
    return None if found is None else found[2]


def cheapest_cover(offer: Offer, tolerance: float) -> list[int]:
    """Return the cheapest sources of which one is within the tolerance of every target's best predicted source.

    Solved as an integer programme (weighted set cover, HiGHS), which is exact; of several cheapest sets HiGHS takes one, the
    same each time. Targets without any prediction are not asked for.
    """
    best = _best(offer.predicted)
    reachable = np.isfinite(best)
    covers = (np.nan_to_num(offer.predicted, nan=-np.inf) >= best - tolerance - 1e-12)[:, reachable]
    if not reachable.any():
        return []
    found = milp(
        c=offer.costs,
        constraints=LinearConstraint(covers.T.astype(float), lb=1.0),
        integrality=np.ones(len(offer.sources)),
        bounds=Bounds(0, 1),
    )
    return [int(i) for i in np.flatnonzero(np.round(found.x) == 1)]


def offers(
    predictions: pl.DataFrame,
    distances: pl.DataFrame,
    *,
    model: str = BY_REGRET,
    targets: Sequence[str] = (),
    sources: Sequence[str] = (),
    costs: Mapping[str, float] | None = None,
) -> dict[str, Offer]:
    """Return what the sources offer the targets in each task, by one model's leave-one-target-out predictions.

    Args:
        predictions: `language_predictions`.
        distances: `language_distances`.
        model: whose predictions count.
        targets: to serve; all by default.
        sources: that may be taken; all by default.
        costs: of sources, 1 where nothing is said.

    Raises:
        InputProblem: a target or source named is in no task. A task without any of them has no offer.
    """
    made = predictions.filter((pl.col("model") == model) & (pl.col("split_protocol") == PROTOCOL))
    for side, key, asked in (("target", "targets", targets), ("source", "sources", sources), ("source", "costs", costs or {})):
        known = set(made[side])
        for name in asked:
            if name not in known:
                raise InputProblem(
                    f"{name!r} is no {side} of any task; {nearest(name, known)}",
                    where=f"params.yaml: languages.serve.{key}",
                    next_step="edit it, then `dvc repro languages`",
                )
    made = made.filter(pl.col("target").is_in(list(targets))) if targets else made
    made = made.filter(pl.col("source").is_in(list(sources))) if sources else made
    found = {}
    for (task,), wanted in made.sort("task", "source", "target").group_by("task", maintain_order=True):
        joined = wanted.join(distances, on=["task", "source", "target"], how="left")
        names, served = joined["source"].unique().sort().to_list(), joined["target"].unique().sort().to_list()
        at = (
            joined["source"].replace_strict(names, range(len(names)), return_dtype=pl.Int64).to_numpy(),
            joined["target"].replace_strict(served, range(len(served)), return_dtype=pl.Int64).to_numpy(),
        )
        arrays = []
        for column in ("predicted", "score", "distance"):
            array = np.full((len(names), len(served)), np.nan)
            array[at] = joined[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
            arrays.append(array)
        prices = np.array([(costs or {}).get(name, 1.0) for name in names])
        found[str(task)] = Offer(names, prices, *arrays)
    return found


def source_sets(offered: Mapping[str, Offer], rng: np.random.Generator, *, budget: float, tolerance: float) -> pl.DataFrame:
    """Return `source_sets`: each rule's set at every budget, in steps of the cheapest source's cost, ten at most.

    Rules: `greedy` and `exact` by predictions, `nearest` (greedy by the combined distance), `english` (English, then the
    strongest), `strongest` (best predicted on average), `random` (mean of 200 sets), `cover` (the cheapest within the
    tolerance, at its own cost).
    """
    rows: list[dict[str, object]] = []
    for task, offer in sorted(offered.items()):
        n_targets = offer.predicted.shape[1]

        def add(rule: str, limit: float, chosen: Sequence[int] | None, task: str = task, offer: Offer = offer) -> None:
            if chosen:
                rows.append({
                    "task": task, "rule": rule, "budget": limit, "sources": ", ".join(offer.sources[i] for i in sorted(chosen)),
                    "cost": float(offer.costs[list(chosen)].sum()), "n_targets": offer.predicted.shape[1],
                    **offer.outcome(chosen, tolerance),
                })  # fmt: skip

        cover = cheapest_cover(offer, tolerance)
        add("cover", float(offer.costs[cover].sum()), cover)
        steps = min(int(budget / float(offer.costs.min()) + 1e-9), STEPS)
        step = float(offer.costs.min()) if steps < STEPS else budget / STEPS
        strength = np.nan_to_num(offer.predicted).mean(axis=1)
        by_strength = np.lexsort((np.arange(len(strength)), -strength)).tolist()
        english = offer.sources.index(ENGLISH) if ENGLISH in offer.sources else None
        for limit in [step * i for i in range(1, steps + 1)]:
            add("greedy", limit, greedy(offer, offer.predicted, limit))
            add("exact", limit, exact(offer, offer.predicted, limit))
            add("nearest", limit, greedy(offer, -offer.distances, limit))
            add("strongest", limit, _fill(offer, by_strength, limit))
            if english is not None and offer.costs[english] <= limit:
                add("english", limit, _fill(offer, [english, *(i for i in by_strength if i != english)], limit))
            drawn = [_fill(offer, rng.permutation(len(offer.sources)).tolist(), limit) for _ in range(RANDOM_SETS)]
            outcomes = [offer.outcome(chosen, tolerance) for chosen in drawn]
            rows.append({
                "task": task, "rule": "random", "budget": limit, "sources": None, "n_targets": n_targets,
                "cost": float(np.mean([offer.costs[chosen].sum() for chosen in drawn])),
                **{key: _mean([outcome[key] for outcome in outcomes]) for key in ("predicted", "measured", "covered")},
            })  # fmt: skip
    return pl.DataFrame(rows, schema=SETS).sort("task", "rule", "budget")


def _fill(offer: Offer, order: Sequence[int], budget: float) -> list[int]:
    """Return the sources in order that still fit into the budget."""
    chosen: list[int] = []
    left = budget
    for source in order:
        if offer.costs[source] <= left + 1e-9:
            chosen.append(source)
            left -= float(offer.costs[source])
    return chosen


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
