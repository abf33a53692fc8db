"""The three computations that a GPU pays for, in torch: Gram matrices with their spectra, and both kinds of neighbours.

Everything else that metrics do is small once these are there, and stays on the CPU. Sums are in float64 as they are there:
values agree to rounding, not to the byte. Any torch device with float64 will do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

PAIRS = 1 << 26  # distances held at once: 512 MiB in float64

Float = NDArray[np.float64]


class Accelerator:
    """Linear algebra and neighbours on one torch device; arguments and answers are numpy arrays in main memory."""

    def __init__(self, device: torch.device) -> None:
        """Take the device that all work goes to."""
        self.device = device

    def _there(self, rows: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(rows)).to(self.device)

    def gram(self, blocks: Iterable[Float], d: int) -> Float:
        """Return X'X [d, d] of the rows [., d] of all blocks."""
        total = torch.zeros((d, d), dtype=torch.float64, device=self.device)
        for block in blocks:
            rows = self._there(block)
            total.addmm_(rows.T, rows)
        return np.asarray(total.cpu().numpy())

    def eigh(self, gram: Float) -> tuple[Float, Float]:
        """Return the eigenvalues [d], ascending, and eigenvectors [d, d] of a symmetric matrix."""
        values, vectors = torch.linalg.eigh(self._there(gram))
        return np.asarray(values.cpu().numpy()), np.asarray(vectors.cpu().numpy())

    def kth_distances(self, rows: NDArray[Any], k: int) -> Float:
        """Return each row's Chebyshev distance to its k-th nearest other row [n], for rows [n, d] and n > k."""
        whole = self._there(rows)
        size = max(1, PAIRS // len(rows))
        found = []
        for start in range(0, len(rows), size):
            distances = torch.cdist(whole[start : start + size], whole, p=float("inf"))  # itself included at 0
            found.append(distances.topk(k + 1, dim=1, largest=False).values[:, k].double().cpu().numpy())
        return np.concatenate(found)

    def neighbours(self, centred: Iterable[Float], n: int, k: int) -> NDArray[np.int64]:
        """Return the k nearest other rows of each row [n, k] by Euclidean distance, the nearest first, for centred blocks."""
        whole = torch.cat([self._there(block) for block in centred])
        squares = whole.square().sum(dim=1)
        size = max(1, PAIRS // n)
        found = []
        for start in range(0, n, size):
            block = whole[start : start + size]
            distances = torch.addmm(squares, block, whole.T, alpha=-2)
            own = torch.arange(len(block), device=self.device)
            distances[own, own + start] = torch.inf
            found.append(distances.topk(k, dim=1, largest=False, sorted=True).indices.cpu().numpy())
        return np.concatenate(found)
