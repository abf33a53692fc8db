"""Memory maps read once from end to end: what has been read need not stay in the process."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 2**26  # bytes read between two releases


class Release:
    """Gives the pages behind a memory-mapped array back as reading goes on; for any other array it does nothing.

    Without it a process seems to hold all of a file that it has read once. The pages stay in the system's cache. A
    copy-on-write map is left alone: what was written to it is nowhere else.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        base: Any = array
        private = False
        while isinstance(base, np.ndarray):
            private |= isinstance(base, np.memmap) and base.mode == "c"
            base = base.base
        shared = isinstance(base, mmap.mmap) and not private
        self._map = base if shared and hasattr(mmap, "MADV_DONTNEED") else None
        self._row_bytes = int(array.strides[0]) if array.ndim and array.size else 0
        self._read = 0

    def after(self, rows: int) -> None:
        """Say that so many more rows have been read."""
        self._read += rows * abs(self._row_bytes)
        if self._read >= _AT_ONCE:
            self.now()

    def now(self) -> None:
        """Give back whatever has been read."""
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)
        self._read = 0
