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
DRAWS = 10  # sets of anchors drawn for each target, all sources as likely

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


def _in_rows(targets: NDArray[np.int64], *columns: NDArray[np.float64]) -> tuple[NDArray[np.int64], list[NDArray[np.float64]]]:
    """Return the targets and the columns as [targets, most sources of one], NaN beyond a target's own."""
    names, index, counts = np.unique(targets, return_inverse=True, return_counts=True)
    order = np.argsort(index, kind="stable")
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    made = []
    for column in columns:
        padded = np.full((len(names), int(counts.max(initial=0))), np.nan)
        padded[index[order], place] = column[order]
        made.append(padded)
    return names, made


def _errors(
    predicted: NDArray[np.float64],
    scores: NDArray[np.float64],
    k: int,
    part: NDArray[np.float64] | float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return the errors [draws, targets, sources] after each draw of `k` anchors, NaN for anchors and where nothing was asked.

    predicted and scores are [targets, sources], part a number or [targets, 1]. A target of no more than `k` sources has none.
    """
    errors = scores - predicted
    if not k:
        return np.asarray(errors)[None]
    there = np.isfinite(errors)
    keys = np.where(there, rng.random((DRAWS, *errors.shape)), np.inf)
    anchor = there & (keys.argsort(axis=2).argsort(axis=2) < k)
    mean = np.where(anchor, errors, 0.0).sum(axis=2, keepdims=True) / k
    left = scores - np.clip(predicted + part * mean, 0.0, 1.0)
    return np.asarray(np.where(there & ~anchor & (there.sum(axis=1) > k)[:, None], left, np.nan))


def half_width(calibration: Calibration, k: int, coverage: float) -> float | None:
    """Return the half-width of the intervals around predictions shifted by `k` anchors, None where targets are too few."""
    rng = np.random.default_rng(k)  # which anchors are drawn matters to nobody: any stream will do
    names, (predicted, scores) = _in_rows(calibration.targets, calibration.predicted, calibration.scores)
    errors = np.abs(_errors(predicted, scores, k, share(calibration, k), rng))
    known = np.isfinite(errors)
    groups = np.broadcast_to(names[None, :, None], errors.shape)
    return conformal.half_width(errors[known], groups[known], coverage)


def with_anchors(every: Pairs, held: HeldOut, coverage: float, rng: np.random.Generator) -> pl.DataFrame:
    """Return n_anchors 0 to 3, n_targets, mae, r2, coverage, width of a model under a protocol that knows no target.

    Every target with more than three sources is asked for its other sources after each of ten draws of anchors; targets
    count equally. R2 is against the mean of the scores asked.
    """
    answered = np.isfinite(held.predicted)
    columns = (held.predicted[answered], every.scores[answered], held.block[answered].astype(np.float64))
    names, (predicted, scores, blocks) = _in_rows(every.target[answered], *columns)
    enough = np.isfinite(predicted).sum(axis=1) > MOST if len(names) else np.empty(0, dtype=np.bool_)
    predicted, scores = predicted[enough], scores[enough]
    block = blocks[enough, 0].astype(np.int64) if enough.any() else np.empty(0, dtype=np.int64)
    spread = np.nanmean((scores - np.nanmean(scores)) ** 2) if enough.any() else 0.0
    rows: list[tuple[int, int, float | None, float | None, float | None, float | None]] = []
    for k in range(MOST + 1):
        part = np.array([share(calibration, k) for calibration in held.calibrations])[block][:, None]
        widths = [half_width(calibration, k, coverage) for calibration in held.calibrations]
        half = np.array([np.nan if width is None else width for width in widths])[block]
        if not enough.any():
            rows.append((k, 0, None, None, None, None))
            continue
        errors = np.abs(_errors(predicted, scores, k, part, rng))
        r2 = 1 - float(np.nanmean(errors**2)) / spread if spread > 1e-12 else None
        told = np.isfinite(half)
        inside = np.nanmean(np.where(np.isfinite(errors), errors <= half[None, :, None] + 1e-12, np.nan)[:, told], axis=(0, 2))
        covered, wide = (float(inside.mean()), float(2 * half[told].mean())) if told.any() else (None, None)
        rows.append((k, int(enough.sum()), float(np.nanmean(errors, axis=(0, 2)).mean()), r2, covered, wide))
    return pl.DataFrame(rows, schema=ANCHORS, orient="row")


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
