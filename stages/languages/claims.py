"""How much each kind of feature says about transfer, and whether typology says more than words do.

The claim of arXiv 2212.01757: similarity of syntax, morphology and phonology predicts cross-lingual transfer better than
lexical similarity. It is tested on every task in two ways: by the adjusted R2 of either group alone, and by the R2 that the
fit of all features loses without it. The intervals resample target languages (cluster bootstrap).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages.languages.design import zero_shot
from stages.languages.explain import LEVEL, fit_columns

# first word or words of a column's name -> kind; the rest is data
KINDS = {
    "syntax": "syntax", "morphology": "morphology", "phonology": "phonology", "inventory": "phonology",
    "word": "lexical", "subword": "lexical", "lexical": "lexical", "character": "lexical", "script": "script",
    "genetic": "genetic", "family": "genetic", "geographic": "geographic",
}  # fmt: skip
TYPOLOGICAL, LEXICAL = ("syntax", "morphology", "phonology"), ("lexical",)
RESAMPLES = 1000
SUPPORTED, CONTRADICTED, UNDECIDED, UNTESTABLE = "supported", "contradicted", "undecided", "not testable"

GROUPS = {
    "task": pl.String, "group": pl.String, "n_terms": pl.Int64, "r2_alone": pl.Float64, "r2_dropped": pl.Float64,
    "ci_low": pl.Float64, "ci_high": pl.Float64,
}  # fmt: skip
CLAIMS = {
    "task": pl.String, "measure": pl.String, "typological": pl.Float64, "lexical": pl.Float64, "difference": pl.Float64,
    "ci_low": pl.Float64, "ci_high": pl.Float64, "verdict": pl.String,
}  # fmt: skip


def kind(term: str) -> str:
    """Return the group of a feature by its name: `syntax_distance` is syntax, `subword_overlap` lexical, all else data."""
    return KINDS.get(term.split("_")[0], "data")


@dataclass(frozen=True)
class Moments:
    """Sums over each target's rows of (1, features, score) times itself, [targets, 2 + f, 2 + f], of one task."""

    names: tuple[str, ...]
    of_target: NDArray[np.float64]

    @classmethod
    def of(
        cls, columns: NDArray[np.float64], scores: NDArray[np.float64], targets: NDArray[np.int64], names: list[str]
    ) -> Moments:
        """Sum up columns [n, f] and scores [n] of targets [n]."""
        _, index = np.unique(targets, return_inverse=True)
        rows = np.column_stack([np.ones(len(scores)), columns, scores])
        sums = np.zeros((int(index.max()) + 1, rows.shape[1], rows.shape[1]))
        for target in range(len(sums)):
            mine = rows[index == target]
            sums[target] = mine.T @ mine
        return cls(tuple(names), sums)

    def resampled(self, rng: np.random.Generator, times: int = RESAMPLES) -> NDArray[np.float64]:
        """Return the moments of `times` samples of the targets, drawn with replacement, [times, 2 + f, 2 + f]."""
        n = len(self.of_target)
        weights = rng.multinomial(n, np.full(n, 1 / n), size=times).astype(np.float64)
        return np.asarray(np.tensordot(weights, self.of_target, axes=1), dtype=np.float64)

    def r2(self, moments: NDArray[np.float64], chosen: list[bool]) -> NDArray[np.float64]:
        """Return the R2 [b] of the fits on the chosen features by moments [b, 2 + f, 2 + f].

        A ridge of 1e-9 of the variance keeps samples solvable in which a feature does not vary.
        """
        at = np.array([i + 1 for i, take in enumerate(chosen) if take], dtype=np.int64)
        count = moments[:, 0, 0]
        means = moments[:, 0, :] / count[:, None]
        centred = moments / count[:, None, None] - means[:, :, None] * means[:, None, :]
        spread = centred[:, -1, -1]
        if not len(at):
            return np.zeros(len(moments))
        inside, across = centred[:, at[:, None], at[None, :]], centred[:, at, -1]
        ridge = 1e-9 * np.maximum(np.trace(inside, axis1=1, axis2=2) / len(at), 1e-12)
        weights = np.linalg.solve(inside + ridge[:, None, None] * np.eye(len(at)), across[:, :, None])[:, :, 0]
        explained = (weights * across).sum(axis=1) / np.maximum(spread, 1e-300)
        return np.asarray(np.clip(explained, 0.0, 1.0), dtype=np.float64)

    def adjusted(self, moments: NDArray[np.float64], chosen: list[bool]) -> NDArray[np.float64]:
        """Return the R2 [b] corrected for the number of features: 1 - (1 - R2) (n - 1) / (n - f - 1)."""
        count, terms = moments[:, 0, 0], sum(chosen)
        return np.asarray(1 - (1 - self.r2(moments, chosen)) * (count - 1) / np.maximum(count - terms - 1, 1.0))


def contributions(pairs: pl.DataFrame, rng: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return `language_groups` and `language_claims` of the zero-shot pairs.

    The features are those of `effects`: unknown, constant and dependent ones are left out, with the same notes there. A task
    that `effects` cannot fit has no groups, and its claim is not testable, as where the table has features of one side only.
    """
    groups, claims = [pl.DataFrame(schema=GROUPS)], [pl.DataFrame(schema=CLAIMS)]
    for (task,), rows in zero_shot(pairs).group_by("task", maintain_order=True):
        columns, _ = fit_columns(rows)
        if columns is None:
            claims.append(_untestable(str(task)))
            continue
        moments = Moments.of(columns.values, columns.scores, columns.targets, columns.names)
        whole, drawn = moments.of_target.sum(axis=0)[None], moments.resampled(rng)
        groups.append(_groups(str(task), moments, whole, drawn))
        claims.append(_claims(str(task), moments, whole, drawn))
    return pl.concat(groups).sort("task", "group"), pl.concat(claims).sort("task", "measure")


def _groups(task: str, moments: Moments, whole: NDArray[np.float64], drawn: NDArray[np.float64]) -> pl.DataFrame:
    kinds = [kind(name) for name in moments.names]
    rows = []
    for group in sorted(set(kinds)):
        inside, outside = [name == group for name in kinds], [name != group for name in kinds]
        lost = _lost(moments, drawn, outside)
        rows.append({
            "task": task, "group": group, "n_terms": sum(inside),
            "r2_alone": max(0.0, float(moments.adjusted(whole, inside)[0])),
            "r2_dropped": float(_lost(moments, whole, outside)[0]), **_interval(lost),
        })  # fmt: skip
    return pl.DataFrame(rows, schema=GROUPS)


def _lost(moments: Moments, of: NDArray[np.float64], without: list[bool]) -> NDArray[np.float64]:
    return np.maximum(moments.r2(of, [True] * len(without)) - moments.r2(of, without), 0.0)


def _interval(values: NDArray[np.float64]) -> dict[str, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"ci_low": float(low), "ci_high": float(high)}


def _claims(task: str, moments: Moments, whole: NDArray[np.float64], drawn: NDArray[np.float64]) -> pl.DataFrame:
    kinds = [kind(name) for name in moments.names]
    typological, lexical = [name in TYPOLOGICAL for name in kinds], [name in LEXICAL for name in kinds]
    if not any(typological) or not any(lexical):
        return _untestable(task)
    rows = []
    for measure in ("alone", "dropped"):
        values = []
        for of in (whole, drawn):
            if measure == "alone":
                values.append([moments.adjusted(of, chosen) for chosen in (typological, lexical)])
            else:
                values.append([_lost(moments, of, [not take for take in chosen]) for chosen in (typological, lexical)])
        (first, second), (firsts, seconds) = values
        interval = _interval(firsts - seconds)
        verdict = SUPPORTED if interval["ci_low"] > 0 else CONTRADICTED if interval["ci_high"] < 0 else UNDECIDED
        rows.append({
            "task": task, "measure": measure, "typological": float(first[0]), "lexical": float(second[0]),
            "difference": float(first[0] - second[0]), **interval, "verdict": verdict,
        })  # fmt: skip
    return pl.DataFrame(rows, schema=CLAIMS)


def _untestable(task: str) -> pl.DataFrame:
    rows = [{"task": task, "measure": measure, "verdict": UNTESTABLE} for measure in ("alone", "dropped")]
    return pl.DataFrame(rows, schema=CLAIMS)
