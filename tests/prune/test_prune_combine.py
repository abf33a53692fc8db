"""Several targets, one answer: shares of votes added up, or the union of what each target keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages import params
from stages.artifacts import manifest, tables
from stages.artifacts.dataset import dataset_path
from stages.artifacts.features import features_path
from stages.artifacts.pruning import Pruning
from stages.errors import InputProblem
from stages.prune import GroupScores, keep, ranked
from stages.prune.__main__ import main
from stages.prune.combine import kept_by_any, union, weighted_votes

CLASSES = ["a", "b", "c", "d"]
PAIRS = [{"source": "glyphs", "target": target, "surrogate": "tiny"} for target in ("digits", "signs")]


def votes(*counts: float) -> GroupScores:
    """Votes with a soft mass that says the same."""
    return GroupScores(np.array(counts, dtype=np.float64), np.array(counts) / max(1, sum(counts)))


def test_shares_are_added_so_a_large_target_has_no_more_to_say() -> None:
    made = weighted_votes({"large": votes(900, 100, 0), "small": votes(0, 4, 6)}, {})
    assert made.scores.tolist() == pytest.approx([0.9, 0.5, 0.6])
    assert made.scores.sum() == pytest.approx(2)
    assert made.reasons is not None
    assert made.reasons[1] == "large 0.1, small 0.4"
    heavier = weighted_votes({"large": votes(900, 100, 0), "small": votes(0, 4, 6)}, {"small": 3})
    assert heavier.scores.tolist() == pytest.approx([0.9, 1.3, 1.8])
    assert ranked(heavier).tolist() == [2, 1, 0]


@given(
    st.integers(1, 12).flatmap(
        lambda groups: st.lists(st.lists(st.integers(0, 5), min_size=groups, max_size=groups), min_size=2, max_size=4)
    ),
    st.floats(0, 1, exclude_min=True),
)
def test_a_union_keeps_what_any_target_keeps_and_nothing_else(counts: list[list[int]], fraction: float) -> None:
    by_target = {str(number): votes(*row) for number, row in enumerate(counts)}
    made = union(by_target, {})
    kept = ranked(made)[: kept_by_any(made, fraction)]
    assert set(kept.tolist()) == {group for scores in by_target.values() for group in keep(scores, fraction).tolist()}
    assert len(kept) == len(set(kept.tolist()))


def test_a_union_says_which_target_wants_a_group() -> None:
    made = union({"x": votes(5, 0, 1), "y": votes(0, 5, 1)}, {})
    assert made.reasons == ["rank 1 for x", "rank 1 for y", "rank 2 for x, rank 2 for y"]


def test_groups_that_differ_are_refused() -> None:
    clusters = GroupScores(np.zeros(2), np.zeros(2), level="cluster", membership=np.array([0, 1, 1]))
    others = GroupScores(np.zeros(2), np.zeros(2), level="cluster", membership=np.array([0, 0, 1]))
    for one, other in ((votes(1, 2), votes(1, 2, 3)), (clusters, others), (votes(1, 2), clusters)):
        with pytest.raises(ValueError, match="other groups"):
            weighted_votes({"one": one, "other": other}, {})


@pytest.fixture
def prune(write_params: Callable[..., Path]) -> Callable[..., None]:
    """Write features in which `digits` lies at class a and `signs` at b and c, and run the entry's body."""

    def run(**section: Any) -> None:
        stream = np.random.default_rng(0)
        centres = 5 * stream.normal(size=(4, 6))
        for name, near in (
            ("glyphs", np.repeat(range(4), 20)), ("digits", np.repeat(0, 40)), ("signs", np.repeat([1, 2], [6, 4])),
        ):  # fmt: skip
            folder = features_path("tiny", name)
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / "pooled.npy", (centres[near] + 0.1 * stream.normal(size=(len(near), 6))).astype(np.float32))
            np.save(folder / "probabilities.npy", (0.8 * np.eye(4)[near] + 0.05).astype(np.float16))
            ids = [f"{name}/{number}" for number in range(len(near))]
            pl.DataFrame({"id": ids, "split": "train", "class_index": near}).write_parquet(folder / "index.parquet")
            manifest.write(
                folder, kind="features", version=1, inputs={}, layers={"pooled": "pooled.npy"}, source_classes=CLASSES
            )
            dataset_path(name).mkdir(parents=True, exist_ok=True)
            manifest.write(dataset_path(name), kind="dataset", version=1, inputs={}, classes=CLASSES, channels=1)
        glyphs = {"kind": "glyphs"}
        encoder = {"arch": "test_byobnet", "weights": {"pretrain": "glyphs"}}
        write_params(
            datasets={"packaged": {"glyphs": glyphs, "digits": {"kind": "sklearn", "name": "digits"}, "signs": glyphs}},
            encoders={"tiny": encoder, "other": encoder},
            prune={
                "pairs": PAIRS, "methods": ["label_mapping", "feature_mapping_clusters", "random", "moderate"],
                "clusters": [4], "fractions": [0.25, 0.5], "seeds": 2, **section,
            },
        )  # fmt: skip
        main(params.load(), "")

    return run


def test_combinations_are_prunings_of_their_own(prune: Callable[..., None]) -> None:
    wanted = {"source": "glyphs", "targets": ["digits", "signs"]}
    prune(combine={"all": {**wanted, "by": "union"}, "votes": wanted, "signs_first": {**wanted, "weights": {"signs": 2.0}}})
    assert set(Pruning.open("glyphs", "all", "label_mapping").kept(0.25)["group"]) == {"a", "b"}
    assert set(Pruning.open("glyphs", "all", "label_mapping", verify=True).kept(0.5)["group"]) == {"a", "b", "c"}
    votes = Pruning.open("glyphs", "votes", "label_mapping")
    assert votes.scores["group"].to_list() == ["a", "b", "c", "d"]
    assert votes.scores["score"].to_list() == pytest.approx([1, 0.6, 0.4, 0])
    assert votes.facts["targets"] == ["digits", "signs"]
    assert Pruning.open("glyphs", "signs_first", "label_mapping").scores["group"].to_list()[:2] == ["b", "a"]
    table = tables.load("pruning_scores")
    assert table["target"].unique().sort().to_list() == ["all", "digits", "signs", "signs_first", "votes"]
    for method in ("random", "moderate"):  # they do not look at targets: a combination is each target's own answer
        made = Pruning.open("glyphs", "all", method)
        assert len(made.kept(0.5)) == 40
    clusters = Pruning.open("glyphs", "all", "feature_mapping_clusters_4").kept(0.5)
    assert {identity.split("/")[1] for identity in clusters["id"]} >= {str(number) for number in range(60)}


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"combine": {"x": {"source": "glyphs", "targets": ["digits", "letters"]}}}, "combine.x.*letters.*pairs"),
        ({"combine": {"x": {"source": "glyphs", "targets": ["digits"]}}}, "combine.x.targets.*at least 2"),
        (
            {"combine": {"x": {"source": "glyphs", "targets": ["digits", "signs"], "weights": {"sign": 2.0}}}},
            "combine.x.weights.*sign",
        ),
        ({"combine": {"digits": {"source": "glyphs", "targets": ["digits", "signs"]}}}, "combine.digits.*dataset"),
        (
            {
                "pairs": [PAIRS[0], {**PAIRS[1], "surrogate": "other"}],
                "combine": {"x": {"source": "glyphs", "targets": ["digits", "signs"]}},
            },
            "combine.x.*different surrogates",
        ),
        ({"pairs": [PAIRS[0], {**PAIRS[0], "surrogate": "other"}]}, "glyphs -> digits is listed twice"),
        ({"clusters": [0]}, "clusters"),
        (
            {"methods": ["feature_mapping_clusters", "feature_mapping_clusters_4"]},
            "'feature_mapping_clusters_4' is named twice",
        ),
    ],
)
def test_params_that_fit_no_data_are_named(prune: Callable[..., None], section: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputProblem, match=f"params.yaml: prune.*{expected}"):
        prune(**section)


def test_methods_of_clusters_are_named_after_each_number(prune: Callable[..., None]) -> None:
    prune(clusters=[2, 5], methods=["random", "feature_mapping_clusters"])
    assert params.load().prune.methods == ["random", "feature_mapping_clusters_2", "feature_mapping_clusters_5"]
    table = tables.load("pruning_scores").filter(pl.col("target") == "signs")
    assert [len(table.filter(pl.col("method") == f"feature_mapping_clusters_{k}")) for k in (2, 5)] == [2, 5]
