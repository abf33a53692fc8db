"""The contract of a transferability metric: statistics in, one score out, with a warning where its assumptions fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from numpy.typing import ArrayLike

from stages.rank.statistics import Statistics


@dataclass(frozen=True)
class Score:
    """A metric's value for one candidate; None where it is not defined, and then `warning` says why."""

    value: float | None
    warning: str | None = None
    higher_is_better: bool = True


@dataclass(frozen=True)
class Metric:
    """A metric.

    Args:
        evaluate: computes the value and an optional warning from the shared statistics; never called for fewer than
            two classes, nor without source-class probabilities where `needs_source_head` is set.
        needs_source_head: it reads source-class probabilities.
        higher_is_better: direction of the value.
    """

    evaluate: Callable[[Statistics], tuple[float | None, str | None]]
    needs_source_head: bool = False
    higher_is_better: bool = True

    def score(self, statistics: Statistics) -> Score:
        """Score one candidate whose statistics are computed already."""
        if len(statistics.counts) < 2:
            return Score(None, "fewer than two classes", self.higher_is_better)
        if self.needs_source_head and statistics.source_probabilities is None:
            return Score(None, "needs a trained source head", self.higher_is_better)
        value, warning = self.evaluate(statistics)
        return Score(value, warning, self.higher_is_better)

    def __call__(self, features: ArrayLike, labels: ArrayLike, source_probabilities: ArrayLike | None = None) -> Score:
        """Score features [n, d] with labels [n] and, where needed, source-class probabilities [n, s].

        Raises:
            InputProblem: shapes do not fit, or values are not finite.
        """
        return self.score(Statistics.of(features, labels, source_probabilities))
