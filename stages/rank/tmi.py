"""Transferability as intra-class feature variance, measured by a conditional entropy.

TMI, "Transferability Metrics for Selecting Pre-trained Models", ICCV 2023, arXiv 2308.05986: H(Z|Y) by the
Kozachenko-Leonenko k-nearest-neighbour estimator inside each class, Chebyshev norm, k = 3, distances clamped below at 1:

    h_c = psi(n_c) - psi(k) + (d / n_c) sum_i ln(2 e_i),    score = mean over kept classes of (n_c / n) h_c

Classes of one sample count 0; classes of 2 to k samples have no k-th other neighbour and are left out. The score grows
with d (`tmi_per_dim` divides by it), and where all distances are under the clamp it is a function of d and the class
counts alone (`tmi_unclamped` has no clamp).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import digamma

from stages.rank.metric import Finding, Metric, joined
from stages.rank.statistics import Float, Statistics

K = 3
CLAMP = 1.0


def _distances(statistics: Statistics) -> list[Float]:
    """Return each sample's distance to its k-th other neighbour [n_c] by class, none for classes that are too small."""
    if statistics.accelerator:
        kth_distances = statistics.accelerator.kth_distances
    else:
        from stages.rank.chebyshev import kth_distances  # numba, half a second that readers of the registry need not pay

    counts = statistics.counts.tolist()
    return [kth_distances(statistics.raw_of_class(c), K) if count > K else np.zeros(0) for c, count in enumerate(counts)]


@dataclass(frozen=True)
class _Entropy:
    """The mean over classes, and what went into it."""

    value: float | None
    clamped: float  # share of distances that the clamp replaced
    zeros: int  # distances of 0 that were left out
    dropped: int  # classes left out
    singles: int  # classes that count 0


def _conditional_entropy(statistics: Statistics, clamp: float | None) -> _Entropy:
    """Return the score with distances clamped below, or with distances of 0 left out where `clamp` is None."""
    terms: list[float] = []
    under = seen = zeros = dropped = singles = 0
    for count, distances in zip(statistics.counts.tolist(), statistics.shared(_distances), strict=True):
        if count == 1:
            singles += 1
            terms.append(0.0)
            continue
        seen += len(distances)
        if clamp is None:
            zeros += int((distances == 0).sum())
            used = distances[distances > 0]
        else:
            under += int((distances < clamp).sum())
            used = np.maximum(distances, clamp)
        if not len(used):
            dropped += 1
            continue
        entropy = digamma(count) - digamma(K) + statistics.d * float(np.log(2 * used).mean())
        terms.append(count / statistics.n * entropy)
    value = float(np.mean(terms)) if len(terms) > singles else None
    return _Entropy(value, under / seen if seen else 0.0, zeros, dropped, singles)


def _warning(entropy: _Entropy) -> str | None:
    none_left = "no class has a positive distance to its third neighbour" if entropy.value is None else None
    clamped = None
    if entropy.clamped == 1:
        clamped = f"all distances are under the clamp of {CLAMP:g}: the score depends on d and the class counts alone"
    elif entropy.clamped:
        clamped = f"{entropy.clamped:.2%} of the distances are under the clamp of {CLAMP:g}"
    zeros = f"{entropy.zeros} samples have {K} exact copies and are left out" if entropy.zeros else None
    dropped = f"{entropy.dropped} classes are left out (too few distinct samples)" if entropy.dropped else None
    singles = f"{entropy.singles} classes of one sample count 0" if entropy.singles else None
    return joined(none_left, clamped, zeros, dropped, singles)


def _clamped(statistics: Statistics) -> Finding:
    entropy = _conditional_entropy(statistics, CLAMP)
    return entropy.value, _warning(entropy)


def _per_dimension(statistics: Statistics) -> Finding:
    value, warning = _clamped(statistics)
    return None if value is None else value / statistics.d, warning


def _unclamped(statistics: Statistics) -> Finding:
    entropy = _conditional_entropy(statistics, None)
    return entropy.value, _warning(entropy)


tmi = Metric(_clamped)
tmi_per_dim = Metric(_per_dimension)
tmi_unclamped = Metric(_unclamped)
