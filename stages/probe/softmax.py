"""The optimum of L2-penalised multinomial logistic regression, in few passes over the rows.

For standardised rows z, classes k and the penalty's inverse strength c, over n rows it minimises the mean loss

    f(U, b) = 1/n sum_i -log softmax(U z_i + b)[y_i] + 1/(2 c n) sum_k ||u_k||^2

by L-BFGS (Nocedal and Wright, 2006, algorithm 7.4) that starts from a good inverse Hessian instead of a multiple of the
identity (`stages.probe.curvature`). A pass reads a block of rows once for both of its products, in the rows' own
precision; sums over blocks are float64. Nothing here knows where rows come from: `Rows` may be a memory map.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.probe.curvature import Curvature
from stages.probe.rows import Rows, Scaling

Floats = NDArray[np.float64]
_BLOCK_ELEMENTS = 2**20  # of a block of rows: its second product finds it in the cache
_HISTORY = 20  # pairs of L-BFGS, fewer where they would take more than the next number of elements
_HISTORY_ELEMENTS = 2**26
_SUFFICIENT = 1e-4  # Armijo's constant
_STALE = 4.0  # the curvature is computed anew when the mean doubt of the rows' own classes has changed by this factor
_SINGLE_FLOOR = 1e-9  # the distance to the optimum from which on float32 products are too coarse


@dataclass(frozen=True)
class Optimum:
    """Weights [k, d] and intercepts [k] on the rows x, and how they were reached.

    Args:
        weights, intercepts: of the logits `weights @ x + intercepts`.
        loss: f there.
        distance: estimate of f minus its minimum, half the squared Newton decrement in L-BFGS's Hessian.
        passes: over all rows.
    """

    weights: Floats
    intercepts: Floats
    loss: float
    distance: float
    passes: int
    converged: bool


class _Objective:
    """f and its gradient as functions of one array [k, d + 1]: U, and b as the last column."""

    def __init__(self, rows: Rows, n_classes: int, scaling: Scaling, c: float) -> None:
        self.rows, self.n_classes, self.scaling = rows, n_classes, scaling
        self.n, self.rho = len(rows.codes), 1 / (c * len(rows.codes))
        self.passes, self.precise = 0, False
        self.doubts = np.empty(self.n, np.float32)  # 1 - p of each row's own class, at the last point evaluated
        self.last: Floats = np.zeros((n_classes, rows.n_features + 1))

    def raw(self, point: Floats) -> tuple[Floats, Floats]:
        """Return weights [k, d] and intercepts [k] on the unscaled rows."""
        weights = point[:, :-1] * self.scaling.factor
        return weights, point[:, -1] - weights @ self.scaling.mean

    def point(self, weights: Floats, intercepts: Floats) -> Floats:
        """Return the point of weights and intercepts on the unscaled rows; columns left out lose theirs."""
        factor = self.scaling.factor
        scaled = np.divide(weights, factor, out=np.zeros_like(weights), where=factor > 0)
        return np.column_stack([scaled, intercepts + weights @ self.scaling.mean])

    def __call__(self, point: Floats) -> tuple[float, Floats]:
        self.passes, self.last = self.passes + 1, point
        weights, intercepts = self.raw(point)
        loss, by_weights, by_intercepts = 0.0, np.zeros_like(weights), np.zeros_like(intercepts)
        cast: NDArray[Any] | None = None
        for rows, block in self._blocks():
            if cast is None or cast.dtype != block.dtype:
                cast, bias = weights.astype(block.dtype), intercepts.astype(block.dtype)[:, None]
            logits = cast @ block.T  # (k, b)
            logits += bias
            logits -= logits.max(axis=0)
            own = (self.rows.codes[rows], np.arange(len(block)))
            loss -= float(logits[own].sum(dtype=np.float64))
            np.exp(logits, out=logits)
            total = logits.sum(axis=0)
            loss += float(np.log(total).sum(dtype=np.float64))
            logits /= total
            logits[own] -= 1
            self.doubts[rows] = -logits[own]
            by_weights += logits @ block
            by_intercepts += logits.sum(axis=1, dtype=np.float64)
        by_intercepts /= self.n
        by_weights /= self.n
        by_weights -= np.outer(by_intercepts, self.scaling.mean)
        by_weights *= self.scaling.factor
        scaled = point[:, :-1]
        value = loss / self.n + self.rho / 2 * float(np.vdot(scaled, scaled))
        return value, np.column_stack([by_weights + self.rho * scaled, by_intercepts])

    def _blocks(self) -> Iterator[tuple[slice, NDArray[Any]]]:
        step = min(max(_BLOCK_ELEMENTS // self.rows.n_features, 64), 8192)
        for start in range(0, self.n, step):
            rows = slice(start, min(start + step, self.n))
            block = self.rows.block(rows)
            yield rows, block.astype(np.float64, copy=False) if self.precise else block

    def curvature(self) -> Curvature:
        """Return the approximate Hessian at the last point evaluated."""
        return Curvature(self.rows, *self.raw(self.last), self.doubts, self.scaling, self.rho)


def minimise(
    rows: Rows,
    n_classes: int,
    scaling: Scaling,
    c: float,
    *,
    tol: float,
    max_passes: int,
    start: tuple[Floats, Floats] | None = None,
) -> Optimum:
    """Minimise f until its estimated distance to the minimum is at most `tol`, in nats.

    Args:
        rows: with every class 0 .. n_classes-1 among the codes.
        n_classes: k, at least 2.
        scaling: of the rows.
        c: inverse strength of the penalty, against the sum of the losses.
        tol: distance of the mean loss to its minimum, as estimated.
        max_passes: over all rows.
        start: weights [k, d] and intercepts [k] on the unscaled rows to start from; zeros by default.
    """
    objective = _Objective(rows, n_classes, scaling, c)
    objective.precise = tol < _SINGLE_FLOOR
    zeros = np.zeros((n_classes, rows.n_features + 1))
    point = zeros if start is None else objective.point(*start)
    value, gradient = objective(point)
    curvature = objective.curvature()
    pairs: deque[tuple[Floats, Floats, float]] = deque(maxlen=max(3, min(_HISTORY, _HISTORY_ELEMENTS // (2 * point.size))))
    while True:
        if curvature.stale(objective.doubts, _STALE):
            curvature = objective.curvature()
        step = _direction(gradient, curvature, pairs)
        distance = -float(np.vdot(gradient, step)) / 2
        if distance <= tol or objective.passes >= max_passes:
            break
        found = _search(objective, point, value, gradient, step, max_passes)
        if found is None:  # no descent along this step: begin again from here, then with float64 products
            if not pairs and objective.precise:
                break
            objective.precise |= not pairs
            pairs.clear()
            value, gradient = objective(point)
            curvature = objective.curvature()
            continue
        new_point, new_value, new_gradient = found
        moved, turned = new_point - point, new_gradient - gradient
        curved = float(np.vdot(moved, turned))
        if curved > 0:
            pairs.append((moved, turned, 1 / curved))
        point, value, gradient = new_point, new_value, new_gradient
    weights, intercepts = objective.raw(point)
    return Optimum(weights, intercepts, value, distance, objective.passes, distance <= tol)


def _direction(gradient: Floats, curvature: Curvature, pairs: deque[tuple[Floats, Floats, float]]) -> Floats:
    """Return L-BFGS's descent direction by its two loops."""
    ahead = gradient.copy()
    shares = []
    for moved, turned, inverse in reversed(pairs):
        share = inverse * float(np.vdot(moved, ahead))
        ahead -= share * turned
        shares.append(share)
    step = curvature.solve(ahead)
    if pairs:  # the length of the last pair, as for a multiple of the identity: probabilities have moved since
        _, turned, inverse = pairs[-1]
        step /= inverse * float(np.vdot(turned, curvature.solve(turned)))
    for (moved, turned, inverse), share in zip(pairs, reversed(shares), strict=True):
        step += (share - inverse * float(np.vdot(turned, step))) * moved
    return -step


def _search(
    objective: _Objective, point: Floats, value: float, gradient: Floats, step: Floats, max_passes: int
) -> tuple[Floats, float, Floats] | None:
    """Return the point, value and gradient of a sufficient decrease along `step`, or None where there is none left."""
    slope = float(np.vdot(gradient, step))
    if not slope < 0:
        return None
    noise = 1e-15 if objective.precise else 1e-8
    length = 1.0
    while objective.passes < max_passes or length == 1.0:
        new = point + length * step
        new_value, new_gradient = objective(new)
        if new_value <= value + _SUFFICIENT * length * slope:
            return new, new_value, new_gradient
        # Where rounding hides the decrease, the slope at the new point tells: it is no steeper upwards than it was downwards.
        if new_value <= value + noise * max(1.0, value) and abs(float(np.vdot(new_gradient, step))) < 0.9 * -slope:
            return new, new_value, new_gradient
        if length < 1e-6:
            return None
        fall = -slope * length**2 / (2 * (new_value - value - slope * length))  # the parabola's minimum
        length = min(max(fall, 0.1 * length), 0.5 * length)
    return None
