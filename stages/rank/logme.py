"""LogME: the maximised log evidence of Bayesian ridge regression on the features, per sample, mean over targets.

You et al., ICML 2021, arXiv 2102.11005: y ~ N(F m, I / beta), m ~ N(0, I / alpha); classification takes the classes
one against the rest. With t = alpha / beta and E(t) = min_m |y - F m|^2 + t |m|^2, the best beta for a given t is n / E(t),
which leaves one unknown:

    log evidence = n/2 ln(n / (2 pi E(t))) - n/2 - 1/2 ln det(I + F'F / t)

Its maximum over ln t is what the paper's fixed point on alpha and beta climbs to; it is found here on a grid and by golden
section, which neither depends on a starting point nor stops early. The determinant runs over the rank of F, so n < d
needs nothing special: the paper's program keeps (d/2) ln alpha beside a sum of min(n, d) terms and is wrong there.

F is not centred. It enters through the spectrum of its centred rows X and, as F'F = X'X + n mean mean', through a rank-one
update (Sherman-Morrison and the determinant lemma): other metrics need that spectrum, and a large offset costs no digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.rank.metric import Finding, Metric, Score
from stages.rank.statistics import Float, Statistics, as_numpy

LOWEST, HIGHEST = 1e-12, 1e8  # range of t over the largest eigenvalue of X'X and of F'F
STEPS = 40  # golden section from a bracket of 2 in ln t: 1e-8 in ln t
GOLDEN = (5**0.5 - 1) / 2
EXACT = 1e-13  # share of a target's variance that is rounding, not residual


@dataclass(frozen=True)
class Evidence:
    """Log evidence per sample of T targets, where it is largest; n and T as in `maximise`."""

    values: Float  # [T]
    alpha: Float  # [T] precision of the weights
    beta: Float  # [T] precision of the noise
    unbounded: bool  # a target is fitted exactly: its evidence grows without end as t falls, and stands at the lowest t


class _Ridge:
    """The profile of the evidence over t for T targets on one spectrum of rank k."""

    def __init__(self, statistics: Statistics, moments: Float, means: Float, squares: Float) -> None:
        spectrum = statistics.spectrum
        self.n = statistics.n
        self.w, self.a, self.p = spectrum.values, spectrum.mean, spectrum.mean_outside
        self.b, self.means = moments, means
        centred = squares - self.n * means**2  # (T,) squared lengths of the centred targets
        self.z2 = moments**2 / self.w[:, None]  # (k, T)
        residual = centred - self.z2.sum(axis=0)
        fitted = residual <= EXACT * self.n * np.maximum(centred, np.finfo(np.float64).tiny)
        self.residual = np.where(fitted, 0.0, residual)
        # With n - 1 = k every target is fitted, and the evidence has a limit.
        self.exact = bool(fitted.any()) and len(self.w) < self.n - 1
        length = self.n * float(statistics.mean @ statistics.mean)
        widest = float(self.w[0]) if len(self.w) else length
        self.range = np.log(LOWEST * (widest or 1.0)), np.log(HIGHEST * (max(widest, length) or 1.0))

    def energies(self, t: Float) -> tuple[Float, Float]:
        """Return E(t) and ln det(I + F'F / t), both [T], for one t a target [T]."""
        inverse = 1 / (t + self.w[:, None])  # (k, T)
        s = np.einsum("k,kt,kt->t", self.a, inverse, self.b)
        q = self.a**2 @ inverse + self.p / t
        energy = self.residual + t * np.einsum("kt,kt->t", inverse, self.z2)
        energy += self.n * (self.means - s) ** 2 / (1 + self.n * q)
        return energy, np.log1p(self.w[:, None] / t).sum(axis=0) + np.log1p(self.n * q)

    def grid(self, t: Float) -> Float:
        """Return the log evidence per sample [G, T] of all targets at common values of t [G]."""
        inverse = 1 / (t[:, None] + self.w)  # (G, k)
        q = inverse @ self.a**2 + self.p / t  # (G,)
        s = (inverse * self.a) @ self.b  # (G, T)
        energy = self.residual + t[:, None] * (inverse @ self.z2)
        energy += self.n * (self.means - s) ** 2 / (1 + self.n * q)[:, None]
        determinant = np.log1p(self.w / t[:, None]).sum(axis=1) + np.log1p(self.n * q)
        return self.values(energy, determinant[:, None])

    def values(self, energy: Float, determinant: Float) -> Float:
        """Return the log evidence per sample."""
        return np.asarray((np.log(self.n / (2 * np.pi * energy)) - 1 - determinant / self.n) / 2)

    def at(self, ln_t: Float) -> Float:
        """Return the log evidence per sample [T] at one ln t a target [T]."""
        return self.values(*self.energies(np.exp(ln_t)))


def maximise(statistics: Statistics, moments: Float, means: Float, squares: Float) -> Evidence:
    """Return the largest evidence of T targets y: moments V'X'y [k, T], mean of y [T], squared length of y [T] (not 0)."""
    ridge = _Ridge(statistics, moments, means, squares)
    low, high = ridge.range
    points = np.linspace(low, high, int(np.ceil(high - low)) + 1)  # at most 1 apart
    best = points[ridge.grid(np.exp(points)).argmax(axis=0)]
    left, right = np.maximum(best - 1, low), np.minimum(best + 1, high)
    inner, outer = right - GOLDEN * (right - left), left + GOLDEN * (right - left)
    at_inner, at_outer = ridge.at(inner), ridge.at(outer)
    for _ in range(STEPS):
        smaller = at_inner >= at_outer  # the maximum lies in [left, outer]
        left, right = np.where(smaller, left, inner), np.where(smaller, outer, right)
        kept, kept_value = np.where(smaller, inner, outer), np.where(smaller, at_inner, at_outer)
        new = np.where(smaller, right - GOLDEN * (right - left), left + GOLDEN * (right - left))
        new_value = ridge.at(new)
        inner, at_inner = np.where(smaller, new, kept), np.where(smaller, new_value, kept_value)
        outer, at_outer = np.where(smaller, kept, new), np.where(smaller, kept_value, new_value)
    middle = (left + right) / 2
    energy, determinant = ridge.energies(np.exp(middle))
    beta = ridge.n / energy
    return Evidence(ridge.values(energy, determinant), beta * np.exp(middle), beta, ridge.exact)


def classification(statistics: Statistics) -> Evidence:
    """Return the evidence of each class against the rest [C]."""
    shares = statistics.counts / statistics.n
    return maximise(statistics, statistics.spectrum.class_sums, shares, statistics.counts.astype(np.float64))


def _finding(statistics: Statistics, evidence: Evidence) -> Finding:
    warning = None
    if statistics.constant:
        warning = "the features are constant"
    elif evidence.unbounded:
        warning = "the features give a target exactly: the evidence has no upper limit, and stands at the least regularisation"
    return float(evidence.values.mean()), warning


def _measure(statistics: Statistics) -> Finding:
    return _finding(statistics, classification(statistics))


logme = Metric(_measure)


def logme_regression(features: Any, targets: Any) -> Score:
    """Return LogME of features [n, d] for real targets [n] or [n, T]; targets of zeros alone have no value."""
    wanted = as_numpy(targets).astype(np.float64)
    wanted = wanted[:, None] if wanted.ndim == 1 else wanted
    if not np.isfinite(wanted).all():
        raise ValueError("targets must be finite")
    statistics = Statistics(features, np.zeros(len(wanted), dtype=np.int64))
    squares = np.einsum("nt,nt->t", wanted, wanted)
    if (squares == 0).any():
        return Score(None, "a target is 0 for all samples", True)
    centred = wanted - wanted.mean(axis=0)
    evidence = maximise(statistics, statistics.project(centred), wanted.mean(axis=0), squares)
    return Score.of(_finding(statistics, evidence), True)
