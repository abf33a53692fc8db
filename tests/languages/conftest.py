"""A made-up transfer table with a known law."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest


@pytest.fixture
def planted() -> Callable[..., pl.DataFrame]:
    """Make zero-shot pairs of `n` languages: score = 0.5 - 0.3 x_distance + source effect + target effect + noise."""

    def make(n: int = 12, *, seed: int = 0, noise: float = 0.01, target_effect: float = 0.02) -> pl.DataFrame:
        rng = np.random.default_rng(seed)
        names = ["en", *(f"l{i:02d}" for i in range(1, n))]
        places = rng.uniform(0, 1, (n, 2))
        of_source, of_target = rng.normal(0, 0.03, n), rng.normal(0, target_effect, n)
        other = rng.normal(0, 1, (n, n))
        rows = [
            {
                "task": "t", "source": names[s], "target": names[t], "n_shots": 0, "seed": 0,
                "x_distance": float(np.linalg.norm(places[s] - places[t])), "irrelevant": float(other[s, t]),
                "score": float(np.clip(0.5 - 0.3 * np.linalg.norm(places[s] - places[t]) + of_source[s] + of_target[t]
                                       + rng.normal(0, noise), 0, 1)),
            }
            for s in range(n) for t in range(n)
        ]  # fmt: skip
        return pl.DataFrame(rows)

    return make
