"""What the metrics share, computed once for one (encoder, layer, target), in float64.

NumPy rather than torch: at these sizes LAPACK does the work either way, and a stage that ranks one encoder should not
spend more on importing than on computing. Spectra are taken of the smaller of the D x D and N x N matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

from stages.errors import InputProblem

Real = NDArray[np.float64]


@dataclass(frozen=True)
class Spectrum:
    """Singular values of a matrix A [n, d] and what its left singular vectors U say of the classes.

    Attributes:
        squares: [k] squared singular values above the cutoff, descending; k is the numerical rank.
        class_sums: [c, k] sums over the rows of each class of U.
    """

    squares: Real
    class_sums: Real


@dataclass(frozen=True)
class Statistics:
    """One candidate's features and labels, and everything derived from them that more than one metric needs."""

    features: Real  # (n, d)
    labels: NDArray[np.int64]  # (n,) 0 .. c-1, in the order of the sorted original labels
    counts: NDArray[np.int64]  # (c,) every one >= 1
    source_probabilities: Real | None  # (n, s), rows sum to 1

    @classmethod
    def of(cls, features: ArrayLike, labels: ArrayLike, source_probabilities: ArrayLike | None = None) -> Statistics:
        """Check and take over features [n, d], labels [n] and source-class probabilities [n, s]; nothing is changed in place.

        Raises:
            InputProblem: shapes do not fit, there are no rows, values are not finite, or probabilities are negative.
        """
        matrix = np.array(features, dtype=np.float64)
        if matrix.ndim != 2 or 0 in matrix.shape:
            raise InputProblem(f"features must be [n, d] with n, d >= 1, not {list(matrix.shape)}")
        endless = int(np.count_nonzero(~np.isfinite(matrix)))
        if endless:
            raise InputProblem(f"{endless} of {matrix.size} feature values are not finite")
        values = np.asarray(labels)
        if values.shape != (len(matrix),):
            raise InputProblem(f"labels must be [{len(matrix)}], not {list(values.shape)}")
        _, compact, counts = np.unique(values, return_inverse=True, return_counts=True)
        probabilities = None
        if source_probabilities is not None:
            probabilities = np.array(source_probabilities, dtype=np.float64)
            if probabilities.ndim != 2 or len(probabilities) != len(matrix):
                raise InputProblem(f"source probabilities must be [{len(matrix)}, s], not {list(probabilities.shape)}")
            sums = probabilities.sum(axis=1, keepdims=True)
            if not np.isfinite(sums).all() or (probabilities < 0).any() or (sums <= 0).any():
                raise InputProblem("source probabilities must be finite, not negative, and sum to more than 0 in every row")
            probabilities /= sums  # float16 on disk sums to 1 only roughly
        return cls(matrix, compact.astype(np.int64), counts.astype(np.int64), probabilities)

    @property
    def n(self) -> int:
        """Return the number of rows."""
        return len(self.features)

    @property
    def d(self) -> int:
        """Return the number of dimensions."""
        return int(self.features.shape[1])

    @cached_property
    def centred(self) -> Real:
        """Return the features minus their mean, [n, d]."""
        centred: Real = self.features - self.features.mean(axis=0)
        return centred

    def rows_of_class(self, index: int) -> Real:
        """Return the features [n_c, d] of one class."""
        rows: Real = self.features[self.labels == index]
        return rows

    def class_sums(self, matrix: Real) -> Real:
        """Return the sums [c, columns] of a matrix's rows [n, columns] by class."""
        sums = np.zeros((len(self.counts), matrix.shape[1]))
        for index in range(len(self.counts)):
            sums[index] = matrix[self.labels == index].sum(axis=0)
        return sums

    @cached_property
    def raw_spectrum(self) -> Spectrum:
        """Return the spectrum of the features as they are."""
        return self._spectrum(self.features)

    @cached_property
    def centred_spectrum(self) -> Spectrum:
        """Return the spectrum of the centred features."""
        return self._spectrum(self.centred)

    def _spectrum(self, matrix: Real) -> Spectrum:
        wide = self.n < self.d
        gram = matrix @ matrix.T if wide else matrix.T @ matrix
        squares, vectors = linalg.eigh(gram, overwrite_a=True, check_finite=False)
        squares, vectors = squares[::-1], vectors[:, ::-1]
        # Forming the Gram matrix loses half the digits, so directions below this share of the largest are noise.
        cutoff = max(self.n, self.d) * np.finfo(np.float64).eps * max(squares[0], 0.0)
        kept = squares > cutoff
        squares, vectors = squares[kept], vectors[:, kept]
        if wide:
            return Spectrum(squares, self.class_sums(vectors))
        return Spectrum(squares, self.class_sums(matrix) @ vectors / np.sqrt(squares))
