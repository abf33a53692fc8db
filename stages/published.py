"""Agreement of metrics with accuracies that others published: two tables in, the tables of agreement and verdicts out.

No image, no params.yaml: `transferscope agreement scores.csv accuracies.csv`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import polars as pl

from stages import seeds
from stages.artifacts import tables
from stages.artifacts.accuracies import read_accuracies, read_scores
from stages.rank.compare import agreements, verdicts
from stages.trust import ALL, EVERY_TARGET

GIVEN = "given"
# What fits a screen of the two tables.
SHOWN = ("pearson", "kendall", "weighted_kendall", "ci_low", "ci_high", "relative_at_1", "relative_at_3", "top1_regret")
SHOWN_OF_ALL = ("n_targets", "weighted_kendall", "ci_low", "ci_high", "p_adjusted", "top1_regret", "random_regret")


def compare(scores_file: Path, accuracies_file: Path, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows of `agreement` and of `metric_verdicts`, over all targets.

    Args:
        scores_file: as `stages.artifacts.accuracies.read_scores` takes it.
        accuracies_file: columns encoder, dataset, accuracy, of encoders and datasets that have scores.
        seed: of the bootstrap.

    Raises:
        InputProblem: naming the file, row and column that is wrong.
    """
    scores = read_scores(scores_file).rename({"dataset": "target"})
    known = read_accuracies(accuracies_file, set(scores["encoder"]), set(scores["target"]), str(scores_file))
    accuracies = known.rename({"dataset": "target"})
    # An accuracy without a score under some metric stays, as a null that `agreement` counts.
    metrics = scores.select("metric", "higher_is_better").unique().sort("metric")
    pairs = accuracies.join(metrics, how="cross").join(
        scores.drop("higher_is_better"), on=["target", "encoder", "metric"], how="left"
    ).with_columns(mode=pl.lit(GIVEN), layer=pl.lit(""))  # fmt: skip
    seed_of = partial(seeds.integer_seed, seed)
    kinds = accuracies.select("target", aspect=pl.lit(ALL), level=pl.lit(EVERY_TARGET)).unique()
    return (
        tables.frame("agreement", agreements(pairs, seed_of)).sort("target", "metric", "mode"),
        tables.frame("metric_verdicts", verdicts(pairs, kinds, set(), seed_of)).sort("place", "metric", nulls_last=True),
    )
