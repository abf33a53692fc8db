"""What several metrics need of the same labelled features: computed once, in float64, and handed to all of them.

NumPy and SciPy where there is no accelerator: the same LAPACK does the work, and a stage that runs once an encoder would
pay seconds for importing torch. No part holds a float64 copy of all rows unless n < d, so that rows may come from a memory map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from stages.errors import InputProblem

if TYPE_CHECKING:
    from stages.rank.accelerator import Accelerator
    from stages.rank.eigen import Eigen

LARGEST = float(np.finfo(np.float32).max)  # fourth powers of what float32 can hold stay within float64
SMALLEST = 1e-75  # and those of smaller differences vanish
BLOCK_VALUES = 1 << 22  # values of float64 held at once by a pass over the rows: 32 MiB

Array = NDArray[Any]
Float = NDArray[np.float64]
T = TypeVar("T")


def as_numpy(values: Any) -> Array:
    """Return a numpy view of an array or torch tensor; torch's bfloat16, which numpy does not have, becomes float32."""
    if hasattr(values, "detach"):  # a torch tensor, recognised without importing torch
        values = values.detach().cpu()
        values = (values.float() if values.is_floating_point() and values.element_size() < 4 else values).numpy()
    return np.asarray(values)


@dataclass(frozen=True)
class Spectrum:
    """The centred features X = F - mean in the basis of their principal axes; k is their numerical rank.

    X = U diag(sqrt(values)) V'. The N x N route (n <= d) knows U; the D x D route knows V where `Statistics` is asked for it.
    """

    values: Float  # [k] eigenvalues of X'X, descending, all positive
    mean: Float  # [k] V' mean
    mean_outside: float  # squared length of the part of the mean outside the span of V
    class_sums: Float  # [k, C] V' X' onehot
    left: Float | None  # U [n, k], where n <= d


class Statistics:
    """Labelled features of one (encoder, layer, target), and what metrics share of them, each computed on first use.

    Features and probabilities are read in blocks of rows from wherever they are, a memory map among others, and never
    written to. Sums are in float64.

    Attributes:
        n: number of samples.
        d: number of feature dimensions.
        labels: [n] positions in `classes`.
        classes: [C] the class ids that occur, ascending; ids may have gaps.
        counts: [C] samples a class, all at least 1.
        n_source_classes: classes S of the source head, or None without one.
        accelerator: where the heavy parts are computed, or None for the CPU.
    """

    def __init__(
        self,
        features: Any,
        labels: Any,
        source_probabilities: Any = None,
        rows: Any = None,
        accelerator: Accelerator | None = None,
    ) -> None:
        """Check the input.

        Args:
            features: [m, d], an array, memory map or torch tensor.
            labels: [n] class ids.
            source_probabilities: [m, S], or None without a source head.
            rows: [n] the rows of `features` and `source_probabilities` that `labels` are of; None for all, n = m.
            accelerator: where to compute what a GPU pays for.

        Raises:
            InputProblem: features or probabilities hold values that are not finite in float32; the message counts them.
            ValueError: shapes do not fit, labels are not integers, or rows of probabilities do not sum to 1.
        """
        self._features, classes = as_numpy(features), as_numpy(labels)
        self._probabilities = None if source_probabilities is None else as_numpy(source_probabilities)
        self._rows: NDArray[np.int64] | None = None if rows is None else as_numpy(rows).astype(np.int64)
        n = len(self._features) if self._rows is None else len(self._rows)
        if self._features.ndim != 2 or classes.shape != (n,) or 0 in (n, *self._features.shape):
            raise ValueError(f"features {self._features.shape}, {n} rows of them, and labels {classes.shape} do not fit")
        if not np.issubdtype(classes.dtype, np.integer):
            raise ValueError(f"labels are {classes.dtype}, not class numbers")
        self.accelerator = accelerator
        self.n, self.d = n, int(self._features.shape[1])
        self.classes, positions = np.unique(classes, return_inverse=True)
        self.labels: NDArray[np.int64] = positions.astype(np.int64)
        self.counts: NDArray[np.int64] = np.bincount(self.labels).astype(np.int64)
        self._axes: Float | None = None
        self._shared: dict[Callable[[Statistics], Any], Any] = {}
        _refuse_endless(self._raw_blocks(), "feature values", self.n * self.d)
        self.n_source_classes: int | None = None
        if self._probabilities is not None:
            self._check_probabilities(self._probabilities)
            self.n_source_classes = int(self._probabilities.shape[1])

    def _check_probabilities(self, matrix: Array) -> None:
        if matrix.ndim != 2 or len(matrix) != len(self._features) or not matrix.shape[1]:
            raise ValueError(f"source probabilities {matrix.shape} are not [{len(self._features)}, S]")
        _refuse_endless(self._blocks_of(matrix), "source probabilities", self.n * matrix.shape[1])
        for _, block in self._blocks_of(matrix):
            sums = block.sum(axis=1, dtype=np.float64)
            if (block < 0).any() or (np.abs(sums - 1) > 0.05).any():  # float16 over thousands of classes loses about 0.01
                raise ValueError("source probabilities must be 0 or more, and their rows must sum to 1")

    @property
    def n_classes(self) -> int:
        """Return the number of classes that occur."""
        return len(self.classes)

    def shared(self, compute: Callable[[Statistics], T]) -> T:
        """Return compute(self), computed once: for what the metrics of one module share beyond this class."""
        if compute not in self._shared:
            self._shared[compute] = compute(self)
        return cast(T, self._shared[compute])

    def _blocks_of(self, matrix: Array) -> Iterator[tuple[slice, Array]]:
        """Yield the wanted rows of `matrix` in blocks, as float32 or float64."""
        size = max(1, BLOCK_VALUES // matrix.shape[1])
        for start in range(0, self.n, size):
            rows = slice(start, min(start + size, self.n))
            yield rows, _raised(matrix[rows if self._rows is None else self._rows[rows]])

    def _raw_blocks(self) -> Iterator[tuple[slice, Array]]:
        return self._blocks_of(self._features)

    def blocks(self) -> Iterator[tuple[slice, Float]]:
        """Yield (row slice, centred rows [<= size, d] in float64) over all rows in order."""
        for rows, block in self._raw_blocks():
            yield rows, np.subtract(block, self.mean, dtype=np.float64)

    def probability_blocks(self) -> Iterator[tuple[slice, Float]]:
        """Yield (row slice, source-class probabilities [<= size, S]) in float64, rows summing to 1 whatever was kept."""
        assert self._probabilities is not None, "ask for n_source_classes first"
        for rows, block in self._blocks_of(self._probabilities):
            exact = block.astype(np.float64)
            yield rows, exact / exact.sum(axis=1, keepdims=True)

    def raw(self, chosen: NDArray[np.int64]) -> Array:
        """Return some rows [len(chosen), d] as they were given, in float32 or float64."""
        return _raised(self._features[chosen if self._rows is None else self._rows[chosen]])

    def raw_of_class(self, position: int) -> Array:
        """Return the rows [n_c, d] of one class as they were given, in float32 or float64."""
        return self.raw(np.flatnonzero(self.labels == position))

    def of_class(self, position: int) -> Float:
        """Return the centred rows [n_c, d] of one class, in float64."""
        return np.asarray(np.subtract(self.raw_of_class(position), self.mean, dtype=np.float64))

    @cached_property
    def mean(self) -> Float:
        """Return the mean of all rows [d]; a second pass over the differences makes it exact under a large offset."""
        first, left_over = np.zeros(self.d), np.zeros(self.d)
        for _, block in self._raw_blocks():
            first += block.sum(axis=0, dtype=np.float64) / self.n
        for _, block in self._raw_blocks():
            left_over += np.subtract(block, first, dtype=np.float64).sum(axis=0)
        return np.asarray(first + left_over / self.n)

    @cached_property
    def _moments(self) -> tuple[Float, Float, Float | None]:
        """Return the squared norms [n], class sums [C, d] and, where n > d, the scatter [d, d]: one pass, one centring."""
        norms, sums = np.empty(self.n), np.zeros((self.n_classes, self.d))

        def seen() -> Iterator[Float]:
            for rows, block in self.blocks():
                np.einsum("nd,nd->n", block, block, out=norms[rows])
                onehot = np.zeros((len(block), self.n_classes))
                onehot[np.arange(len(block)), self.labels[rows]] = 1
                sums[:] += onehot.T @ block
                yield block

        if self.n > self.d:
            scatter = self.gram(seen(), self.d)
            return norms, sums, scatter
        for _ in seen():
            pass
        return norms, sums, None

    @property
    def squared_norms(self) -> Float:
        """Return the squared lengths of the centred rows [n]."""
        return self._moments[0]

    @property
    def class_means(self) -> Float:
        """Return the means of the classes' centred rows [C, d]."""
        return self._moments[1] / self.counts[:, None]

    @property
    def scatter(self) -> Float:
        """Return X'X [d, d] of the centred rows, of which the lower triangle counts; n is above d."""
        scatter = self._moments[2]
        assert scatter is not None, "with n <= d there is the N x N route"
        return scatter

    @cached_property
    def constant(self) -> bool:
        """Return whether all rows are the same."""
        blocks = self._raw_blocks()
        first = next(blocks)[1]
        start = first[:1].astype(np.float64)
        return all(bool((np.abs(block - start) <= SMALLEST).all()) for block in (first, *(block for _, block in blocks)))

    @cached_property
    def _eigen(self) -> Eigen:
        """Return what decomposes the smaller of X'X and XX'."""
        if self.n > self.d:
            gram = self.scatter.copy(order="F")
        else:
            centred = np.concatenate([block for _, block in self.blocks()])  # (n, d)
            gram = self.gram([centred.T], self.n)
        from stages.rank import eigen  # numba, half a second that readers of the registry need not pay

        if self.accelerator:
            return eigen.Dense(*self.accelerator.eigh(gram))
        if self.n > self.d:
            return eigen.Tridiagonal(gram)
        return eigen.Dense(*scipy.linalg.eigh(gram, lower=True, driver="evd", overwrite_a=True, check_finite=False))

    @cached_property
    def spectrum(self) -> Spectrum:
        """Return the eigendecomposition of the centred features, from the smaller of X'X and XX'."""
        if self.constant:  # rounding of the mean would leave a spectrum of noise
            return Spectrum(np.zeros(0), np.zeros(0), float(self.mean @ self.mean), np.zeros((0, self.n_classes)), None)
        sums = self._moments[1].T  # (d, C)
        if self.n > self.d:
            values, turned = self._eigen.spectral(np.column_stack([self.mean, sums]))
            kept = self._rank(values)
            mean = np.ascontiguousarray(turned[:kept, 0])
            return Spectrum(values[:kept], mean, self._outside(mean), np.ascontiguousarray(turned[:kept, 1:]), None)
        onehot = np.zeros((self.n, self.n_classes))
        onehot[np.arange(self.n), self.labels] = 1
        along = np.concatenate([block @ self.mean for _, block in self.blocks()])  # (n,) X mean
        values, turned = self._eigen.spectral(np.column_stack([along, onehot]))
        kept = self._rank(values)
        values = np.ascontiguousarray(values[:kept])
        mean, roots = turned[:kept, 0] / np.sqrt(values), np.sqrt(values)[:, None]
        left = np.ascontiguousarray(self._eigen.leading(kept))
        return Spectrum(values, mean, self._outside(mean), roots * turned[:kept, 1:], left)

    def _rank(self, values: Float) -> int:
        """Return how many eigenvalues are above rounding; values descending."""
        return int((values > max(self.n, self.d) * np.finfo(np.float64).eps * values[0]).sum())

    def _outside(self, inside: Float) -> float:
        """Return the squared length of the mean outside the span, given its coordinates inside."""
        length = float(self.mean @ self.mean)
        left_over = length - float(inside @ inside)
        return left_over if left_over > self.d * np.finfo(np.float64).eps * length else 0.0

    def gram(self, blocks: Iterable[Float], width: int) -> Float:
        """Return sum of block' block [width, width] over blocks [., width]; read its lower triangle alone."""
        if self.accelerator:
            return self.accelerator.gram(blocks, width)
        total = np.zeros((width, width), order="F")
        for block in blocks:  # half the work of a product: dsyrk fills the lower triangle
            total = scipy.linalg.blas.dsyrk(1.0, block.T, beta=1.0, c=total, lower=True, overwrite_c=True)
        return np.asarray(total)

    def project(self, targets: Float) -> Float:
        """Return V' X' targets [k, t] for targets [n, t]."""
        spectrum = self.spectrum
        if spectrum.left is not None:
            return np.asarray(np.sqrt(spectrum.values)[:, None] * (spectrum.left.T @ targets))
        if not len(spectrum.values):
            return np.zeros((0, targets.shape[1]))
        sums = np.zeros((self.d, targets.shape[1]))
        for rows, block in self.blocks():
            sums += block.T @ targets[rows]
        return self._eigen.spectral(sums)[1][: len(spectrum.values)]

    def axes(self, dimensions: int) -> Float:
        """Return at most the first `dimensions` principal axes [d, min(dimensions, k)]; n is above d."""
        count = min(dimensions, len(self.spectrum.values))
        if self._axes is None or self._axes.shape[1] < count:
            self._axes = self._eigen.leading(count) if count else np.zeros((self.d, 0))
        return self._axes[:, :count]

    def principal(self, dimensions: int) -> Float:
        """Return the centred rows on at most the first `dimensions` principal axes [n, min(dimensions, k)]."""
        spectrum = self.spectrum
        kept = min(dimensions, len(spectrum.values))
        if spectrum.left is not None:
            return np.asarray(spectrum.left[:, :kept] * np.sqrt(spectrum.values[:kept]))
        axes = self.axes(kept)
        return np.concatenate([block @ axes for _, block in self.blocks()])


def _raised(block: Array) -> Array:
    """Return float32 and float64 as they are, half precision as float32, whole numbers as float64."""
    if block.dtype in (np.float32, np.float64):
        return block
    return block.astype(np.float32 if np.issubdtype(block.dtype, np.floating) else np.float64)


def _refuse_endless(blocks: Iterator[tuple[slice, Array]], what: str, size: int) -> None:
    wrong = sum(int((~(np.abs(block) <= LARGEST)).sum()) for _, block in blocks)
    if wrong:
        raise InputProblem(
            f"{wrong} of {size} {what} are not finite", next_step="look at the encoder's weights, or extract in float32"
        )
