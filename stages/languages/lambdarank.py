"""A linear LambdaRank: weights on the features that put good sources of a target first.

Burges, Ragno and Le 2006; Burges 2010, "From RankNet to LambdaRank to LambdaMART". The loss of two sources of one target is
|dNDCG| log(1 + exp(-(s_i - s_j))), with dNDCG what exchanging the two in the present order changes. scikit-learn has no ranker.
With the order held still the loss is convex, so each round is one Newton step, after which the order is taken anew.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.languages.design import Pairs, Predictor
from stages.languages.ridge import Scale, design, paths

TOP = 5  # places of the order whose exchanges count: more than the three that NDCG@3 reads, so that more is learnt from
ROUNDS = 4
PENALTIES = (1.0, 0.1, 0.01)  # of the squared weights, for each target


def gains(scores: NDArray[np.float64], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each pair's gain [n] in 0 to 1: its score's place between the target's worst and best source."""
    _, index = np.unique(targets, return_inverse=True)
    size = int(index.max()) + 1 if len(index) else 0
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    np.minimum.at(low, index, scores)
    np.maximum.at(high, index, scores)
    width = (high - low)[index]
    return np.where(width > 0, (scores - low[index]) / np.where(width > 0, width, 1.0), 0.0)


class _Lists:
    """Features [targets, sources, f] and gains [targets, sources] of ragged lists, padded; `there` marks what is real."""

    def __init__(self, features: NDArray[np.float64], gain: NDArray[np.float64], targets: NDArray[np.int64]) -> None:
        _, index, counts = np.unique(targets, return_inverse=True, return_counts=True)
        order = np.argsort(index, kind="stable")
        place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        shape = (len(counts), int(counts.max()))
        self.features = np.zeros((*shape, features.shape[1]))
        self.gain, self.there = np.zeros(shape), np.zeros(shape, dtype=np.bool_)
        self.features[index[order], place] = features[order]
        self.gain[index[order], place] = gain[order]
        self.there[index[order], place] = True
        self.discount = 1.0 / np.log2(np.arange(shape[1]) + 2.0)
        best = -np.sort(-self.gain, axis=1)
        self.ideal = np.maximum((best * self.discount).sum(axis=1), 1e-12)

    def step(self, weights: NDArray[np.float64], by: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
        """Return the weights after a Newton step on the loss whose exchanges are those of the order by `by`."""
        x = self.features
        n_targets, size, f = x.shape
        order = np.argsort(np.where(self.there, -(x @ by), np.inf), axis=1, kind="stable")
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, np.broadcast_to(np.arange(size), order.shape), axis=1)
        rows = np.arange(n_targets)[:, None]
        first = order[:, :TOP]  # (targets, top)
        head, score = x[rows, first], x @ weights
        apart = self.gain[rows, first][:, :, None] - self.gain[:, None, :]  # (targets, top, sources)
        change = np.abs(apart) * (self.discount[: first.shape[1], None] - self.discount[rank][:, None, :])
        later = rank[:, None, :] > np.arange(first.shape[1])[:, None]
        change *= later & self.there[rows, first][:, :, None] & self.there[:, None, :]
        change /= self.ideal[:, None, None]
        sign = np.sign(apart)
        margin = sign * (score[rows, first][:, :, None] - score[:, None, :])
        wrong = 1.0 / (1.0 + np.exp(np.clip(margin, -50, 50)))
        bend = change * wrong * (1.0 - wrong)
        pull = change * wrong * sign
        flat, flat_head = x.reshape(-1, f), head.reshape(-1, f)
        gradient = pull.sum(axis=2).ravel() @ flat_head - pull.sum(axis=1).ravel() @ flat
        cross = flat_head.T @ (bend @ x).reshape(-1, f)
        hessian = (flat_head.T * bend.sum(axis=2).ravel()) @ flat_head + (flat.T * bend.sum(axis=1).ravel()) @ flat
        hessian -= cross + cross.T
        strength = penalty * n_targets
        return np.asarray(weights + np.linalg.solve(hessian + strength * np.eye(f), gradient - strength * weights))


def lambdarank(seen: Pairs) -> Predictor:
    """Fit the ranking and map it onto the score by a line; predicts [penalties, n].

    The first order is ridge regression's, and each penalty goes on from the one before. The line makes its predictions
    comparable with the regressors', and keeps the order.
    """
    columns = design(seen, seen)
    scale = Scale.of(columns)
    x = scale(columns)
    lists = _Lists(x, gains(seen.scores, seen.target), seen.target)
    weights, by = np.zeros(x.shape[1]), paths(x, seen.scores, np.array([10.0]))[0]
    found = []
    for penalty in PENALTIES:
        for _ in range(ROUNDS):
            weights = by = lists.step(weights, by, penalty)
        ranked = x @ weights
        centred = ranked - ranked.mean()
        slope = max(float(centred @ seen.scores) / max(float(centred @ centred), 1e-12), 1e-6)
        found.append((weights * slope, float(seen.scores.mean()) - slope * float(ranked.mean())))
    lines, starts = np.array([weights for weights, _ in found]), np.array([start for _, start in found])
    return lambda pairs: np.asarray(lines @ scale(design(seen, pairs)).T + starts[:, None])
