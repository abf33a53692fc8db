"""From the pairs table to what models read: zero-shot rows, predictor columns, arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages.errors import InputProblem

FACTS = ("task", "source", "target", "n_shots", "seed", "score", "n_source", "n_target")


def feature_columns(pairs: pl.DataFrame) -> list[str]:
    """Return the columns that may predict: numeric, none of the table's own facts, no `*_coverage`; sorted."""
    return sorted(
        name
        for name, dtype in pairs.schema.items()
        if name not in FACTS and dtype.is_numeric() and not name.endswith("_coverage")
    )


def zero_shot(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return one row for each task, source and other target: score and features averaged over seeds, no target example.

    Raises:
        InputProblem: a needed column is missing.
    """
    missing = [name for name in ("task", "source", "target", "score") if name not in pairs.columns]
    if missing:
        raise InputProblem(f"has no column {missing[0]!r}", where="the table of language pairs", next_step="add it")
    rows = pairs.filter(pl.col("source") != pl.col("target"))
    if "n_shots" in rows.columns:
        rows = rows.filter(pl.col("n_shots") == 0)
    keys = ["task", "source", "target"]
    return rows.group_by(keys).agg(pl.col("score", *feature_columns(rows)).cast(pl.Float64).mean()).sort(keys)


@dataclass(frozen=True)
class Pairs:
    """Pairs of one task as arrays; `source` and `target` [n] are positions in `languages`.

    features [n, f] have NaN where unknown, scores [n] are 0 to 1. `means` names the sides whose mean scores a model may read
    as features: a side that is held out has none when it is asked for, so nothing may be learnt from it before.
    """

    languages: NDArray[np.str_]
    source: NDArray[np.int64]
    target: NDArray[np.int64]
    features: NDArray[np.float64]
    names: tuple[str, ...]
    scores: NDArray[np.float64]
    means: tuple[str, ...] = ("source",)

    @classmethod
    def of(cls, rows: pl.DataFrame, *, languages: NDArray[np.str_] | None = None) -> Pairs:
        """Take rows as `zero_shot` makes them, of one task; positions of `languages` are kept and new languages come after."""
        names = feature_columns(rows)
        known = [] if languages is None else languages.tolist()
        found = {*rows.get_column("source").to_list(), *rows.get_column("target").to_list()}
        every = [*known, *sorted(found - set(known))]
        source, target = (
            rows.get_column(side).replace_strict(every, range(len(every)), return_dtype=pl.Int64).to_numpy()
            for side in ("source", "target")
        )
        features = np.empty((rows.height, 0))
        if names:
            features = rows.select(pl.col(names).cast(pl.Float64).fill_null(np.nan)).to_numpy()
        scores = rows.get_column("score").cast(pl.Float64).fill_null(np.nan).to_numpy()
        return cls(np.array(every, dtype=np.str_), source, target, features, tuple(names), scores)

    @property
    def sources(self) -> NDArray[np.str_]:
        """Return the names of the source languages [n]."""
        return self.languages[self.source]

    @property
    def targets(self) -> NDArray[np.str_]:
        """Return the names of the target languages [n]."""
        return self.languages[self.target]

    def position(self, language: str) -> int:
        """Return a language's position in `languages`, -1 where it is not among them."""
        found = np.flatnonzero(self.languages == language)
        return int(found[0]) if len(found) else -1

    def where(self, mask: NDArray[np.bool_]) -> Pairs:
        """Return the pairs that `mask` [n] marks."""
        source, target, scores = self.source[mask], self.target[mask], self.scores[mask]
        return replace(self, source=source, target=target, features=self.features[mask], scores=scores)

    def mean(self, asked: Pairs, side: str) -> NDArray[np.float64]:
        """Return the mean of these scores over each asked pair's source, or target, [n]; NaN where there are none."""
        size = max(len(self.languages), len(asked.languages))
        mine, wanted = (self.source, asked.source) if side == "source" else (self.target, asked.target)
        total, count = (np.bincount(mine, weights, size)[wanted] for weights in (self.scores, None))
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def mean_of_others(self, asked: Pairs, side: str) -> NDArray[np.float64]:
        """Return the mean of these scores over each asked pair's source, or target ("target"), [n]; NaN where there are none.

        Pairs with the same language on the other side are left out, so that a pair being fitted does not see its own score.
        """
        size = max(len(self.languages), len(asked.languages))
        mine, wanted = (self.source, asked.source) if side == "source" else (self.target, asked.target)
        total, count = (np.bincount(mine, weights, size) for weights in (self.scores, None))
        keys, place = np.unique(
            np.concatenate([self.source * size + self.target, asked.source * size + asked.target]), return_inverse=True
        )
        own, own_of_asked = place[: len(self)], place[len(self) :]
        own_total, own_count = (np.bincount(own, weights, len(keys)) for weights in (self.scores, None))
        left = count[wanted] - own_count[own_of_asked]
        return np.where(left > 0, (total[wanted] - own_total[own_of_asked]) / np.maximum(left, 1), np.nan)

    def knowing(self, means: tuple[str, ...]) -> Pairs:
        """Return the pairs with other sides known."""
        return replace(self, means=means)

    def __len__(self) -> int:
        return len(self.scores)


# Scores [n], or [candidates, n] where the model has a constant that is chosen on what is held out; the simplest candidate comes
# first. NaN where the model has no answer.
Predictor = Callable[[Pairs], NDArray[np.float64]]
Fit = Callable[[Pairs], Predictor]
