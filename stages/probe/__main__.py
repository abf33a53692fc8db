"""python -m stages.probe --encoder glyph_vit

Learning curves of the heads on one encoder's features of every target, and where the two main heads cross.
"""

from __future__ import annotations

import sys
from functools import partial

import polars as pl

from stages import entry
from stages.artifacts import tables
from stages.artifacts.features import FeatureSet
from stages.params import Params
from stages.probe.crossover import crossover
from stages.probe.curves import default_sizes, learning_curves
from stages.progress import bar


def main(settings: Params, name: str) -> None:
    """Write the encoder's parts of `probe_curves` and `probe_crossover`.

    Raises:
        InputProblem: an unknown encoder, head or layer, features that are not there, or sizes that cannot be drawn.
    """
    settings.candidate(name)  # an unknown name ends here, before anything is computed
    probe = settings.probe
    all_curves, crossings = [], []
    for target in settings.targets:
        features = FeatureSet.open(name, target)
        train_y, test_y = features.labels("train"), features.labels("test")
        sizes = probe.per_class or probe.sizes or default_sizes(len(train_y), len(set(train_y.tolist())))
        with bar(f"probe {name} on {target}", len(probe.heads) * probe.seeds * len(sizes), "fits") as advance:
            curves = learning_curves(
                features.features(probe.layer, "train"),
                train_y,
                features.features(probe.layer, "test"),
                test_y,
                sizes,
                probe.seeds,
                probe.heads,
                run_seed=settings.run.seed,
                names=(target,),  # not the encoder: every encoder is seen on the same draws
                per_class=probe.per_class is not None,
                c=probe.c_grid if probe.c == "auto" else probe.c,
                workers=settings.run.threads,
                on_fit=partial(advance, 1),
            )
        key = {"target": target, "encoder": name}
        crossing = crossover(curves, epsilon=probe.epsilon, run_seed=settings.run.seed, names=(target, name))
        all_curves.append(curves.with_columns(pl.lit(value).alias(column) for column, value in key.items()))
        crossings.append({**key, **crossing})
        print(f"probe@{name} {target}: {len(curves)} points, {crossing['regime']}", file=sys.stderr)
    schema = {column: kind.dtype for column, kind in tables.SCHEMAS["probe_crossover"].columns.items()}
    tables.write_part("probe_curves", name, pl.concat(all_curves))
    tables.write_part("probe_crossover", name, pl.DataFrame(crossings, schema=schema))


if __name__ == "__main__":
    entry.run("probe", main, item="encoder")
