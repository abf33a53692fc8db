"""python -m stages.prune

DVC entry: order the source's classes, clusters or images for every pair, combination and method, and write which images
each fraction keeps.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages import entry, seeds
from stages.artifacts import atomic, manifest, pruning, tables
from stages.artifacts.dataset import Dataset
from stages.artifacts.features import FeatureSet
from stages.errors import InputProblem
from stages.params import Params, PrunePair
from stages.prune import PRUNERS, GroupScores, PruneInputs, Rows, method_of, ranked
from stages.prune.combine import kept_by_any, union, weighted_votes
from stages.prune.contract import kept_of

Count = Callable[[GroupScores, float], int]


def read_inputs(pair: PrunePair) -> PruneInputs:
    """Read what pruners may look at: training images of both datasets, seen through the surrogate.

    A source with a single class, or with an image without one, has no labels that could tell images apart.
    """
    source, target = FeatureSet.open(pair.surrogate, pair.source), FeatureSet.open(pair.surrogate, pair.target)
    train = source.where("train")
    for features in (source, target):
        if not len(features.where("train")):
            raise InputProblem("has no training images", where=str(features.path), next_step="add images, then `dvc repro`")
    names = Dataset.open(pair.source).classes
    rows = source.index[train]
    labelled = len(names) > 1 and not rows["class_index"].null_count()
    return PruneInputs(
        target_probabilities=_probabilities(target, names),
        target_features=target.features(pair.layer, "train"),
        source_features=Rows(source.layer(pair.layer), train),
        source_groups=rows["class_index"].to_numpy().astype(np.int64) if labelled else None,
        group_names=names if labelled else [],
        source_ids=rows["id"].to_list(),
        n_clusters=1,
        generator=np.random.default_rng(0),
    )


def _probabilities(target: FeatureSet, names: Sequence[str]) -> NDArray[np.float32] | None:
    """Return the target's probabilities [t, S] of the classes `names`, or None where the surrogate's head knows others."""
    known = target.source_classes
    if known is None or sorted(known) != sorted(names):
        return None
    made = target.probabilities("train")
    return None if made is None else made[:, [known.index(name) for name in names]]


def content_keys(pair: PrunePair) -> dict[str, str]:
    """Return a content key of everything that the scores are made from; the target's labels are not among it."""
    source, target = FeatureSet.open(pair.surrogate, pair.source), FeatureSet.open(pair.surrogate, pair.target)
    keys = {
        "source images": source.facts["files"]["index.parquet"]["sha256"],
        "source classes": manifest.digest(Dataset.open(pair.source).classes),
        f"images of {pair.target}": manifest.digest(target.index.filter(pl.col("split") == "train")["id"].to_list()),
    }
    for name, features in (("source", source), (pair.target, target)):
        keys[f"features of {name}"] = features.facts["files"][features.facts["layers"][pair.layer]]["sha256"]
    if target.source_classes is not None:
        keys[f"probabilities of {pair.target}"] = target.facts["files"]["probabilities.npy"]["sha256"]
    return keys


def score(inputs: PruneInputs, method: str, repetitions: int, run_seed: int, *names: str) -> list[GroupScores]:
    """Run one method: once, or once a repetition where it draws; `names` key the random stream."""
    registered, n_clusters = method_of(method)
    made: list[GroupScores] = []
    while len(made) < (repetitions if not made or made[0].drawn else 1):
        generator = seeds.generator(run_seed, *names, method, len(made))
        given = replace(inputs, generator=generator, n_clusters=n_clusters or inputs.n_clusters)
        try:
            made.append(PRUNERS[registered](given))
        except InputProblem as problem:
            where = problem.where or f"{' -> '.join(names[1:])}, method {method}"
            raise InputProblem(problem.what, where=where, next_step=problem.next_step) from None
    return made


def groups_of(inputs: PruneInputs, scores: GroupScores) -> tuple[Sequence[str], NDArray[np.int64]]:
    """Return the names [G] of the groups that were scored, and the group of each source image [n]."""
    if scores.level == "image":
        return inputs.source_ids, np.arange(len(inputs.source_ids))
    if scores.membership is not None:
        return [f"cluster_{number:04d}" for number in range(len(scores.scores))], scores.membership
    if inputs.source_groups is None:
        raise ValueError("scores of classes, and the source has none")
    return inputs.group_names, inputs.source_groups


def count_share(scores: GroupScores, fraction: float) -> int:
    """Return how many groups a fraction keeps."""
    return kept_of(len(scores.scores), fraction)


def draw(inputs: PruneInputs, scores: GroupScores, fractions: Sequence[float], count: Count = count_share) -> pruning.Draw:
    """Turn the scores of groups into the artifact's tables: groups in order, images kept at each fraction."""
    names, membership = groups_of(inputs, scores)
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
            "reason": pl.Series([None] * len(names) if scores.reasons is None else list(scores.reasons), dtype=pl.String),
        }
    )
    images = pl.DataFrame({"id": inputs.source_ids, "group": groups["group"].gather(membership), "rank": rank[membership]})
    return pruning.Draw(groups, {part: images.filter(pl.col("rank") <= count(scores, part)) for part in fractions})


def write(folder: Path, draws: list[pruning.Draw], scored: GroupScores, keys: Mapping[str, str], **facts: Any) -> pl.DataFrame:
    """Write one pruning below `folder`, and return its rows of `pruning_scores`, of the first draw; none for images."""
    place = folder / facts["source"] / facts["target"] / facts["method"]
    pruning.write(place, draws, inputs=keys, level=scored.level, meaning=scored.meaning, warning=scored.warning, **facts)
    named = {name: pl.lit(facts[name]) for name in ("source", "target", "method")}
    if scored.warning:
        print(f"{' -> '.join(place.parts[-3:-1])}, {facts['method']}: {scored.warning}", file=sys.stderr)
    warning = pl.lit(scored.warning, dtype=pl.String)
    rows = draws[0].scores.with_columns(level=pl.lit(scored.level), warning=warning, **named)
    return rows.clear() if scored.level == "image" else rows


def main(settings: Params, name: str = "") -> None:
    """Score, and write data/pruning and data/results/pruning_scores.parquet."""
    wanted, seed = settings.prune, settings.run.seed
    schema = {key: column.dtype for key, column in tables.SCHEMAS["pruning_scores"].columns.items()}
    table = [pl.DataFrame(schema=schema)]
    with atomic.new_folder(pruning.PRUNING) as scratch:
        for pair in wanted.pairs:
            inputs, keys = read_inputs(pair), content_keys(pair)
            seen = {"source": pair.source, "target": pair.target, "surrogate": pair.surrogate, "layer": pair.layer}
            for method in wanted.methods:
                scored = score(inputs, method, wanted.seeds, seed, "prune", pair.source, pair.target)
                draws = [draw(inputs, scores, wanted.fractions) for scores in scored]
                table.append(write(scratch, draws, scored[0], keys, method=method, **seen))
        for combined in wanted.combine:
            table.extend(combination(settings, scratch, combined))
        rows = [part.select(list(schema)).cast(schema) for part in table]  # type: ignore[arg-type]
        tables.write("pruning_scores", pl.concat(rows))


def combination(settings: Params, folder: Path, name: str) -> Iterator[pl.DataFrame]:
    """Score one source for all targets of a combination, write it by each method, and yield the rows of the table.

    Every target is scored with the same random stream, so clusters and random orders are the same for all of them.
    """
    wanted, pairs = settings.prune.combine[name], settings.prune.combined(name)
    inputs = {pair.target: read_inputs(pair) for pair in pairs}
    keys = {key: value for pair in pairs for key, value in content_keys(pair).items()}
    join, count = (union, kept_by_any) if wanted.by == "union" else (weighted_votes, count_share)
    for method in settings.prune.methods:
        of_target = {
            target: score(given, method, settings.prune.seeds, settings.run.seed, "prune", wanted.source, name)
            for target, given in inputs.items()
        }
        joined = [
            join(dict(zip(of_target, repetition, strict=True)), wanted.weights)
            for repetition in zip(*of_target.values(), strict=True)
        ]
        draws = [draw(inputs[pairs[0].target], scores, settings.prune.fractions, count) for scores in joined]
        yield write(
            folder, draws, joined[0], keys, source=wanted.source, target=name, method=method, targets=list(wanted.targets),
            by=wanted.by, weights=wanted.weights, surrogate=pairs[0].surrogate, layer=pairs[0].layer,
        )  # fmt: skip


if __name__ == "__main__":
    entry.run("prune", main)
