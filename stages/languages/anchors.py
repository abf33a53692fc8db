"""What one to three measured sources of a new target tell about the others: the target's own level.

The error of a prediction is the target's part, with variance between, and the pair's, with variance within. Of the mean error
of k anchors the part k between / (k between + within) is the target's (the best linear predictor of a random effect).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages.languages import conformal
from stages.languages.design import Pairs
from stages.languages.holdout import Calibration, HeldOut

MOST = 3
DRAWS = 20  # sets of anchors drawn for each target, all sources as likely

ANCHORS = {"n_anchors": pl.Int64, "n_targets": pl.Int64, "mae": pl.Float64, "r2": pl.Float64, "coverage": pl.Float64,
           "width": pl.Float64}  # fmt: skip


def variances(errors: NDArray[np.float64], targets: NDArray[np.int64]) -> tuple[float, float]:
    """Return the variance between targets and within them by the analysis of variance; the first is 0 where it is not shown."""
    names, index, counts = np.unique(targets, return_inverse=True, return_counts=True)
    if len(names) < 2 or len(errors) <= len(names):
        return 0.0, 1.0
    means = np.bincount(index, errors) / counts
    within = float(((errors - means[index]) ** 2).sum() / (len(errors) - len(names)))
    among = float((counts * (means - errors.mean()) ** 2).sum() / (len(names) - 1))
    size = (len(errors) - float((counts**2).sum()) / len(errors)) / (len(names) - 1)
    return max(0.0, (among - within) / size), max(within, 1e-12)


def share(calibration: Calibration, k: int) -> float:
    """Return the part of the mean error of `k` anchors that is the target's."""
    between, within = variances(calibration.scores - calibration.predicted, calibration.targets)
    return k * between / (k * between + within) if k else 0.0


def _errors(
    predicted: NDArray[np.float64], scores: NDArray[np.float64], k: int, part: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the errors [draws, n - k] of one target's other sources [n] after each draw of `k` anchors."""
    order = rng.random((DRAWS, len(scores))).argsort(axis=1)
    errors = scores - predicted
    shift = part * errors[order[:, :k]].mean(axis=1, keepdims=True) if k else np.zeros((DRAWS, 1))
    rest = order[:, k:]
    return np.asarray(scores[rest] - np.clip(predicted[rest] + shift, 0.0, 1.0))


def half_width(calibration: Calibration, k: int, coverage: float) -> float | None:
    """Return the half-width of the intervals around predictions shifted by `k` anchors, None where targets are too few."""
    part, rng = share(calibration, k), np.random.default_rng(k)  # which anchors are drawn matters to nobody: any stream will do
    found, groups = [np.empty(0)], [np.empty(0, dtype=np.int64)]
    for target in np.unique(calibration.targets):
        rows = calibration.targets == target
        if rows.sum() > k:
            errors = _errors(calibration.predicted[rows], calibration.scores[rows], k, part, rng).ravel()
            found.append(np.abs(errors))
            groups.append(np.full(len(errors), target))
    return conformal.half_width(np.concatenate(found), np.concatenate(groups), coverage)


def with_anchors(every: Pairs, held: HeldOut, coverage: float, rng: np.random.Generator) -> pl.DataFrame:
    """Return n_anchors 0 to 3, n_targets, mae, r2, coverage, width of a model under a protocol that knows no target.

    Every target with more than three sources is asked for its other sources after each of twenty draws of anchors. R2 is
    against the mean of the scores asked.
    """
    answered = np.isfinite(held.predicted)
    rows = []
    for k in range(MOST + 1):
        blocks = [(share(calibration, k), half_width(calibration, k, coverage)) for calibration in held.calibrations]
        squares, spread, errors, inside, widths, n_targets = 0.0, 0.0, [], [], [], 0
        centre = float(every.scores[answered].mean()) if answered.any() else 0.0
        for target in np.unique(every.target[answered]):
            mine = answered & (every.target == target)
            if mine.sum() <= MOST:
                continue
            n_targets += 1
            part, half = blocks[held.block[mine][0]]
            of_target = _errors(held.predicted[mine], every.scores[mine], k, part, rng)
            weight = 1.0 / of_target.size * mine.sum()
            squares += weight * float((of_target**2).sum())
            spread += float(((every.scores[mine] - centre) ** 2).sum())
            errors.append(np.abs(of_target).mean())
            if half is not None:
                inside.append((np.abs(of_target) <= half + 1e-12).mean())
                widths.append(2 * half)
        r2 = 1 - squares / spread if spread > 1e-12 else None
        rows.append((k, n_targets, _mean(errors), r2, _mean(inside), _mean(widths)))
    return pl.DataFrame(rows, schema=ANCHORS, orient="row")


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def anchor_table(
    evaluated: Mapping[str, tuple[Pairs, Mapping[str, HeldOut]]], protocol: str, rng: np.random.Generator, coverage: float = 0.9
) -> pl.DataFrame:
    """Return `language_anchors` of every task and model under one protocol."""
    keys = ("task", "split_protocol", "model")
    frames = [pl.DataFrame(schema={**dict.fromkeys(keys, pl.String), **ANCHORS})]
    for task, (every, held) in sorted(evaluated.items()):
        for name, of_model in sorted(held.items()):
            if np.isfinite(of_model.predicted).any():
                found = with_anchors(every, of_model, coverage, rng)
                labels = (pl.lit(value).alias(key) for key, value in zip(keys, (task, protocol, name), strict=True))
                frames.append(found.select(*labels, *ANCHORS))
    return pl.concat(frames).sort(*keys, "n_anchors")
