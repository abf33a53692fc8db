"""The classifier that measures transfer: naive Bayes on character n-grams, for all sources at once and warm from shot to shot.

Multinomial naive Bayes on the presence of tokens (n-grams), equal class priors, smoothing ALPHA; tokens unseen in training are
left out. With k_gc the training examples of class c that have token g, and V the tokens seen, a text scores for class c

    sum over its seen g of log(k_gc + a) - log(sum_g k_gc + a V)
  = sum over its seen g of log(1 + k_gc / a)  +  (number of its seen g) (log a - log(sum_g k_gc + a V)).

The first sum is 0 wherever k is 0, so one sparse product scores a text for every source and class. Target examples change it
only in the tokens and classes that they have: the scores without them are kept, and the change is added. Every score is exactly
what a fit from scratch gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

ALPHA = 0.3  # of 0.03, 0.1, 0.3, 0.5, 1 the best in-language macro-F1 on the names


@dataclass(frozen=True)
class Sources:
    """The counts of all sources of one split."""

    counts: sp.csr_matrix  # [vocabulary * classes, sources], row g * classes + c
    gains: sp.csr_matrix  # log(1 + counts / ALPHA) as [vocabulary, classes * sources]
    seen: sp.csr_matrix  # [vocabulary, sources], 1 where a source has the n-gram
    totals: NDArray[np.float64]  # [classes, sources]
    distinct: NDArray[np.float64]  # [sources], n-grams seen

    @classmethod
    def of(cls, present: sp.csr_matrix, labels: NDArray[np.int64], rows: Sequence[NDArray[np.int64]], n_classes: int) -> Self:
        """Count the training `rows` of each source in `present` [n, vocabulary] with class indices `labels` [n]."""
        vocabulary, n_sources = present.shape[1], len(rows)
        all_rows = np.concatenate([np.empty(0, dtype=np.int64), *rows])
        source = np.repeat(np.arange(n_sources), [len(chosen) for chosen in rows])
        column = labels[all_rows] * n_sources + source
        one_hot = sp.csr_matrix(
            (np.ones(len(all_rows)), (np.arange(len(all_rows)), column)), shape=(len(all_rows), n_classes * n_sources)
        )
        wide = (present[all_rows].T.tocsr() @ one_hot).tocsr()  # (vocabulary, classes * sources)
        wide.sort_indices()
        gains = wide.copy()
        gains.data = np.log1p(wide.data / ALPHA)
        seen = sp.csr_matrix((np.ones(wide.nnz), wide.indices % n_sources, wide.indptr.copy()), shape=(vocabulary, n_sources))
        seen.sum_duplicates()
        seen.data[:] = 1.0
        totals = np.asarray(wide.sum(axis=0)).reshape(n_classes, n_sources)
        distinct = np.asarray(seen.sum(axis=0)).ravel()
        counts = wide.reshape((vocabulary * n_classes, n_sources)).tocsr()
        return cls(counts, gains, seen, totals, distinct)


class Target:
    """The test examples of one target, scored for all sources and classes."""

    def __init__(self, sources: Sources, present: sp.csr_matrix, labels: NDArray[np.int64]) -> None:
        """Score the rows of `present` [n, vocabulary] with class indices `labels` [n] without any target example."""
        self.sources, self.labels = sources, labels
        self.n_classes, self.n_sources = sources.totals.shape
        scored = (present @ sources.gains).toarray()
        self.gained = scored.reshape(len(labels), self.n_classes, self.n_sources)
        self.n_seen = (present @ sources.seen).toarray()  # (n, sources)
        self.by_column = present.tocsc()
        self.occurs = np.diff(self.by_column.indptr) > 0  # (vocabulary)

    def predict(self, shots: sp.csr_matrix, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the likeliest class [n, sources] after training on each source and `shots` [m, vocabulary]."""
        gained, n_seen, totals, distinct = self.gained, self.n_seen, self.sources.totals, self.sources.distinct
        if shots.shape[0]:
            gained, n_seen = gained.copy(), n_seen.copy()
            row = np.repeat(np.arange(shots.shape[0]), np.diff(shots.indptr))
            cells, added = np.unique(labels[row] * shots.shape[1] + shots.indices, return_counts=True)
            totals = totals + np.bincount(cells // shots.shape[1], added, self.n_classes)[:, None]
            new = np.unique(shots.indices)
            unseen = 1.0 - self.sources.seen[new].toarray()  # (new, sources)
            distinct = distinct + unseen.sum(axis=0)
            here = self.occurs[new]
            n_seen += self.by_column[:, new[here]] @ unseen[here]
            for label in range(self.n_classes):
                of_class = slice(*np.searchsorted(cells, [label * shots.shape[1], (label + 1) * shots.shape[1]]))
                columns, more = cells[of_class] - label * shots.shape[1], added[of_class, None]
                met = self.occurs[columns]
                columns, more = columns[met], more[met]
                before = self.sources.counts[columns * self.n_classes + label].toarray()
                gained[:, label] += self.by_column[:, columns] @ np.log1p(more / (before + ALPHA))
        per_seen = np.log(ALPHA) - np.log(totals + ALPHA * distinct)
        return np.asarray(np.argmax(gained + n_seen[:, None, :] * per_seen, axis=1), dtype=np.int64)


def macro_f1(truth: NDArray[np.int64], guess: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    """Return for guesses [n, k] of truth [n] the mean F1 [k] = 2 tp / (2 tp + fp + fn) over classes that occur in either."""
    n_columns = guess.shape[1]
    cell = (np.arange(n_columns) * n_classes + truth[:, None]) * n_classes + guess
    confusion = np.bincount(cell.ravel(), minlength=n_columns * n_classes**2).reshape(n_columns, n_classes, n_classes)
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    occurrences: Any = confusion.sum(axis=1) + confusion.sum(axis=2)
    f1 = np.divide(2.0 * hits, occurrences, out=np.zeros(hits.shape), where=occurrences > 0)
    return np.asarray(f1.sum(axis=1) / (occurrences > 0).sum(axis=1))
