"""Pages given back are read again from the file; what is in memory alone is never given back."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from stages.mapped import Release


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_what_was_written_to_a_map_is_there_after_the_release(mode: Literal["r", "r+", "c"], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((64, 1024), dtype=np.float32))
    mapped = np.load(tmp_path / "x.npy", mmap_mode=mode)
    if mode != "r":
        mapped[5] = 7
    expected = np.array(mapped)
    for array in (mapped, mapped[2:], np.asarray(mapped)):
        Release(array).now()
        np.testing.assert_array_equal(mapped, expected)
