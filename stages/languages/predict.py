"""What score to expect for a pair that nobody measured: models under protocols, with intervals and sets of stated coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from stages import seeds
from stages.errors import InputProblem
from stages.languages import MODELS, PROTOCOLS, anchors
from stages.languages.baselines import nearest
from stages.languages.design import Fit, Pairs, Predictor, feature_columns, zero_shot
from stages.languages.guards import outside_range
from stages.languages.holdout import BLOCKS, CHOSEN, Calibration, HeldOut, calibrate, hold_out
from stages.languages.protocols import Split

PROTOCOL = "leave_one_target_out"
COVERAGE = 0.9
LEAST_TARGETS = 3
NEAREST = "nearest_"

PREDICTIONS = {
    "task": pl.String, "split_protocol": pl.String, "model": pl.String, "source": pl.String, "target": pl.String,
    "score": pl.Float64, "predicted": pl.Float64, "interval_low": pl.Float64, "interval_high": pl.Float64, "in_set": pl.Boolean,
}  # fmt: skip
QUALITY = {
    "task": pl.String, "split_protocol": pl.String, "model": pl.String, "n": pl.Int64, "mae": pl.Float64, "r2": pl.Float64,
    "coverage": pl.Float64, "width": pl.Float64,
}  # fmt: skip


def model_names(pairs: pl.DataFrame) -> list[str]:
    """Return the models that this table can be asked for: all registered ones, and one `nearest_*` for each distance."""
    distances = [name for name in feature_columns(pairs) if name.endswith("_distance")]
    return [*(NEAREST + name.removesuffix("_distance") for name in distances), *MODELS]


def model(name: str) -> Fit:
    """Return a model by name; `nearest_<x>` reads the column `<x>_distance`."""
    return nearest(name.removeprefix(NEAREST) + "_distance") if name.startswith(NEAREST) else MODELS[name]


def split_of(name: str, pairs: Pairs, task: str, run_seed: int = 0) -> Split:
    """Return a registered protocol's split of the pairs of one task."""
    return PROTOCOLS[name](pairs, seeds.generator(run_seed, "languages", task, "protocol", name))


def evaluate(
    pairs: pl.DataFrame, *, protocol: str = PROTOCOL, models: Sequence[str] | None = None, run_seed: int = 0
) -> dict[str, tuple[Pairs, dict[str, HeldOut]]]:
    """Return for each task its zero-shot pairs and each model's predictions under a protocol.

    A task with fewer than three targets is left out.
    """
    rows = zero_shot(pairs)
    fits = {name: model(name) for name in models or model_names(rows)}
    found = {}
    for (task,), of_task in rows.group_by("task", maintain_order=True):
        every = Pairs.of(of_task)
        if len(np.unique(every.target)) >= LEAST_TARGETS:
            found[str(task)] = every, hold_out(every, split_of(protocol, every, str(task), run_seed), fits)
    return found


def predictions(
    evaluated: Mapping[str, tuple[Pairs, Mapping[str, HeldOut]]], protocol: str, *, coverage: float = COVERAGE
) -> pl.DataFrame:
    """Return the rows of `language_predictions` of one protocol.

    Pairs for which a model has no answer (always_english where English is the target) are absent. `in_set` marks the sources
    that with probability `coverage` hold the target's best one; null where the protocol knows the target.
    """
    frames = [pl.DataFrame(schema=PREDICTIONS)]
    for task, (every, held) in evaluated.items():
        for name, of_model in held.items():
            widths, allowances = (np.full(len(every), np.nan) for _ in range(2))
            for block, calibration in enumerate(of_model.calibrations):
                rows = of_model.block == block
                width = calibration.half_width(coverage)
                widths[rows] = np.nan if width is None else width
                allowances[rows] = calibration.allowance(coverage)
            columns = {"score": every.scores, "predicted": of_model.predicted, "allowance": allowances, "width": widths}
            frame = pl.DataFrame({"source": every.sources.tolist(), "target": every.targets.tolist(), **columns})
            frame = frame.with_columns(pl.col(*columns).fill_nan(None)).filter(pl.col("predicted").is_not_null())
            behind = pl.col("predicted").max().over("target") - pl.col("predicted")
            in_set = behind <= pl.col("allowance") if of_model.ranks else pl.lit(None, dtype=pl.Boolean)
            frame = frame.with_columns(
                *_ends(pl.col("predicted"), pl.col("width")),
                in_set=in_set, task=pl.lit(task), split_protocol=pl.lit(protocol), model=pl.lit(name),
            )  # fmt: skip
            frames.append(frame.select(pl.col(column).cast(dtype) for column, dtype in PREDICTIONS.items()))
    return pl.concat(frames).sort("task", "split_protocol", "model", "source", "target")


def _ends(predicted: pl.Expr, half: pl.Expr) -> list[pl.Expr]:
    low, high = (predicted - half).clip(0, 1), (predicted + half).clip(0, 1)
    return [low.alias("interval_low"), high.alias("interval_high")]


def held_out_predictions(
    pairs: pl.DataFrame,
    *,
    protocol: str = PROTOCOL,
    models: Sequence[str] | None = None,
    coverage: float = COVERAGE,
    run_seed: int = 0,
) -> pl.DataFrame:
    """Return `language_predictions` under one protocol: each pair's score as it is predicted without its held-out unit."""
    return predictions(evaluate(pairs, protocol=protocol, models=models, run_seed=run_seed), protocol, coverage=coverage)


@dataclass(frozen=True)
class TransferModel:
    """A model fitted to all pairs of one task, with the errors that it made on what it had not seen."""

    name: str
    seen: Pairs
    predictor: Predictor
    candidate: int
    calibration: Calibration
    coverage: float

    def predict(self, pairs: pl.DataFrame, *, measured: pl.DataFrame | None = None) -> pl.DataFrame:
        """Return source, target, predicted, interval_low, interval_high, warning of the pairs of one task, sorted.

        Args:
            pairs: source, target and the feature columns of the fit; for the `nearest_*` models all sources of a target.
            measured: anchors, source, target and score of some of these pairs: the predictions of their targets are shifted by
                the part of the anchors' mean error that a target shares, and their intervals are those of as many anchors.
        """
        rows = pairs.sort("source", "target")
        rows = rows if "score" in rows.columns else rows.with_columns(score=pl.lit(None, dtype=pl.Float64))
        asked = Pairs.of(rows, languages=self.seen.languages).knowing(self.seen.means)
        predicted = np.clip(np.atleast_2d(self.predictor(asked))[self.candidate], 0.0, 1.0)
        frame = pl.DataFrame({"source": asked.sources.tolist(), "target": asked.targets.tolist(), "predicted": predicted})
        frame = frame.with_columns(pl.col("predicted").fill_nan(None))
        anchored = measured if measured is not None else frame.select("source", "target", score=pl.lit(None, pl.Float64))
        frame = frame.join(self._shifts(frame, anchored), on="target", how="left", maintain_order="left")
        plain = pl.lit(self.calibration.half_width(self.coverage), dtype=pl.Float64)
        frame = frame.with_columns(
            predicted=(pl.col("predicted") + pl.col("shift").fill_null(0.0)).clip(0, 1),
            half=pl.when(pl.col("shift").is_null()).then(plain).otherwise(pl.col("half")),
        )
        outside = outside_range(self.seen, asked)
        return frame.select(
            "source", "target", "predicted", *_ends(pl.col("predicted"), pl.col("half")),
            warning=pl.col("target").replace_strict(outside, default=None, return_dtype=pl.String),
        )  # fmt: skip

    def _shifts(self, frame: pl.DataFrame, measured: pl.DataFrame) -> pl.DataFrame:
        known = frame.join(measured.select("source", "target", measured="score"), on=["source", "target"]).drop_nulls()
        errors = known.with_columns(error=pl.col("measured") - pl.col("predicted"))
        rows = []
        for (target,), of_target in errors.group_by("target", maintain_order=True):
            k = of_target.height
            shift = anchors.share(self.calibration, k) * float(of_target["error"].to_numpy().mean())
            rows.append((target, shift, anchors.half_width(self.calibration, k, self.coverage)))
        return pl.DataFrame(rows, schema={"target": pl.String, "shift": pl.Float64, "half": pl.Float64}, orient="row")


def fit_transfer_model(
    pairs: pl.DataFrame,
    *,
    model_name: str = CHOSEN,
    protocol: str = PROTOCOL,
    coverage: float = COVERAGE,
    models: Sequence[str] | None = None,
    blocks: int = BLOCKS,
    run_seed: int = 0,
) -> TransferModel:
    """Fit one model to all pairs of a table with a single task, its constants and interval found on what is held out.

    Args:
        pairs: as `zero_shot` reads it, and as it is where a source of mixed languages is measured with target examples.
        model_name: a registered model, `nearest_<x>`, or `chosen`, the one of `models` that predicts best.
        protocol: what is new about the pairs that will be asked: the target by default, the source with `seen_target`.
        coverage: of the intervals.
        models: that `chosen` chooses among; all by default.
        blocks: in which units are held out.
        run_seed: of the protocols that draw.

    Raises:
        InputProblem: the table holds several tasks, or fewer than three target languages.
    """
    rows = zero_shot(pairs)
    if rows.get_column("task").n_unique() != 1:
        raise InputProblem("needs the pairs of exactly one task", where="fit_transfer_model", next_step="filter by `task`")
    seen = Pairs.of(rows)
    if len(np.unique(seen.target)) < LEAST_TARGETS:
        raise InputProblem(f"needs {LEAST_TARGETS} targets or more", where="fit_transfer_model", next_step="measure more")
    split = split_of(protocol, seen, str(rows["task"][0]), run_seed)
    names = list(models or model_names(rows)) if model_name == CHOSEN else [model_name]
    calibration, (name, candidate) = calibrate(seen, split, {name: model(name) for name in names}, blocks=blocks)
    seen = seen.knowing(split.means)
    return TransferModel(name, seen, model(name)(seen), candidate, calibration, coverage)


def quality(predicted: pl.DataFrame) -> pl.DataFrame:
    """Return task, split_protocol, model, n, mae, r2, coverage, width of predictions, the best model of a task first.

    R2 is against the mean of the scores predicted, null where they are all equal; coverage is the share of scores inside their
    interval and width the mean length of the intervals.
    """
    keys = ["task", "split_protocol", "model"]
    error = pl.col("predicted") - pl.col("score")
    spread = ((pl.col("score") - pl.col("score").mean()) ** 2).sum()
    return (
        predicted.group_by(keys)
        .agg(
            n=pl.len(),
            mae=error.abs().mean(),
            r2=pl.when(spread > 1e-12).then(1 - (error**2).sum() / spread),
            coverage=pl.col("score").is_between(pl.col("interval_low"), pl.col("interval_high")).mean(),
            width=(pl.col("interval_high") - pl.col("interval_low")).mean(),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in QUALITY.items())
        .sort("task", "split_protocol", "mae", "model")
    )
