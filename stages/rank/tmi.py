"""TMI: intra-class feature variance as conditional entropy (Xu and Kang, ICCV 2023, arXiv 2308.05986).

H(Z|Y) by the Kozachenko-Leonenko estimator inside each class, Chebyshev norm, k = 3:

    h_c = psi(n_c) - psi(k) + (D / n_c) sum_i ln(2 e_i),      TMI = mean over kept classes of (n_c / N) h_c

where e_i is the distance to the k-th other neighbour in the class, clamped below at 1. Classes of one sample count 0,
classes of 2 .. k samples are dropped. The score grows with D: `tmi_per_dim` divides by it, and `tmi_unclamped` keeps
distances below 1, with a floor only against repeated rows.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import digamma

from stages.rank.metric import Metric
from stages.rank.statistics import Real, Statistics

NEIGHBOURS = 3
CLAMP = 1.0
FLOOR = 1e-10  # of an unclamped distance: repeated rows have none, and ln 0 is no entropy
_BLOCK = 2**22  # distances held at once, 32 MiB


def kth_neighbour(rows: Real, k: int = NEIGHBOURS) -> Real:
    """Return the Chebyshev distance [n] from each row [n, d] to its k-th other row; n must exceed k."""
    step = max(1, _BLOCK // len(rows))
    distances = np.empty(len(rows))
    for start in range(0, len(rows), step):
        block = cdist(rows[start : start + step], rows, metric="chebyshev")
        # Each row is its own nearest neighbour at distance 0, so the k-th other one is at place k.
        distances[start : start + step] = np.partition(block, k, axis=1)[:, k]
    return distances


def _entropy(statistics: Statistics, clamp: float) -> tuple[float | None, str | None]:
    terms, clamped, measured, dropped = [], 0, 0, 0
    for index, count in enumerate(statistics.counts):
        if count == 1:
            terms.append(0.0)
        elif count <= NEIGHBOURS:
            dropped += 1
        else:
            distances = kth_neighbour(statistics.rows_of_class(index))
            clamped += int(np.count_nonzero(distances < clamp))
            measured += int(count)
            logs = np.log(2 * np.maximum(distances, clamp)).sum()
            entropy = digamma(count) - digamma(NEIGHBOURS) + statistics.d / count * logs
            terms.append(float(count / statistics.n * entropy))
    if not measured:
        return None, f"no class has more than {NEIGHBOURS} samples"
    notes = []
    if dropped:
        notes.append(f"{dropped} classes of 2 to {NEIGHBOURS} samples dropped")
    if clamped == measured:
        notes.append("all distances are below the clamp: the score depends on D and class counts alone")
    elif clamped:
        notes.append(f"{clamped / measured:.0%} of the distances are below the clamp")
    return float(np.mean(terms)), "; ".join(notes) or None


def tmi(statistics: Statistics) -> tuple[float | None, str | None]:
    """Return TMI as published."""
    return _entropy(statistics, CLAMP)


def tmi_unclamped(statistics: Statistics) -> tuple[float | None, str | None]:
    """Return TMI with distances as they are, down to 1e-10."""
    return _entropy(statistics, FLOOR)


def tmi_per_dim(statistics: Statistics) -> tuple[float | None, str | None]:
    """Return TMI divided by the number of dimensions."""
    value, warning = _entropy(statistics, CLAMP)
    return (None if value is None else value / statistics.d), warning


TMI = Metric(tmi)
TMI_UNCLAMPED = Metric(tmi_unclamped)
TMI_PER_DIM = Metric(tmi_per_dim)
