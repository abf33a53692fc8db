"""What goes with good transfer: ordinary least squares on standardised columns, errors clustered by target, and VIF."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from stages.languages.design import feature_columns, zero_shot

MOST_UNKNOWN = 0.2  # of the pairs; a feature unknown more often is left out of the fit
LEVEL = 0.95
DEPENDENT = 1e-8  # share of a column's variance that the columns before it leave; less is rounding

EFFECTS = {
    "task": pl.String, "term": pl.String, "beta_standardised": pl.Float64, "ci_low": pl.Float64, "ci_high": pl.Float64,
    "p_value": pl.Float64, "vif": pl.Float64,
}  # fmt: skip


@dataclass(frozen=True)
class Effects:
    """The table `language_effects`, the R2 of each task's fit, and what was left out, in words."""

    table: pl.DataFrame
    r2: dict[str, float]
    notes: list[str]


def effects(pairs: pl.DataFrame) -> Effects:
    """Fit score = sum of beta x on the zero-shot pairs of each task, all columns standardised (population deviation).

    Intervals and p-values use the t distribution with (targets - 1) degrees of freedom. Left out, each with a note: features
    unknown in more than a fifth of the pairs, constant ones, those that are linear in features before them (by name), and
    the pairs in which a feature that stays is unknown.
    """
    frames, r2, notes = [pl.DataFrame(schema=EFFECTS)], {}, []
    for (task,), rows in zero_shot(pairs).group_by("task", maintain_order=True):
        table, fit, said = _of_task(str(task), rows)
        frames.append(table)
        notes += [f"{task}: {note}" for note in said]
        if fit is not None:
            r2[str(task)] = fit
    return Effects(pl.concat(frames).sort("task", "term"), r2, notes)


@dataclass(frozen=True)
class Columns:
    """What a task's fit reads: values [n, f] of named features, scores and targets [n]."""

    names: list[str]
    values: np.ndarray
    scores: np.ndarray
    targets: np.ndarray


def fit_columns(rows: pl.DataFrame) -> tuple[Columns | None, list[str]]:
    """Return what a least-squares fit can read of one task's zero-shot rows, or None, and notes on what is left out."""
    unknown = [name for name in feature_columns(rows) if rows.get_column(name).null_count() > MOST_UNKNOWN * rows.height]
    notes = [f"{name} left out, unknown for more than {MOST_UNKNOWN:.0%} of the pairs" for name in unknown]
    names = [name for name in feature_columns(rows) if name not in unknown]
    known = rows.drop_nulls(names)
    if known.height < rows.height:
        notes.append(f"{rows.height - known.height} of {rows.height} pairs left out, a feature is unknown")
    values = {name: known.get_column(name).to_numpy().astype(np.float64) for name in names}
    kept, said = independent(values)
    notes += said
    score = known.get_column("score").to_numpy()
    targets = known.get_column("target").rank("dense").to_numpy().astype(np.int64)
    if not kept or known.height <= len(kept) + 1 or len(np.unique(targets)) < 2 or np.ptp(score) == 0:
        return None, [*notes, "no fit: too few pairs or targets, or nothing varies"]
    return Columns(kept, np.column_stack([values[name] for name in kept]), score, targets), notes


def _of_task(task: str, rows: pl.DataFrame) -> tuple[pl.DataFrame, float | None, list[str]]:
    columns, notes = fit_columns(rows)
    if columns is None:
        return pl.DataFrame(schema=EFFECTS), None, notes

    import statsmodels.api as sm

    design = np.column_stack([_standardised(column) for column in columns.values.T])
    model = sm.OLS(_standardised(columns.scores), sm.add_constant(design))
    fitted = model.fit(cov_type="cluster", cov_kwds={"groups": columns.targets}, use_t=True)
    interval = fitted.conf_int(1 - LEVEL)
    table = pl.DataFrame({
        "task": [task] * len(columns.names),
        "term": columns.names,
        "beta_standardised": fitted.params[1:],
        "ci_low": interval[1:, 0],
        "ci_high": interval[1:, 1],
        "p_value": fitted.pvalues[1:],
        "vif": vif(design),
    })  # fmt: skip
    return table.select(pl.col(name).cast(dtype) for name, dtype in EFFECTS.items()), float(fitted.rsquared), notes


def _standardised(column: np.ndarray) -> np.ndarray:
    return np.asarray((column - column.mean()) / column.std())


def independent(values: dict[str, np.ndarray]) -> tuple[list[str], list[str]]:
    """Return the names of the columns that are neither constant nor linear in those kept before, and a note on each other."""
    kept: list[str] = []
    basis: list[np.ndarray] = []
    notes = []
    for name, column in values.items():
        centred = column - column.mean()
        length = np.linalg.norm(centred)
        if length <= DEPENDENT * np.linalg.norm(column) or length == 0:
            notes.append(f"{name} left out, the same for all pairs")
            continue
        rest = centred / length
        for _ in range(2):  # Gram-Schmidt, twice for accuracy
            for direction in basis:
                rest = rest - (rest @ direction) * direction
        left = float(np.linalg.norm(rest))
        if left**2 < DEPENDENT:
            notes.append(f"{name} left out, linear in {', '.join(kept)}")
            continue
        kept.append(name)
        basis.append(rest / left)
    return kept, notes


def vif(design: np.ndarray) -> np.ndarray:
    """Return the variance inflation factors [f] of standardised columns [n, f]: the diagonal of the inverse correlations."""
    correlations = design.T @ design / len(design)
    return np.asarray(np.diag(np.linalg.inv(correlations)))
