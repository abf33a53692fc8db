"""EMMS: how well linear regression on the features reproduces embeddings of the labels.

Meng et al., NeurIPS 2023, arXiv 2308.06262: K embeddings Z_k [n, e] of the labels, by language models for instance, every
column standardised over the samples, as are those of the features X:

    score = -min over W, and t >= 0 of sum 1, of mean_ij (X W - sum_k t_k Z_k)_ij^2

In [-1, 0]; 0 is a perfect fit. For given t the best W projects on the span of X, which standardising its columns does not
change, so that what is left is the point of a simplex with the smallest t' M t, M_kl = <P Z_k, P Z_l> with P the projection
on what X does not reach. It is found exactly; the paper goes to and fro between W and t, its program once.

`emms` has no embeddings to read: the one-hot labels stand in, K = 1, which for classes of one size is H-score / (C - 1) - 1
and ranks as it does. `emms_embeddings` takes any.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.rank.metric import Finding, Metric, Score, joined
from stages.rank.statistics import Float, Statistics, as_numpy

ONE_HOT = "no label embeddings: one-hot labels stand in for them"


def _fits(statistics: Statistics) -> str | None:
    if statistics.n - 1 > len(statistics.spectrum.values):
        return None
    return f"too few samples ({statistics.n} for {statistics.d} dimensions): regression fits any labels"


def _measure(statistics: Statistics) -> Finding:
    if statistics.constant:
        return -1.0, joined(ONE_HOT, "the features are constant")
    shares = statistics.counts / statistics.n
    spectrum = statistics.spectrum
    explained = (spectrum.class_sums**2 / spectrum.values[:, None]).sum(axis=0) / (shares * (1 - shares)) / statistics.n  # (C,)
    return float(np.clip(explained.mean() - 1, -1, 0)), joined(ONE_HOT, _fits(statistics))


emms = Metric(_measure)


def _standardised(embedding: Float) -> Float:
    centred = embedding - embedding.mean(axis=0)
    spread = np.sqrt((centred**2).mean(axis=0))
    rounding = np.finfo(np.float64).eps * len(embedding) * np.abs(embedding).max(axis=0, initial=0)
    return np.asarray(np.divide(centred, spread, out=np.zeros_like(centred), where=spread > rounding))


def _smallest(gram: Float) -> Float:
    """Return t >= 0 of sum 1 with the smallest t' gram t: the point of a hull nearest to 0, by non-negative least squares."""
    from scipy.optimize import nnls

    values, vectors = np.linalg.eigh(gram / max(float(np.trace(gram)), np.finfo(np.float64).tiny))
    root = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T  # (K, K), root' root = gram
    size = len(gram)
    weights, _ = nnls(np.vstack([root, np.ones(size)]), np.append(np.zeros(size), 1.0))
    return np.asarray(weights / weights.sum())


def emms_embeddings(features: Any, embeddings: Any) -> tuple[Score, Float]:
    """Return EMMS of features [n, d] for label embeddings [n, e, K], and the weights t [K].

    Raises:
        ValueError: the embeddings are not [n, e, K], or not finite.
    """
    given = as_numpy(embeddings).astype(np.float64)
    if given.ndim != 3 or 0 in given.shape or not np.isfinite(given).all():
        raise ValueError(f"label embeddings {given.shape} are not finite numbers [n, e, K]")
    statistics = Statistics(features, np.zeros(len(given), dtype=np.int64))
    targets = [_standardised(given[:, :, kind]) for kind in range(given.shape[2])]
    inside = [statistics.project(target) / np.sqrt(statistics.spectrum.values)[:, None] for target in targets]  # (k, e)
    gram = np.array([
        [float((a * b).sum() - (p * q).sum()) for b, q in zip(targets, inside, strict=True)]
        for a, p in zip(targets, inside, strict=True)
    ])  # fmt: skip
    weights = _smallest(gram)
    value = -float(weights @ gram @ weights) / targets[0].size
    return Score.of((float(np.clip(value, -1, 0)), _fits(statistics)), True), weights
