"""What is held out when a pair is predicted: each protocol names the unit that a pair is asked in, and what may not be seen.

`leave_one_target_out` is the honest default for a language that nobody measured; `leave_one_family_out` asks what remains where
no relative was measured either; `seen_target` asks for a new source of a measured target; `optimistic` deals out single pairs
at random, so that everything about both languages was seen: it is printed only to show how much it flatters.

A mix of languages is a source of its own: that it holds the target's language tells nothing of the target's scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.languages.design import Pairs
from stages.languages.families import families

FOLDS = 10  # of sources, or of pairs
MOST_UNITS = 150  # beyond which targets are held out several at once, which is stricter and keeps the cost linear


@dataclass(frozen=True)
class Split:
    """A protocol on given pairs.

    unit [n]: the unit that a pair is asked in, -1 for never; involves [n, units]: a pair that involves a unit is not seen when
    the unit is asked; group [n]: pairs whose errors depend on each other, the unit of the conformal intervals; means: the
    sides whose mean score is known when a pair is asked.
    """

    unit: NDArray[np.int64]
    involves: NDArray[np.bool_]
    group: NDArray[np.int64]
    means: tuple[str, ...]

    @property
    def ranks(self) -> bool:
        """Return whether nothing of the target is known, so that its sources are there to be ranked."""
        return "target" not in self.means

    @property
    def n_units(self) -> int:
        """Return the number of units."""
        return int(self.involves.shape[1])

    def seen_without(self, units: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return the pairs [n] that involve none of the units."""
        return np.asarray(~self.involves[:, units].any(axis=1))

    def asked_in(self, units: NDArray[np.int64], dropped: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return the pairs [n] asked in one of the units that involve nothing else of what is dropped.

        So a pair is predicted with all that a single held-out unit leaves to know, whatever is dropped beside it.
        """
        asked = np.isin(self.unit, units)
        return np.asarray(
            asked & (self.involves[:, dropped].sum(axis=1) == self.involves[np.arange(len(self.unit)), self.unit])
        )


Protocol = Callable[[Pairs, np.random.Generator], Split]


def _by_language(pairs: Pairs, of_language: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return each pair's unit and involvement where languages [languages] have units, -1 for none; both sides are involved."""
    n_units = int(of_language.max()) + 1
    involves = np.zeros((len(pairs), n_units), dtype=np.bool_)
    rows = np.arange(len(pairs))
    involves[rows, of_language[pairs.target]] = True
    known = of_language[pairs.source] >= 0
    involves[rows[known], of_language[pairs.source[known]]] = True
    return of_language[pairs.target], involves


def leave_one_target_out(pairs: Pairs, rng: np.random.Generator) -> Split:
    """Hold out a target language, as target and as source."""
    of_language = np.full(len(pairs.languages), -1)
    targets = np.unique(pairs.target)
    of_language[targets] = np.arange(len(targets)) % MOST_UNITS
    return Split(*_by_language(pairs, of_language), pairs.target, ("source",))


def leave_one_family_out(pairs: Pairs, rng: np.random.Generator) -> Split:
    """Hold out the target's whole family, as targets and as sources; a language of no known family is one of its own."""
    names = families(pairs.languages.tolist())
    targets = np.unique(pairs.target)
    held = sorted({names[pairs.languages[target]] for target in targets})
    of_language = np.array([held.index(names[name]) if names[name] in held else -1 for name in pairs.languages.tolist()])
    return Split(*_by_language(pairs, of_language), pairs.target, ("source",))


def seen_target(pairs: Pairs, rng: np.random.Generator) -> Split:
    """Hold out sources in ten groups: what does a new source give on targets that others were measured on?"""
    sources = np.unique(pairs.source)
    order = rng.permutation(len(sources))
    of_language = np.full(len(pairs.languages), -1)
    of_language[sources[order]] = np.arange(len(sources)) % FOLDS
    unit = of_language[pairs.source]
    return Split(unit, unit[:, None] == np.arange(unit.max() + 1), pairs.source, ("target",))


def optimistic(pairs: Pairs, rng: np.random.Generator) -> Split:
    """Hold out single pairs at random, in ten groups; errors count as independent, which they are not."""
    unit = np.empty(len(pairs), dtype=np.int64)
    unit[rng.permutation(len(pairs))] = np.arange(len(pairs)) % FOLDS
    return Split(unit, unit[:, None] == np.arange(unit.max() + 1), np.arange(len(pairs)), ("source", "target"))
