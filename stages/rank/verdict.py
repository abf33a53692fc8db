"""Which metric to trust: its agreement over several targets, and whether that could be chance.

For each metric the weighted Kendall correlation and the top-1 regret are averaged over comparisons (a target and a way
of fine-tuning). Intervals: percentile bootstrap over encoders, the same draw in every comparison, and over targets.
Chance: accuracies are dealt anew to encoders, the same deal in every comparison, and to the layers of an encoder; the
share of deals at least as good, (1 + k) / (1 + deals) (Phipson & Smyth, 2010). Several metrics are tried, and the best of
many looks good by chance: `p_adjusted` is the single-step min-P of Westfall & Young (1993), over all metrics at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.rank.agreement import FEWEST, RESAMPLES, Rows, encoder_draws, interval, members_of, regrets, taken
from stages.rank.weighted_tau import Float, weighted_taus

DEALS = 1999
LEVEL = 0.05
BETTER, WORSE, OPEN, UNKNOWN = "better than chance", "worse than chance", "may be chance", "too few encoders"
ROUNDING = 1e-12


@dataclass(frozen=True)
class Comparison:
    """All metrics on one target against accuracies of one kind.

    Attributes:
        target: the target.
        mode: the kind of accuracy.
        encoders: [n] the encoder of each candidate.
        scores: [metrics, n] higher is better, NaN where a candidate has none.
        accuracies: [n].
    """

    target: str
    mode: str
    encoders: tuple[str, ...]
    scores: Float
    accuracies: Float


@dataclass(frozen=True)
class Study:
    """Comparisons over one set of encoders and metrics, resampled once for whatever is asked of them.

    Attributes:
        metrics: names of the rows of every comparison's scores.
        comparisons: on one or more targets.
        seed: of the bootstrap and of the deals.
    """

    metrics: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    seed: int

    @cached_property
    def encoders(self) -> list[str]:
        """Return all encoders, sorted."""
        return sorted({name for comparison in self.comparisons for name in comparison.encoders})

    @cached_property
    def observed(self) -> tuple[Float, Float]:
        """Return the correlations and regrets [comparisons, metrics, 1]."""
        return self._measured([np.arange(len(comparison.accuracies))[None] for comparison in self.comparisons])

    @cached_property
    def resampled(self) -> tuple[Float, Float]:
        """Return the correlations and regrets [comparisons, metrics, RESAMPLES] of the bootstrap over encoders."""
        draws = encoder_draws(len(self.encoders), self.seed)
        rows = [members_of(part.encoders, self.encoders)[draws].reshape(RESAMPLES, -1) for part in self.comparisons]
        return self._measured(rows)

    def _measured(self, rows: Sequence[Rows]) -> tuple[Float, Float]:
        taus, costs = [], []
        for comparison, chosen in zip(self.comparisons, rows, strict=True):
            y = taken(comparison.accuracies, chosen)
            drawn = [taken(scores, chosen) for scores in comparison.scores]
            taus.append([weighted_taus(x, y) for x in drawn])
            costs.append([regrets(x, y) for x in drawn])
        return np.array(taus), np.array(costs)

    @cached_property
    def dealt(self) -> Float:
        """Return the correlations [comparisons, metrics, DEALS] after dealing the accuracies anew."""
        stream = np.random.default_rng([self.seed, 1])
        places = [members_of(comparison.encoders, self.encoders) for comparison in self.comparisons]
        # Accuracies move only between encoders that have as many candidates in every comparison.
        shapes = [tuple(int((place[index] >= 0).sum()) for place in places) for index in range(len(self.encoders))]
        groups = [np.array([index for index, shape in enumerate(shapes) if shape == kind]) for kind in dict.fromkeys(shapes)]
        givers = np.tile(np.arange(len(self.encoders)), (DEALS, 1))
        for group in groups:
            givers[:, group] = group[stream.permuted(np.tile(np.arange(len(group)), (DEALS, 1)), axis=1)]
        taus = []
        for comparison, place in zip(self.comparisons, places, strict=True):
            order = np.tile(np.arange(len(comparison.accuracies)), (DEALS, 1))
            for receiver in range(len(self.encoders)):
                own = place[receiver][place[receiver] >= 0]
                if len(own):
                    order[:, own] = stream.permuted(place[givers[:, receiver]][:, : len(own)], axis=1)
            y = comparison.accuracies[order]
            taus.append([weighted_taus(np.broadcast_to(x, y.shape), y) for x in comparison.scores])
        return np.array(taus)

    def verdicts(self, chosen: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Yield one row a metric, the value columns of `metric_verdicts`, over some of the comparisons."""
        parts = [self.comparisons[index] for index in chosen]
        targets = sorted({part.target for part in parts})
        weights = np.array([[part.target == target for target in targets] for part in parts], dtype=np.float64)
        drawn = np.random.default_rng([self.seed, 2]).integers(0, len(targets), (RESAMPLES, len(targets)))
        times = np.stack([(drawn == index).sum(axis=1) for index in range(len(targets))])  # (targets, RESAMPLES)
        shares = weights @ times  # (comparisons, RESAMPLES)
        picked = list(chosen)
        taus, costs = (_mean(values[picked])[:, 0] for values in self.observed)
        boot_taus, boot_costs = (_mean(values[picked], shares) for values in self.resampled)
        chance, adjusted = _chances(taus, _mean(self.dealt[picked]))
        order = np.argsort(np.where(np.isnan(taus), np.inf, -taus), kind="stable")
        place = {int(metric): position + 1 for position, metric in enumerate(order)}
        for index, metric in enumerate(self.metrics):
            defined = [part for part in parts if not np.isnan(part.scores[index]).all()]
            kept = [
                len({name for name, score in zip(part.encoders, part.scores[index], strict=True) if not np.isnan(score)})
                for part in defined
            ]
            low, high = interval(boot_taus[index])
            known = not np.isnan(taus[index]) and min(kept) >= FEWEST
            columns = {
                "n_targets": len({part.target for part in defined}),
                "n_comparisons": len(defined),
                "n_encoders": min(kept, default=0),
                "weighted_kendall": float(taus[index]) if not np.isnan(taus[index]) else None,
                "ci_low": low if known else None,
                "ci_high": high if known else None,
                "p_chance": float(chance[index]) if known else None,
                "p_adjusted": float(adjusted[index]) if known else None,
                "top1_regret": float(costs[index]) if not np.isnan(costs[index]) else None,
                "random_regret": _random_regret(defined, index),
                "place": place[index] if not np.isnan(taus[index]) else None,
            }
            columns["regret_low"], columns["regret_high"] = interval(boot_costs[index]) if known else (None, None)
            yield {"metric": metric, **columns, "verdict": _word(columns)}


def _word(columns: dict[str, Any]) -> str:
    if columns["ci_low"] is None:
        return UNKNOWN
    if columns["ci_low"] > 0 and columns["p_adjusted"] < LEVEL:
        return BETTER
    return WORSE if columns["ci_high"] < 0 and columns["p_chance"] > 1 - LEVEL else OPEN


def _mean(values: Float, shares: Float | None = None) -> Float:
    """Return the mean over comparisons [metrics, b] of values [comparisons, metrics, b], what is NaN left out.

    `shares` [comparisons, b] weighs them.
    """
    weights = np.broadcast_to(1.0 if shares is None else shares[:, None, :], values.shape) * ~np.isnan(values)
    total = weights.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray((np.where(np.isnan(values), 0, values) * weights).sum(axis=0) / np.where(total > 0, total, np.nan))


def _chances(observed: Float, dealt: Float) -> tuple[Float, Float]:
    """Return p values [metrics], each alone and adjusted for having tried all metrics.

    Args:
        observed: [metrics].
        dealt: [metrics, deals].
    """
    everything = np.concatenate([np.where(np.isnan(dealt), -np.inf, dealt), observed[:, None]], axis=1)  # (m, deals + 1)
    everything[np.isnan(observed)] = 0  # never small: a metric without a value is not one of those tried
    alone = np.stack([_share_above(row) for row in everything])
    smallest = np.sort(alone.min(axis=0))
    adjusted = np.searchsorted(smallest, alone[:, -1] + ROUNDING, side="right") / everything.shape[1]
    return alone[:, -1], adjusted


def _share_above(values: Float) -> Float:
    """Return for each value the share of all values that are at least as large."""
    ordered = np.sort(values)
    return np.asarray((len(values) - np.searchsorted(ordered, values - ROUNDING, side="left")) / len(values))


def _random_regret(parts: Sequence[Comparison], index: int) -> float | None:
    """Return the mean over comparisons of what a pick at random among the metric's candidates costs."""
    costs = []
    for part in parts:
        accuracies: NDArray[np.float64] = part.accuracies[~np.isnan(part.scores[index])]
        costs.append(float(accuracies.max() - accuracies.mean()))
    return float(np.mean(costs)) if costs else None
