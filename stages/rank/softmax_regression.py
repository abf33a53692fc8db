"""Multinomial logistic regression to the minimum itself, by Newton's method with conjugate gradients.

    f(W, b) = mean_i -ln softmax(x_i W + b)_{y_i} + 1/2 sum_jc penalty_j W_jc^2

is convex, strictly so in W. Its Hessian is at most 1/2 (X'X / n + penalty) whatever W is (Boehning, Annals of the Institute
of Statistical Mathematics 44, 1992), which on principal axes is diagonal: hand in rows on such axes, or near them, and the
few steps of conjugate gradients that this scaling leaves are all it takes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.rank.fisher import softmax
from stages.rank.statistics import Float

STEPS = 100  # of Newton; ten are usual
INNER = 300  # of conjugate gradients in one of them
SHORTEST = 1e-10  # part of a step
SUFFICIENT = 1e-4  # share of the promised decrease that a step must keep


@dataclass(frozen=True)
class Solution:
    """Weights [k, C] and offsets [C], the smallest value of f, and whether the gradient has vanished there."""

    weights: Float
    offsets: Float
    value: float
    converged: bool


class _Objective:
    """f in coordinates in which its Hessian is at most the identity, the offsets being the last row."""

    def __init__(self, rows: Float, labels: NDArray[np.int64], classes: int, penalty: Float) -> None:
        self.n, k = rows.shape
        bound = np.einsum("nk,nk->k", rows, rows) / self.n / 2 + penalty
        self.scale = np.append(1 / np.sqrt(bound), np.sqrt(2.0))
        self.rows = np.empty((self.n, k + 1))
        np.multiply(rows, self.scale[:-1], out=self.rows[:, :-1])
        self.rows[:, -1] = self.scale[-1]
        self.penalty = np.append(penalty * self.scale[:-1] ** 2, 0.0)[:, None]
        self.labels, self.shape = labels, (k + 1, classes)
        self.each = np.arange(self.n)

    def at(self, point: Float, logits: Float) -> float:
        top = logits.max(axis=1)
        fitted = top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - logits[self.each, self.labels]
        return float(fitted.mean()) + float((self.penalty * point**2).sum()) / 2

    def gradient(self, point: Float, probabilities: Float) -> Float:
        wrong = probabilities.copy()
        wrong[self.each, self.labels] -= 1
        return np.asarray(self.rows.T @ wrong / self.n + self.penalty * point)

    def curvature(self, direction: Float, probabilities: Float) -> Float:
        """Return the Hessian times a direction [k + 1, C]."""
        moved = probabilities * (self.rows @ direction)
        moved -= probabilities * moved.sum(axis=1, keepdims=True)
        return np.asarray(self.rows.T @ moved / self.n + self.penalty * direction)


def _newton_direction(objective: _Objective, gradient: Float, probabilities: Float, tolerance: float) -> Float:
    """Return about -Hessian^-1 gradient, until the residual is under `tolerance`."""
    found, residual = np.zeros_like(gradient), -gradient
    direction, square = residual.copy(), float((residual**2).sum())
    for _ in range(INNER):
        bent = objective.curvature(direction, probabilities)
        curve = float((direction * bent).sum())
        if curve <= np.finfo(np.float64).eps * float((direction**2).sum()):
            break  # flat: all of the gradient that can be followed has been
        step = square / curve
        found += step * direction
        residual -= step * bent
        last, square = square, float((residual**2).sum())
        if square <= tolerance**2:
            break
        direction = residual + square / last * direction
    return found if found.any() else -gradient


def fit(rows: Float, labels: NDArray[np.int64], classes: int, penalty: Float, tolerance: float) -> Solution:
    """Minimise f for rows [n, k] and labels [n] below `classes`, until the gradient is under `tolerance` times the first."""
    objective = _Objective(rows, labels, classes, penalty)
    point = np.zeros(objective.shape)
    point[-1] = np.log(np.maximum(np.bincount(labels, minlength=classes), 0.5) / len(labels)) / objective.scale[-1]
    logits = objective.rows @ point
    value, first, last, near, converged = objective.at(point, logits), 0.0, np.inf, False, False
    for _ in range(STEPS):
        probabilities = softmax(logits)
        gradient = objective.gradient(point, probabilities)
        size = float(np.sqrt((gradient**2).sum()))
        first = first or size
        if size <= tolerance * first or (near and size > last / 2):  # arrived, or as far as rounding lets it
            converged = True
            break
        # Ever tighter towards the minimum: the number of correct digits then grows by half with each step, at the least.
        direction = _newton_direction(objective, gradient, probabilities, size * min(0.1, float(np.sqrt(size / first))))
        moved, slope, step = objective.rows @ direction, float((gradient * direction).sum()), 1.0
        rounding = 8 * np.finfo(np.float64).eps * (value + float(np.abs(logits).max()))
        near, last = bool(-slope <= rounding), size
        while True:
            candidate = objective.at(point + step * direction, logits + step * moved)
            if candidate <= value + SUFFICIENT * step * slope + rounding or step < SHORTEST:
                break
            step /= 2
        point = point + step * direction
        logits, value = logits + step * moved, candidate
    unscaled = point * objective.scale[:, None]
    return Solution(unscaled[:-1], unscaled[-1], value, converged)
