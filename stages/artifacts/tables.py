"""Result tables: schemas, atomic writing with checks, reading. A table is named after the question it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from stages.artifacts import atomic
from stages.errors import InputProblem, nearest

RESULTS = Path("data/results")
PARTS = Path("data/parts")

Kind = type[pl.DataType] | pl.DataType


@dataclass(frozen=True)
class Column:
    """One column: its polars type, its meaning, whether it may be null (null means: not computed), and its bounds."""

    dtype: Kind
    meaning: str
    nullable: bool = False
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Schema:
    """One table: the question it answers, its key columns (sorted by, unique), its other columns, its version.

    A table with `open_columns` may carry further float columns of its own (language features). A table that
    `may_be_empty` has no rows where params.yaml asks for nothing that would fill it, for instance no pruning pair.
    """

    question: str
    keys: Mapping[str, Column]
    values: Mapping[str, Column]
    made_by: str
    version: int = 1
    open_columns: bool = False
    may_be_empty: bool = False

    @property
    def columns(self) -> dict[str, Column]:
        """Return key columns and value columns in order."""
        return {**self.keys, **self.values}


def _text(meaning: str, nullable: bool = False) -> Column:
    return Column(pl.String, meaning, nullable)


def _count(meaning: str, nullable: bool = False) -> Column:
    return Column(pl.Int64, meaning, nullable, low=0)


def _real(meaning: str, nullable: bool = False) -> Column:
    return Column(pl.Float64, meaning, nullable)


def _share(meaning: str, nullable: bool = False) -> Column:
    return Column(pl.Float64, meaning + ", 0 to 1", nullable, low=0, high=1)


def _correlation(meaning: str) -> Column:
    return Column(pl.Float64, meaning + ", -1 to 1", nullable=True, low=-1, high=1)


_WARNING = _text("a degenerate case the reader should know of", nullable=True)
_TARGET = _text("target dataset")
_ENCODER = _text("encoder, as named in params.yaml")
_SEED = _count("repetition, 0 .. seeds-1")

SCHEMAS: dict[str, Schema] = {
    "transferability": Schema(
        "How promising is each encoder and layer for each target?",
        {"target": _TARGET, "encoder": _ENCODER, "layer": _text("tapped layer"), "metric": _text("metric name")},
        {
            "score": _real("the metric's value; null where it is not defined", nullable=True),
            "rank": _count("1 is the most promising among all encoders and layers of this target and metric", nullable=True),
            "higher_is_better": Column(pl.Boolean, "direction of `score`"),
            "n": _count("images scored"),
            "d": _count("feature dimensions"),
            "warning": _WARNING,
        },
        made_by="tables",
    ),
    "finetuned": Schema(
        "How good does each encoder really become on each target?",
        {"target": _TARGET, "encoder": _ENCODER, "mode": _text("`linear` head or `full` fine-tuning"), "seed": _SEED},
        {
            "accuracy": _share("on the test split"),
            "mean_per_class_accuracy": _share("mean of the classes' accuracies"),
            "epochs": _count("passes over the training images; null where the head is fitted to convergence", nullable=True),
        },
        made_by="tables",
    ),
    "agreement": Schema(
        "How well does each metric agree with fine-tuned accuracy?",
        {"target": _TARGET, "metric": _text("metric name"), "mode": _text("ground truth: `linear` or `full`")},
        {
            "n_encoders": _count("encoders compared"),
            "pearson": _correlation("Pearson correlation"),
            "kendall": _correlation("Kendall's tau-b"),
            "weighted_kendall": _correlation("weighted Kendall's tau, hyperbolic weights"),
            "relative_at_1": _real("accuracy of the metric's first pick over the best accuracy", nullable=True),
            "relative_at_3": _real("best accuracy among the metric's first three picks over the best accuracy", nullable=True),
            "top1_regret": _real("best accuracy minus accuracy of the first pick", nullable=True),
            "ci_low": _correlation("2.5% bootstrap quantile of weighted_kendall over encoders"),
            "ci_high": _correlation("97.5% bootstrap quantile of weighted_kendall over encoders"),
            "warning": _WARNING,
        },
        made_by="tables",
    ),
    "pruning_scores": Schema(
        "Which source classes matter for a target?",
        {
            "source": _text("source dataset"),
            "target": _TARGET,
            "method": _text("pruning method"),
            "group": _text("source class, or the method's own group; of the first repetition where the method draws"),
        },
        {
            "score": _real("higher is kept longer"),
            "rank": _count("1 is kept longest"),
            "n_images": _count("training images of the group"),
        },
        made_by="prune",
        may_be_empty=True,
    ),
    "pruning_outcomes": Schema(
        "What does pre-training on what is kept cost, and save?",
        {
            "source": _text("source dataset"),
            "target": _TARGET,
            "method": _text("pruning method, `full` for the whole source, `none` for random weights"),
            "keep_fraction": _share("share of the source's groups kept: its classes, unless the method makes its own"),
            "seed": _SEED,
        },
        {
            "n_classes": _count("source classes kept"),
            "n_images": _count("source training images kept"),
            "pretrain_steps": _count("optimiser steps of the pre-training"),
            "downstream_accuracy": _share("linear head on the target's test split"),
            "full_source_accuracy": _share("the same after pre-training on the whole source with this seed"),
        },
        made_by="prune_proof",
        may_be_empty=True,
    ),
    "probe_curves": Schema(
        "Which head is better on how many labels?",
        {
            "target": _TARGET,
            "encoder": _ENCODER,
            "head": _text("classifier head"),
            "m": _count("training labels"),
            "seed": _SEED,
        },
        {
            "error": _share("on the whole test split"),
            "mean_per_class_error": _share("mean of the classes' errors"),
            "log_loss": _real("mean negative log-likelihood of the true class, nats"),
            "alpha_or_c": _real("the head's regularisation constant, if it has one", nullable=True),
        },
        made_by="tables",
    ),
    "probe_crossover": Schema(
        "From how many labels on does logistic regression beat naive Bayes?",
        {"target": _TARGET, "encoder": _ENCODER},
        {
            "m_star": _real("labels at which the mean error curves cross; null where they do not", nullable=True),
            "ci_low": _real("2.5% bootstrap quantile of m_star over seeds that cross", nullable=True),
            "ci_high": _real("97.5% bootstrap quantile of m_star over seeds that cross", nullable=True),
            "regime": _text("`naive_bayes_first`, `logistic_always` or `no_crossing_seen`"),
            "m_to_asymptote_nb": _real("labels until naive Bayes is within epsilon of its own best", nullable=True),
            "m_to_asymptote_lr": _real("labels until logistic regression is within epsilon of its own best", nullable=True),
        },
        made_by="tables",
    ),
    "language_pairs": Schema(
        "How well does a task transfer from one language to another?",
        {
            "task": _text("task"),
            "source": _text("source language, ISO 639"),
            "target": _text("target language, ISO 639"),
            "n_shots": _count("labelled target examples added to the source's"),
            "seed": _SEED,
        },
        {
            "score": _share("macro-F1 on the target's test names"),
            "n_source": _count("source training examples"),
            "n_target": _count("target test examples"),
        },
        made_by="transfer",
        open_columns=True,
    ),
    "language_effects": Schema(
        "Which language and data features go with good transfer?",
        {"task": _text("task"), "term": _text("feature of the pair")},
        {
            "beta_standardised": _real("ordinary least squares, all columns standardised"),
            "ci_low": _real("lower end of the 95% interval, errors clustered by target", nullable=True),
            "ci_high": _real("upper end of the 95% interval, errors clustered by target", nullable=True),
            "p_value": _share("two-sided, errors clustered by target", nullable=True),
            "vif": _real("variance inflation factor", nullable=True),
        },
        made_by="languages",
        may_be_empty=True,
    ),
    "language_predictions": Schema(
        "What score is expected for a pair that nobody measured?",
        {
            "task": _text("task"),
            "split_protocol": _text("`leave_one_target_out`: no pair of the target language is seen"),
            "model": _text("predictor, baselines included"),
            "source": _text("source language"),
            "target": _text("target language"),
        },
        {
            "score": _share("measured zero-shot score, mean over seeds"),
            "predicted": _share("prediction, clipped"),
            "interval_low": _real("lower end of the 90% interval", nullable=True),
            "interval_high": _real("upper end of the 90% interval", nullable=True),
        },
        made_by="languages",
        may_be_empty=True,
    ),
    "source_languages": Schema(
        "Which source language should one train on for a target?",
        {"task": _text("task"), "target": _text("target language"), "rank": _count("1 is the source to take")},
        {
            "source": _text("source language"),
            "predicted": _share("score predicted without any pair of this target"),
            "measured": _share("score measured zero-shot, mean over seeds"),
            "regret": _share("best measured score of the target minus this source's"),
            "conformal_set": Column(pl.Boolean, "in the set that holds the best source with 90% coverage"),
        },
        made_by="languages",
        may_be_empty=True,
    ),
    "fewshot_curves": Schema(
        "How many labelled target examples does a goal take?",
        {"task": _text("task"), "target": _text("target language")},
        {
            "offset": _real("score at no example by the line fitted on the source that is ranked first"),
            "slope_per_decade": _real("gain for every tenfold of 1 + n"),
            "slope_low": _real("lower end of the slope's 95% interval", nullable=True),
            "slope_high": _real("upper end of the slope's 95% interval", nullable=True),
            "r2_log": _real("R2 of offset + slope log10(1 + n)", nullable=True),
            "r2_linear": _real("R2 of a line in n", nullable=True),
            "r2_step": _real("R2 of zero-shot against any example", nullable=True),
            "n_for_goal": _count("examples to the goal in params.yaml; null with the reason in `warning`", nullable=True),
            "warning": _WARNING,
        },
        made_by="languages",
        may_be_empty=True,
    ),
    "recommendations": Schema(
        "What should one do?",
        {"question": _text("question"), "target": _text("dataset or task/language the answer is for")},
        {
            "answer": _text("the choice"),
            "evidence": _text("the numbers behind it, in words"),
            "margin": _real(
                "encoder: the metric's distance to the best other encoder; head: error of the second head minus that of the "
                "first; source data: tolerance minus the loss of accuracy; source language: predicted score minus that of the "
                "second; else null",
                nullable=True,
            ),
            "warning": _WARNING,
        },
        made_by="recommend",
    ),
}


def _checked(frame: pl.DataFrame, schema: Schema, where: str, leave_out: Sequence[str] = ()) -> pl.DataFrame:
    """Return `frame` with the schema's columns, types and order; raise ValueError where it cannot be."""
    columns = {name: column for name, column in schema.columns.items() if name not in leave_out}
    keys = [name for name in schema.keys if name not in leave_out]
    missing = [name for name in columns if name not in frame.columns]
    extra = [name for name in frame.columns if name not in columns]
    if missing or (extra and not schema.open_columns):
        raise ValueError(f"{where}: columns missing {missing}, not in the schema {extra}")
    frame = frame.select(
        *[pl.col(name).cast(column.dtype) for name, column in columns.items()],
        *[pl.col(name).cast(pl.Float64) for name in sorted(extra)],
    )
    floats = [name for name, dtype in frame.schema.items() if dtype.is_float()]
    if floats:
        frame = frame.with_columns(pl.col(name).fill_nan(None) for name in floats)
        endless = [name for name in floats if frame[name].is_infinite().any()]
        if endless:
            raise ValueError(f"{where}: infinite values in {endless}; missing is null, and nothing is infinite")
    nulls = [name for name, column in columns.items() if not column.nullable and frame[name].null_count()]
    if nulls:
        raise ValueError(f"{where}: null in {nulls}")
    frame = frame.sort(keys)
    if frame.select(keys).is_duplicated().any():
        raise ValueError(f"{where}: keys {keys} are not unique")
    return frame


def _write(frame: pl.DataFrame, path: Path, name: str, version: int) -> None:
    with atomic.new_file(path) as scratch:
        frame.write_parquet(
            scratch, compression="zstd", statistics=True, metadata={"table": name, "schema_version": str(version)}
        )


def result_path(name: str) -> Path:
    """Return where a result table lives."""
    return RESULTS / f"{name}.parquet"


def write(name: str, frame: pl.DataFrame) -> None:
    """Check a table against its schema, sort it by its keys and write it atomically to data/results."""
    schema = SCHEMAS[name]
    _write(_checked(frame, schema, name), result_path(name), name, schema.version)


def write_part(name: str, item: str, frame: pl.DataFrame, *, leave_out: Sequence[str] = ()) -> None:
    """Write one item's rows of a table to data/parts; `leave_out` names columns that only the whole table can have."""
    schema = SCHEMAS[name]
    _write(_checked(frame, schema, f"{name} of {item}", leave_out), PARTS / name / f"{item}.parquet", name, schema.version)


def load_parts(name: str, items: Sequence[str]) -> pl.DataFrame:
    """Read and concatenate the parts of the named items, and of no others."""
    frames = [_read(PARTS / name / f"{item}.parquet", name) for item in items]
    return pl.concat(frames)


def load(name: str) -> pl.DataFrame:
    """Read one result table, for instance `tables.load("agreement")`.

    Raises:
        InputProblem: there is no such table, it has not been made yet, or it is of another schema version.
    """
    if name not in SCHEMAS:
        raise InputProblem(f"there is no table {name!r}; {nearest(name, SCHEMAS)}")
    return _read(result_path(name), name)


def _read(path: Path, name: str) -> pl.DataFrame:
    schema = SCHEMAS[name]
    if not path.is_file():
        raise InputProblem("has not been made yet", where=str(path), next_step=f"dvc repro {schema.made_by}")
    try:
        version = pl.read_parquet_metadata(path).get("schema_version")
        frame = pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise InputProblem(f"is damaged ({error})", where=str(path), next_step=f"dvc repro --force {schema.made_by}") from None
    if version != str(schema.version):
        raise InputProblem(
            f"has schema version {version}, this code reads {schema.version}",
            where=str(path),
            next_step=f"dvc repro {schema.made_by}",
        )
    return frame
