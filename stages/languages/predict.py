"""What score to expect for a pair that nobody measured: models, an honest protocol, and intervals.

Leave-one-target-out: when a target is predicted, no pair in which it takes part, as target or as source, has been seen. The
intervals are conformal with the target language as the unit: scores of one target are not independent of each other
(hierarchical conformal prediction, Lee, Barber and Willett 2023; Dunn, Wasserman and Ramdas 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages.errors import InputProblem
from stages.languages import MODELS
from stages.languages.baselines import nearest
from stages.languages.design import Fit, Pairs, Predictor, feature_columns, zero_shot
from stages.languages.ridge import target_folds

PROTOCOL = "leave_one_target_out"
COVERAGE = 0.9
CALIBRATION_FOLDS = 10
LEAST_TARGETS = 3
NEAREST = "nearest_"

PREDICTIONS = {
    "task": pl.String, "split_protocol": pl.String, "model": pl.String, "source": pl.String, "target": pl.String,
    "score": pl.Float64, "predicted": pl.Float64, "interval_low": pl.Float64, "interval_high": pl.Float64,
}  # fmt: skip


def model_names(pairs: pl.DataFrame) -> list[str]:
    """Return the models that this table can be asked for: all registered ones, and one `nearest_*` for each distance."""
    distances = [name for name in feature_columns(pairs) if name.endswith("_distance")]
    return [*sorted(MODELS), *(NEAREST + name.removesuffix("_distance") for name in distances)]


def model(name: str) -> Fit:
    """Return a model by name; `nearest_<x>` reads the column `<x>_distance`."""
    return nearest(name.removeprefix(NEAREST) + "_distance") if name.startswith(NEAREST) else MODELS[name]


@dataclass(frozen=True)
class TransferModel:
    """A fitted model of one task with the half-width of its interval (None: too few targets to say)."""

    name: str
    languages: NDArray[np.str_]
    predictor: Predictor
    half_width: float | None

    def predict(self, pairs: pl.DataFrame) -> pl.DataFrame:
        """Return source, target, predicted, interval_low, interval_high of the pairs of one task, sorted.

        `pairs` needs source, target and the feature columns of the fit, and for the `nearest_*` models all sources of a target.
        """
        rows = pairs.sort("source", "target")
        asked = rows if "score" in rows.columns else rows.with_columns(score=pl.lit(None, dtype=pl.Float64))
        predicted = self.predictor(Pairs.of(asked, languages=self.languages))
        return rows.select("source", "target", *_interval(predicted, self.half_width))


def fit_transfer_model(pairs: pl.DataFrame, *, model_name: str = "ridge", coverage: float = COVERAGE) -> TransferModel:
    """Fit one model to all zero-shot pairs of a table with a single task, its interval calibrated on targets left out.

    Raises:
        InputProblem: the table holds several tasks, or fewer than three target languages.
    """
    rows = zero_shot(pairs)
    if rows.get_column("task").n_unique() != 1:
        raise InputProblem("needs the pairs of exactly one task", where="fit_transfer_model", next_step="filter by `task`")
    seen = Pairs.of(rows)
    if len(np.unique(seen.target)) < LEAST_TARGETS:
        raise InputProblem(f"needs {LEAST_TARGETS} targets or more", where="fit_transfer_model", next_step="measure more")
    fit = model(model_name)
    return TransferModel(model_name, seen.languages, fit(seen), conformal_half_width(*calibration(fit, seen), coverage))


def calibration(fit: Fit, seen: Pairs) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return absolute errors [n] and targets [n] of predictions for targets left out in at most ten groups."""
    errors, targets = [], []
    for fold in target_folds(seen.target, CALIBRATION_FOLDS):
        rest, asked = seen.without(fold), seen.into(fold)
        if len(rest):
            error = np.abs(np.clip(fit(rest)(asked), 0.0, 1.0) - asked.scores)
            errors.append(error[~np.isnan(error)])
            targets.append(asked.target[~np.isnan(error)])
    return np.concatenate([np.empty(0), *errors]), np.concatenate([np.empty(0, dtype=np.int64), *targets])


def conformal_half_width(errors: NDArray[np.float64], targets: NDArray[np.int64], coverage: float) -> float | None:
    """Return the half-width that covers a random pair of a new target with probability `coverage`; None where too few targets.

    Of T targets each shares 1/(T+1) of the mass among its errors [n]; the last share lies at infinity, for the new target.
    """
    languages, index, counts = np.unique(targets, return_inverse=True, return_counts=True)
    order = np.argsort(errors, kind="stable")
    mass = np.cumsum(1.0 / counts[index][order]) / (len(languages) + 1)
    reached = np.flatnonzero(mass >= coverage - 1e-12)
    return float(errors[order][reached[0]]) if len(reached) else None


def leave_one_target_out(pairs: pl.DataFrame, *, models: list[str] | None = None, coverage: float = COVERAGE) -> pl.DataFrame:
    """Return `language_predictions`: each pair's score predicted without any pair of its target, by each model.

    Rows for which a model has no answer (always_english where English is the target) are absent. A task with fewer than
    three targets has no rows.
    """
    rows = zero_shot(pairs)
    frames = [pl.DataFrame(schema=PREDICTIONS)]
    for (task,), of_task in rows.group_by("task", maintain_order=True):
        every = Pairs.of(of_task)
        for target in np.unique(every.target):
            seen, asked = every.without(target), every.into(target)
            if len(np.unique(seen.target)) < LEAST_TARGETS - 1:
                continue
            for name in models or model_names(rows):
                fit = model(name)
                predicted = fit(seen)(asked)
                width = conformal_half_width(*calibration(fit, seen), coverage)
                frames.append(
                    pl.DataFrame({"source": asked.sources.tolist(), "target": asked.targets.tolist(), "score": asked.scores})
                    .with_columns(
                        *_interval(predicted, width), task=pl.lit(task), split_protocol=pl.lit(PROTOCOL), model=pl.lit(name)
                    )
                    .filter(pl.col("predicted").is_not_null())
                    .select(pl.col(column).cast(dtype) for column, dtype in PREDICTIONS.items())
                )
    return pl.concat(frames).sort("task", "split_protocol", "model", "source", "target")


def _interval(predicted: NDArray[np.float64], half_width: float | None) -> list[pl.Series]:
    clipped = pl.Series("predicted", np.clip(predicted, 0.0, 1.0)).fill_nan(None)
    if half_width is None:
        ends = [pl.Series(name, [None] * len(clipped), dtype=pl.Float64) for name in ("interval_low", "interval_high")]
    else:
        ends = [
            (clipped - half_width).clip(0, 1).alias("interval_low"),
            (clipped + half_width).clip(0, 1).alias("interval_high"),
        ]
    return [clipped, *ends]


def quality(predictions: pl.DataFrame) -> pl.DataFrame:
    """Return task, split_protocol, model, n, mae, r2, coverage of the predictions, the best model of a task first.

    R2 is against the mean of the task's scores; coverage is the share of scores inside their interval.
    """
    keys = ["task", "split_protocol", "model"]
    error = pl.col("predicted") - pl.col("score")
    return (
        predictions.group_by(keys)
        .agg(
            n=pl.len(),
            mae=error.abs().mean(),
            r2=1 - (error**2).sum() / ((pl.col("score") - pl.col("score").mean()) ** 2).sum(),
            coverage=pl.col("score").is_between(pl.col("interval_low"), pl.col("interval_high")).mean(),
        )
        .sort("task", "split_protocol", "mae", "model")
    )
