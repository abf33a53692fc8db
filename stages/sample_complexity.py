"""DVC entry: `python -m stages.sample_complexity` counts, on simulated mixtures, the examples that each head needs."""

from __future__ import annotations

import sys

from stages import entry
from stages.artifacts import tables
from stages.params import Params
from stages.probe.simulation import fits, sample_complexity
from stages.progress import bar


def main(settings: Params, _name: str = "") -> None:
    """Write `sample_complexity`, `sample_complexity_fits` and `logistic_bound`."""
    wanted = settings.simulation
    with bar("simulation", 2 * len(wanted.classes) * len(wanted.dims), "searches") as advance:
        found, bounds = sample_complexity(
            wanted.classes,
            wanted.dims,
            seeds=wanted.seeds,
            epsilon=wanted.epsilon,
            max_m=wanted.max_m,
            test_points=wanted.test_points,
            c=wanted.c,
            run_seed=settings.run.seed,
            on_search=lambda: advance(1),
        )
    tables.write("sample_complexity", found)
    tables.write("sample_complexity_fits", fits(found))
    tables.write("logistic_bound", bounds)
    print(f"sample_complexity: {len(found)} searches, {len(bounds)} logistic fits", file=sys.stderr)


if __name__ == "__main__":
    entry.run("sample_complexity", main)
