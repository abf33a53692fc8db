"""What a metric is given, and what it answers: one number and what the reader should know about it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from stages.rank.statistics import Statistics

Finding = tuple[float | None, str | None]  # the value, None where it is not defined, and a warning
Inputs = tuple[Any, Any] | tuple[Any, Any, Any]  # features, labels, source probabilities

NO_HEAD = "needs a source head"
ONE_CLASS = "only one class is present: there is nothing to tell apart"
ONE_CANDIDATE = "needs at least two candidates: the score compares them"
ALL_EQUAL = "all candidates have the same score"


@dataclass(frozen=True)
class Score:
    """A metric's value, None where it is not defined, and a warning for degenerate cases; never NaN or infinite."""

    value: float | None
    warning: str | None
    higher_is_better: bool

    @classmethod
    def of(cls, finding: Finding, higher_is_better: bool) -> Score:
        """Return the score of a finding; a value beyond floating point becomes None and says so."""
        value, warning = finding
        if value is not None and not math.isfinite(value):
            return cls(None, joined(warning, "the value is beyond floating point"), higher_is_better)
        return cls(None if value is None else float(value), warning, higher_is_better)


def joined(*warnings: str | None) -> str | None:
    """Return the warnings that there are as one text, or None."""
    return "; ".join(warning for warning in warnings if warning) or None


def min_max(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each column of [candidates, components] stretched to [0, 1]; a column of equals, which tells nothing, is 0."""
    span = np.ptp(table, axis=0)
    return np.asarray(np.divide(table - table.min(axis=0), span, out=np.zeros_like(table), where=span > 0))


@dataclass(frozen=True)
class Metric:
    """A metric whose value depends on one candidate alone.

    Attributes:
        measure: the definition; it may rely on two classes and, if `needs_source_probabilities`, on probabilities.
    """

    measure: Callable[[Statistics], Finding]
    needs_source_probabilities: bool = False
    higher_is_better: bool = True
    pool: ClassVar[bool] = False

    def __call__(self, features: Any, labels: Any, source_probabilities: Any = None) -> Score:
        """Score features [n, d] with labels [n] and, where there is a source head, probabilities [n, S]."""
        return self.score(Statistics(features, labels, source_probabilities))

    def score(self, statistics: Statistics) -> Score:
        """Score what has been computed for several metrics."""
        refusal = _refusal(statistics, self.needs_source_probabilities)
        return Score.of((None, refusal) if refusal else self.measure(statistics), self.higher_is_better)

    def rows(self, name: str, statistics: Statistics) -> dict[str, Score]:
        """Return what a candidate leaves in its part of the table under this metric's name."""
        return {name: self.score(statistics)}


@dataclass(frozen=True)
class PoolMetric:
    """A metric whose value depends on all candidates for the target, for instance through a min-max over them.

    Each candidate is measured alone, on `components`; what is compared are those few numbers, so that candidates can
    be measured by processes of their own and joined later.

    Attributes:
        components: names of the numbers that `measure` gives for a candidate.
        measure: the numbers of one candidate, in that order, and a warning.
        combine: [candidates, components] -> [candidates] values.
    """

    components: tuple[str, ...]
    measure: Callable[[Statistics], tuple[Sequence[float], str | None]]
    combine: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    needs_source_probabilities: bool = False
    higher_is_better: bool = True
    pool: ClassVar[bool] = True

    def __call__(self, features: Any, labels: Any, source_probabilities: Any = None) -> Score:
        """Score a pool of one, which has no value."""
        return score_pool([(features, labels, source_probabilities)], self)[0]

    def rows(self, name: str, statistics: Statistics) -> dict[str, Score]:
        """Return the components of one candidate, named `<name>:<component>`."""
        refusal = _refusal(statistics, self.needs_source_probabilities)
        values, warning = ([None] * len(self.components), refusal) if refusal else self.measure(statistics)
        return {
            f"{name}:{component}": Score.of((value, warning), self.higher_is_better)
            for component, value in zip(self.components, values, strict=True)
        }

    def join(self, candidates: Sequence[Mapping[str, Score]], name: str = "") -> list[Score]:
        """Turn what `rows` left for each candidate into scores; candidates without numbers get None and stay out."""
        parts = [[candidate[f"{name}:{component}"] for component in self.components] for candidate in candidates]
        complete = [all(score.value is not None for score in part) for part in parts]
        values: dict[int, float] = {}
        if sum(complete) >= 2:
            chosen = [index for index, is_complete in enumerate(complete) if is_complete]
            matrix = np.array([[score.value for score in parts[index]] for index in chosen], dtype=np.float64)
            values = dict(zip(chosen, self.combine(matrix).tolist(), strict=True))
        equal = ALL_EQUAL if values and len(set(values.values())) == 1 else None
        scores = []
        for index, part in enumerate(parts):
            alone = ONE_CANDIDATE if complete[index] and index not in values else None
            said = list(dict.fromkeys(score.warning for score in part))
            tied = equal if index in values else None
            scores.append(Score.of((values.get(index), joined(*said, alone, tied)), self.higher_is_better))
        return scores


AnyMetric = Metric | PoolMetric


def score_pool(inputs: Sequence[Inputs], metric: AnyMetric) -> list[Score]:
    """Score several candidates for one target: (features, labels[, source probabilities]) each; any metric will do."""
    rows = [metric.rows("", Statistics(*candidate)) for candidate in inputs]
    if isinstance(metric, PoolMetric):
        return metric.join(rows)
    return [row[""] for row in rows]


def _refusal(statistics: Statistics, needs_source_probabilities: bool) -> str | None:
    """Return why no metric, or none that needs a source head, has a value here."""
    if statistics.n_classes < 2:
        return ONE_CLASS
    return NO_HEAD if needs_source_probabilities and statistics.n_source_classes is None else None
