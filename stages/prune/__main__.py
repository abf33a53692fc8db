"""python -m stages.prune

DVC entry: order the source's classes for every pair and method, and write which images each fraction keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from stages import entry, seeds
from stages.artifacts import atomic, manifest, pruning, tables
from stages.artifacts.features import FeatureSet
from stages.errors import InputProblem
from stages.params import Params, PrunePair
from stages.prune import PRUNERS, GroupScores, PruneInputs, Rows, keep, ranked


def read_inputs(pair: PrunePair) -> PruneInputs:
    """Read what pruners may look at: training images of both datasets, seen through the surrogate."""
    source, target = FeatureSet.open(pair.surrogate, pair.source), FeatureSet.open(pair.surrogate, pair.target)
    train = source.where("train")
    for features in (source, target):
        if not len(features.where("train")):
            raise InputProblem("has no training images", where=str(features.path), next_step="add images, then `dvc repro`")
    groups = source.labels("train")
    names = source.source_classes or [str(number) for number in range(int(groups.max()) + 1)]
    return PruneInputs(
        target_probabilities=target.probabilities("train"),
        target_features=target.features(pair.layer, "train"),
        source_features=Rows(source.layer(pair.layer), train),
        source_groups=groups,
        group_names=names,
        source_ids=source.index["id"].gather(train).to_list(),
        n_clusters=len(names),
        generator=np.random.default_rng(0),
    )


def content_keys(pair: PrunePair) -> dict[str, str]:
    """Return a content key of everything that the scores are made from; the target's labels are not among it."""
    source, target = FeatureSet.open(pair.surrogate, pair.source), FeatureSet.open(pair.surrogate, pair.target)
    keys = {
        "source images": source.facts["files"]["index.parquet"]["sha256"],
        "target images": manifest.digest(target.index.filter(pl.col("split") == "train")["id"].to_list()),
    }
    for role, features in (("source", source), ("target", target)):
        keys[f"{role} features"] = features.facts["files"][features.facts["layers"][pair.layer]]["sha256"]
    if target.source_classes is not None:
        keys["target probabilities"] = target.facts["files"]["probabilities.npy"]["sha256"]
    return keys


def score(inputs: PruneInputs, method: str, repetitions: int, run_seed: int, *names: str) -> list[GroupScores]:
    """Run one method: once, or once a repetition where it draws; `names` key the random stream."""
    made: list[GroupScores] = []
    while len(made) < (repetitions if not made or made[0].drawn else 1):
        generator = seeds.generator(run_seed, *names, method, len(made))
        made.append(PRUNERS[method](replace(inputs, generator=generator)))
    return made


def draw(inputs: PruneInputs, scores: GroupScores, fractions: Sequence[float]) -> pruning.Draw:
    """Turn the scores of groups into the artifact's tables: groups in order, images kept at each fraction."""
    names = inputs.group_names if scores.names is None else scores.names
    membership = inputs.source_groups if scores.membership is None else scores.membership
    if len(scores.scores) != len(names) or len(membership) != len(inputs.source_ids):
        raise ValueError(
            f"{len(scores.scores)} scores for {len(names)} groups, {len(membership)} memberships for "
            f"{len(inputs.source_ids)} images"
        )
    order = ranked(scores)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(1, len(order) + 1)
    groups = pl.DataFrame(
        {
            "group": list(names),
            "score": scores.scores,
            "soft_mass": scores.soft_mass,
            "rank": rank,
            "n_images": np.bincount(membership, minlength=len(names)),
        }
    )
    images = pl.DataFrame({"id": inputs.source_ids, "group": groups["group"].gather(membership), "rank": rank[membership]})
    return pruning.Draw(groups, {part: images.filter(pl.col("rank") <= len(keep(scores, part))) for part in fractions})


def main(settings: Params, name: str = "") -> None:
    """Score, and write data/pruning and data/results/pruning_scores.parquet."""
    wanted = settings.prune
    twice = [pair for pair in wanted.pairs if sum((pair.source, pair.target) == (o.source, o.target) for o in wanted.pairs) > 1]
    if twice:
        raise InputProblem(
            f"{twice[0].source} -> {twice[0].target} is listed twice", where="prune.pairs", next_step="edit params.yaml"
        )
    table = [pl.DataFrame(schema={key: column.dtype for key, column in tables.SCHEMAS["pruning_scores"].columns.items()})]
    with atomic.new_folder(pruning.PRUNING) as scratch:
        for pair in wanted.pairs:
            inputs, keys = read_inputs(pair), content_keys(pair)
            for method in dict.fromkeys(wanted.methods):
                scored = score(inputs, method, wanted.seeds, settings.run.seed, "prune", pair.source, pair.target)
                draws = [draw(inputs, scores, wanted.fractions) for scores in scored]
                facts = {"source": pair.source, "target": pair.target, "method": method}
                folder = scratch / pair.source / pair.target / method
                pruning.write(folder, draws, inputs=keys, surrogate=pair.surrogate, layer=pair.layer, **facts)
                rows = draws[0].scores.with_columns(pl.lit(value).alias(key) for key, value in facts.items())
                table.append(rows.select(table[0].columns).cast(table[0].schema))
        tables.write("pruning_scores", pl.concat(table))


if __name__ == "__main__":
    entry.run("prune", main)
