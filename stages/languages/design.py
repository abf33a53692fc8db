"""From the pairs table to what models read: zero-shot rows, predictor columns, arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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

    features [n, f] have NaN where unknown, scores [n] are 0 to 1.
    """

    languages: NDArray[np.str_]
    source: NDArray[np.int64]
    target: NDArray[np.int64]
    features: NDArray[np.float64]
    names: tuple[str, ...]
    scores: NDArray[np.float64]

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
        return Pairs(self.languages, self.source[mask], self.target[mask], self.features[mask], self.names, self.scores[mask])

    def without(self, positions: NDArray[np.int64]) -> Pairs:
        """Return the pairs in which none of the languages takes part, neither as target nor as source."""
        return self.where(~self._marked(positions)[self.target] & ~self._marked(positions)[self.source])

    def into(self, positions: NDArray[np.int64]) -> Pairs:
        """Return the pairs whose target is one of the languages."""
        return self.where(self._marked(positions)[self.target])

    def _marked(self, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        marked = np.zeros(len(self.languages), dtype=np.bool_)
        marked[positions] = True
        return marked

    def __len__(self) -> int:
        return len(self.scores)


Predictor = Callable[[Pairs], NDArray[np.float64]]  # scores [n]; NaN where the model has no answer
Fit = Callable[[Pairs], Predictor]
