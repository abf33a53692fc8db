"""How far features are from what naive Bayes assumes: dimensions that are independent within a class.

The pooled within-class covariance S, with its correlation matrix R, is that of the Gaussian closest to the classes. The
naive Bayes model closest to that Gaussian keeps its variances alone, and the divergence between the two is the total
correlation (Watanabe 1960)

    KL(N(mu, S) || N(mu, diag S)) = -1/2 log det R        nats, 0 where the dimensions are uncorrelated.

R is singular where there are fewer examples than dimensions, and its noise counts as correlation where there are not many
more. So R is shrunk towards the identity by the weight of Ledoit and Wolf (2004), estimated on the standardised features:
on independent dimensions the weight goes to 1 and the divergence to 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

_BLOCK_ELEMENTS = 2**22  # float64 values of the features held at once: 32 MiB
_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Assumptions:
    """The numbers of one feature matrix; None where they are not defined.

    Args:
        n, d, n_classes: rows, dimensions, classes.
        n_constant: dimensions that do not vary within any class; they are left out of everything below.
        variance_q05 ... variance_q95: quantiles over the dimensions of the shared within-class variance, in squared
            feature units (the mean over the examples, as naive Bayes has it).
        within_share: the median over the dimensions of within-class over total variance, 0 to 1: what the classes leave.
        mean_absolute_correlation: over all pairs of dimensions, within classes, not shrunk.
        correlation_by_chance: what independent Gaussian dimensions would show, sqrt(2 / (pi (n - n_classes))).
        effective_rank_share: (tr R)^2 / (d tr R^2) of the shrunk R, 1/d to 1: the share of the dimensions that as many
            uncorrelated ones would make up (participation ratio).
        shrinkage: Ledoit-Wolf weight of the identity, 0 to 1.
        divergence_per_dim: -1/2 log det of the shrunk R, over d; nats a dimension.
        warning: a degenerate case.
    """

    n: int
    d: int
    n_classes: int
    n_constant: int
    variance_q05: float | None = None
    variance_q25: float | None = None
    variance_q50: float | None = None
    variance_q75: float | None = None
    variance_q95: float | None = None
    within_share: float | None = None
    mean_absolute_correlation: float | None = None
    correlation_by_chance: float | None = None
    effective_rank_share: float | None = None
    shrinkage: float | None = None
    divergence_per_dim: float | None = None
    warning: str | None = None


def assumptions(features: NDArray[Any], labels: NDArray[Any], chosen: NDArray[np.int64] | None = None) -> Assumptions:
    """Measure the assumptions of naive Bayes on features [N, d], finite, and labels [n] of any type.

    Three passes in blocks, so a memory map is never copied whole; time goes like n d^2 and memory like d^2.

    Args:
        features: [N, d].
        labels: [n] of the chosen rows.
        chosen: [n] the rows of `features` to measure on, all of them by default.
    """
    chosen = np.arange(len(features)) if chosen is None else chosen
    classes, codes = np.unique(labels, return_inverse=True)
    n, d, k = len(chosen), features.shape[1], len(classes)
    origin = features[chosen[0]].astype(np.float64)  # a large common offset is gone before anything is summed
    means = np.zeros((k, d))
    for rows, block in _blocks(features, chosen, origin):
        members = (np.ones(len(block)), (codes[rows], np.arange(len(block))))
        means += sparse.csr_array(members, shape=(k, len(block))) @ block
    means /= np.bincount(codes)[:, None]
    mean = np.bincount(codes) @ means / n
    within, total, low, high = np.zeros(d), np.zeros(d), np.full(d, np.inf), np.full(d, -np.inf)
    for rows, block in _blocks(features, chosen, origin):
        total += ((block - mean) ** 2).sum(axis=0)
        block -= means[codes[rows]]
        within += (block**2).sum(axis=0)
        low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
    # Rounding of the class means leaves a constant column with a variance of about the square of its last bit.
    last_bit = np.finfo(np.float64).eps * np.maximum(np.abs(means).max(axis=0), 1e-300)
    varies = high - low > 8 * last_bit
    found: dict[str, Any] = {"n": n, "d": d, "n_classes": k, "n_constant": int(d - varies.sum())}
    if not varies.any():
        return Assumptions(**found, warning="no dimension varies within a class")
    variance = within[varies] / n
    quantiles = np.quantile(variance, _LEVELS).tolist()
    found |= {f"variance_q{round(100 * level):02d}": value for level, value in zip(_LEVELS, quantiles, strict=True)}
    found["within_share"] = float(np.median(within[varies] / total[varies]))
    if varies.sum() < 2:
        return Assumptions(**found, warning="a single dimension varies, which is correlated with none")

    correlation, fourth = np.zeros((len(variance), len(variance))), 0.0
    scale = 1 / np.sqrt(variance)
    for rows, block in _blocks(features, chosen, origin):
        standard = (block - means[codes[rows]])[:, varies] * scale
        correlation += standard.T @ standard
        fourth += float(((standard**2).sum(axis=1) ** 2).sum())
    correlation /= n
    d_varies = len(variance)
    upper = correlation[np.triu_indices(d_varies, 1)]
    squares = 2 * float(upper @ upper)  # of R - I, whose diagonal is 0
    noise = (fourth / n - squares - d_varies) / n
    weight = min(max(noise / squares, 0.0), 1.0) if squares > 0 else 1.0
    shrunk = (1 - weight) * correlation
    shrunk[np.diag_indices(d_varies)] = 1.0
    sign, log_determinant = np.linalg.slogdet(shrunk)
    found |= {
        "mean_absolute_correlation": float(np.abs(upper).mean()),
        "correlation_by_chance": float(np.sqrt(2 / (np.pi * (n - k)))) if n > k else None,
        "effective_rank_share": 1 / (1 + (1 - weight) ** 2 * squares / d_varies),
        "shrinkage": weight,
    }
    if sign <= 0 or not np.isfinite(log_determinant):
        return Assumptions(**found, warning="two dimensions are copies of each other, the divergence is infinite")
    found["divergence_per_dim"] = max(0.0, float(-log_determinant / (2 * d_varies)))
    return Assumptions(**found, warning=_warning(n, k, d_varies, weight))


def _warning(n: int, k: int, d: int, weight: float) -> str | None:
    """Say where the numbers rest on the shrinkage more than on the examples."""
    if weight == 1:
        return "no correlation can be told from noise"
    if n - k < d:
        return f"{n - k} degrees of freedom for {d} dimensions: the divergence rests on shrinkage"
    return None


def _blocks(
    features: NDArray[Any], chosen: NDArray[np.int64], origin: NDArray[np.float64]
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield slices of the chosen rows and their features, float64 and seen from the origin."""
    step = max(_BLOCK_ELEMENTS // features.shape[1], 1)
    for start in range(0, len(chosen), step):
        rows = slice(start, start + step)
        yield rows, features[chosen[rows]] - origin
