"""Features for the benches of the probe: like pooled features after a ReLU, of correlated dimensions, ten classes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

LATENT, BLOCK = 64, 5000


def blocks(rows: int, dims: int, classes: int, seed: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Yield float32 features [b, dims] and labels [b]; the classes are the same whatever the seed."""
    random, world = np.random.default_rng(seed), np.random.default_rng(99)
    means = world.normal(size=(classes, LATENT)) * 0.46
    mixing = world.normal(size=(LATENT, dims)) / np.sqrt(LATENT)
    bias = world.normal(size=dims) * 0.3
    for start in range(0, rows, BLOCK):
        count = min(BLOCK, rows - start)
        labels = random.integers(0, classes, count)
        latent = means[labels] + random.normal(size=(count, LATENT))
        noise = random.standard_normal(size=(count, dims), dtype=np.float32)
        yield np.maximum((latent @ mixing + bias).astype(np.float32) + 0.5 * noise, 0), labels


def features(rows: int, dims: int, classes: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return float32 features [rows, dims] and labels [rows]."""
    x, y = np.empty((rows, dims), np.float32), np.empty(rows, np.int64)
    at = 0
    for block, labels in blocks(rows, dims, classes, seed):
        x[at : at + len(block)], y[at : at + len(block)] = block, labels
        at += len(block)
    return x, y
