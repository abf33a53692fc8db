"""Gradient boosting of the transfer score (scikit-learn's histogram trees), its number of trees chosen on what is held out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.languages.design import Pairs, Predictor

TREES = (10, 20, 40, 160)
LEARNING_RATE = 0.2
MANY = 10_000  # pairs, from which on more and larger trees are worth their time
TREES_OF_FEW, LEAVES_OF_FEW, LEAVES_OF_MANY = 40, 8, 31
LEAST_IN_LEAF = 10
LEAST_PAIRS = 4 * LEAST_IN_LEAF  # fewer can hardly be split


def base(seen: Pairs, pairs: Pairs) -> NDArray[np.float64]:
    """Return where the trees start [n]: the sum of the known sides' means, without the pair's own score."""
    centre = float(seen.scores.mean())
    start = np.full(len(pairs), centre)
    for side in pairs.means:
        mean = seen.mean_of_others(pairs, side)
        start += np.where(np.isnan(mean), centre, mean) - centre
    return start


def _columns(seen: Pairs, pairs: Pairs) -> NDArray[np.float64]:
    """Return what the trees read [n, f + sides].

    The means of the sides are those of all scores: a mean without the pair's own score would tell the trees that score,
    since it falls where the score rises among pairs of one language.
    """
    return np.column_stack([pairs.features, *(seen.mean(pairs, side) for side in pairs.means)])


def boosting(seen: Pairs) -> Predictor:
    """Fit trees to what the means of the known sides leave of the score; predicts [candidates, n], the fewest trees first.

    Tables of fewer than 10,000 pairs get at most 40 trees, and the candidates with more repeat the last.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    start = base(seen, seen)
    if len(seen) < LEAST_PAIRS:
        return lambda pairs: np.tile(base(seen, pairs), (len(TREES), 1))
    many = len(seen) >= MANY
    model = HistGradientBoostingRegressor(
        learning_rate=LEARNING_RATE,
        max_iter=TREES[-1] if many else TREES_OF_FEW,
        max_leaf_nodes=LEAVES_OF_MANY if many else LEAVES_OF_FEW,
        min_samples_leaf=LEAST_IN_LEAF,
        early_stopping=False,
        random_state=0,  # draws rows for the bins of more than 10,000 pairs, and nothing else
    ).fit(_columns(seen, seen), seen.scores - start)

    def predict(pairs: Pairs) -> NDArray[np.float64]:
        start = base(seen, pairs)
        stages = model.staged_predict(_columns(seen, pairs))
        found = [start + left for count, left in enumerate(stages, start=1) if count in TREES]
        return np.stack(found + found[-1:] * (len(TREES) - len(found)))

    return predict
