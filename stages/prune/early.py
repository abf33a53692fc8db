"""Linear heads early in training on frozen features: what EL2N and GraNd look at.

The papers train the whole network for a few epochs from several initialisations. Here the features are the surrogate's,
frozen, and only a softmax head is trained, for EPOCHS passes from zero; the runs differ by the order of the images. So the
scores say which images a head on these features finds hard at first, at a thousandth of the price.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.prune.contract import Matrix, PruneInputs, blocks, labels_of, require_finite

RUNS = 5  # heads to average over; the EL2N paper finds little change beyond ten networks, and heads vary less
EPOCHS = 2
BATCH = 128
RATE = 4.0  # inputs have unit mean square, so the loss curves by at most 1/2 and descent is stable up to 4
_CELLS = 2**22  # (image, class) probabilities in memory at once


@dataclass(frozen=True)
class Scaling:
    """Features standardised and divided by the square root of their number: the mean squared length of a row is 1."""

    mean: NDArray[np.float64]  # [d]
    scale: NDArray[np.float64]  # [d]

    @classmethod
    def of(cls, features: Matrix) -> Scaling:
        """Measure mean and spread in two passes; raises InputProblem where a feature is not finite."""
        n, d = features.shape
        mean = sum((block.sum(axis=0, dtype=np.float64) for _, block in blocks(features)), np.zeros(d)) / n
        require_finite(mean, "the source's features")
        squares = sum((np.square(block - mean).sum(axis=0) for _, block in blocks(features)), np.zeros(d))
        spread = np.sqrt(squares / n)
        return cls(mean, np.sqrt(max(1, d)) * np.where(spread > 0, spread, 1))

    def __call__(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Return the scaled rows with a column of ones [n, d + 1]: the last row of a head's weights is its bias."""
        scaled = np.ones((len(rows), rows.shape[1] + 1), dtype=np.float32)
        scaled[:, :-1] = (rows - self.mean) / self.scale
        return scaled


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities [n, S] of logits [n, S]."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def trained_head(
    features: Matrix, labels: NDArray[np.int64], n_classes: int, scaling: Scaling, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Return a softmax head [d + 1, S] after EPOCHS passes of gradient descent from zero in batches of BATCH.

    Each batch is read in row order, so a source on disk costs reads that go forward.
    """
    head = np.zeros((features.shape[1] + 1, n_classes), dtype=np.float32)
    for _ in range(EPOCHS):
        order = generator.permutation(len(labels))
        for start in range(0, len(order), BATCH):
            chosen = np.sort(order[start : start + BATCH])
            inputs = scaling(features[chosen])
            gap = softmax(inputs @ head)
            gap[np.arange(len(chosen)), labels[chosen]] -= 1
            head -= np.float32(RATE / len(chosen)) * (inputs.T @ gap)
    return head


def error_norms(inputs: PruneInputs) -> Iterator[tuple[slice, NDArray[np.float64], NDArray[np.float64]]]:
    """Yield (row slice, ||p - y|| averaged over the heads [b], length of the head's input [b]) over the source.

    p are a head's probabilities, y the one-hot label. Costs RUNS * EPOCHS passes in random order, and one in order.

    Raises:
        InputProblem: the source has no labels, or a feature is not finite.
    """
    features, labels, n_classes = inputs.source_features, labels_of(inputs), len(inputs.group_names)
    scaling = Scaling.of(features)
    heads = [trained_head(features, labels, n_classes, scaling, inputs.generator) for _ in range(RUNS)]
    for rows, block in blocks(features, max(1, _CELLS // max(1, n_classes))):
        scaled, truth = scaling(block), labels[rows]
        norms = np.zeros(len(truth))
        for head in heads:
            gap = softmax(scaled @ head)
            gap[np.arange(len(truth)), truth] -= 1
            norms += np.sqrt(np.square(gap).sum(axis=1, dtype=np.float64))
        yield rows, norms / len(heads), np.sqrt(np.square(scaled).sum(axis=1, dtype=np.float64))
