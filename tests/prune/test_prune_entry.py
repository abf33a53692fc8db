"""The entry: what it reads, what it writes, and a pruner that it has never heard of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from stages import params
from stages.artifacts import manifest, tables
from stages.artifacts.dataset import dataset_path
from stages.artifacts.features import features_path
from stages.artifacts.pruning import Pruning, pruning_path
from stages.errors import InputProblem
from stages.prune import PRUNERS, GroupScores, PruneInputs
from stages.prune.__main__ import main

CLASSES = ["alpha", "beta", "gamma", "delta", "epsilon"]
ENCODER = {"arch": "test_byobnet", "weights": {"pretrain": "glyphs"}, "layers": ["pooled"]}
PAIR = {"source": "glyphs", "target": "digits", "surrogate": "tiny"}
METHODS = list(PRUNERS)
IMAGES = {"random_images", "moderate", "el2n", "grand", "herding", "k_center"}


def write_features(
    dataset: str, features: NDArray, labels: NDArray, splits: list[str], probabilities: NDArray | None, encoder: str = "tiny"
) -> None:
    """Write the artifact that `extract` leaves behind."""
    folder = features_path(encoder, dataset)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "pooled.npy", features.astype(np.float32))
    if probabilities is not None:
        np.save(folder / "probabilities.npy", probabilities.astype(np.float16))
    ids = [f"{dataset}/{number:04d}" for number in range(len(labels))]
    pl.DataFrame({"id": ids, "split": splits, "class_index": labels}).write_parquet(folder / "index.parquet")
    manifest.write(
        folder, kind="features", version=1, inputs={}, encoder=encoder, dataset=dataset, layers={"pooled": "pooled.npy"},
        dtype="float32", source_classes=None if probabilities is None else CLASSES,
    )  # fmt: skip


def write_dataset(name: str, classes: list[str]) -> None:
    """Write as much of the artifact that `ingest` leaves behind as pruning looks at: the names of the classes."""
    folder = dataset_path(name)
    folder.mkdir(parents=True, exist_ok=True)
    manifest.write(folder, kind="dataset", version=1, inputs={}, classes=classes, channels=1)


def planted(scramble: bool = False, garbage: bool = False) -> None:
    """Write features of a source with five classes and of a target that lies around `gamma` (most) and `beta`."""
    stream = np.random.default_rng(0)
    centres = 4 * stream.normal(size=(5, 6))
    groups, splits = np.tile(np.arange(5), 30), (["train"] * 20 + ["test"] * 5) * 6
    source = centres[groups] + 0.1 * stream.normal(size=(150, 6))
    near = np.repeat([2, 1], [60, 20])
    target = centres[near] + 0.1 * stream.normal(size=(80, 6))
    probabilities = 0.9 * np.eye(5)[near] + 0.02
    target_splits = (["train", "train", "val", "test"]) * 20
    labels = stream.integers(0, 10, 80)
    if scramble:
        labels = np.random.default_rng(9).permutation(labels)
    if garbage:
        hidden = np.array(target_splits) != "train"
        target[hidden], probabilities[hidden] = np.nan, np.nan
        source[np.array(splits) != "train"] = np.inf
    write_dataset("glyphs", CLASSES)
    write_features("glyphs", source, groups, splits, np.eye(5)[groups])
    write_features("digits", target, labels, target_splits, probabilities)


@pytest.fixture
def prune(write_params: Callable[..., Path]) -> Callable[..., None]:
    """Run the entry's body on the planted features."""

    def run(**section: Any) -> None:
        glyphs = {"kind": "glyphs"}
        write_params(
            datasets={"packaged": {"glyphs": glyphs, "digits": {"kind": "sklearn", "name": "digits"}}},
            encoders={"tiny": ENCODER},
            prune={"pairs": [PAIR], "methods": METHODS, "clusters": [3, 5], "fractions": [0.2, 0.4], "seeds": 2, **section},
        )
        main(params.load(), "")

    return run


def contents(names: str = "*") -> dict[str, bytes]:
    """Return the bytes of every file below data/pruning, and of the table."""
    files = [*Path("data/pruning").rglob(names), Path("data/results/pruning_scores.parquet")]
    return {file.as_posix(): file.read_bytes() for file in files if file.is_file()}


def test_tables_and_kept_lists(prune: Callable[..., None]) -> None:
    planted()
    prune()
    table = tables.load("pruning_scores").filter(pl.col("method") == "label_mapping").sort("rank")
    assert table["group"].to_list()[:2] == ["gamma", "beta"]
    assert table["score"].sum() == 40  # half of the 80 target images are training images
    assert table["n_images"].to_list() == [24] * 5  # of 30, six are test images
    made = Pruning.open("glyphs", "digits", "label_mapping", verify=True)
    kept = made.kept(0.4)
    assert kept["group"].unique().sort().to_list() == ["beta", "gamma"]
    assert kept.filter(pl.col("group") == "gamma")["rank"].unique().to_list() == [1]
    assert len(kept) == 48
    text = (pruning_path("glyphs", "digits", "label_mapping") / "kept-0.4.txt").read_text()
    assert text.splitlines() == kept["id"].to_list()
    assert set(made.kept(0.2)["id"]) < set(kept["id"])
    assert made.kept(0.4, 1).equals(kept)  # a deterministic method keeps the same in every repetition


def test_every_method_has_its_artifact_and_groups_their_rows(prune: Callable[..., None]) -> None:
    planted()
    prune()
    levels = {}
    for path in Path("data/pruning/glyphs/digits").iterdir():
        made = Pruning.open("glyphs", "digits", path.name, verify=True)
        levels[path.name] = made.facts["level"]
        for fraction in (0.2, 0.4):
            kept, scores = made.kept(fraction), made.scores.filter(pl.col("draw") == 0)
            assert kept.join(scores, on=["group", "rank", "score"], nulls_equal=True).height == len(kept) > 0
            text = (path / f"kept-{fraction}.txt").read_text(encoding="utf-8")
            assert text.splitlines() == kept["id"].to_list()
    expected = {f"{method}_{k}" for method in METHODS if method.endswith("_clusters") for k in (3, 5)}
    assert set(levels) == {method for method in METHODS if not method.endswith("_clusters")} | expected
    of_images = {method for method, level in levels.items() if level == "image"}
    assert of_images == {*IMAGES, "near_duplicates_in_clusters_3", "near_duplicates_in_clusters_5"}
    table = tables.load("pruning_scores")
    assert dict(table.select("method", "level").unique().rows()) == {
        method: level for method, level in levels.items() if level != "image"
    }
    reasons = Pruning.open("glyphs", "digits", "near_duplicates_in_clusters_3").kept(0.4)["reason"]
    assert reasons.str.contains("first of its cluster|cosine").all()


def test_random_keeps_others_in_the_next_repetition(prune: Callable[..., None]) -> None:
    planted()
    prune(seeds=6)
    made = Pruning.open("glyphs", "digits", "random")
    assert len({tuple(made.kept(0.4, repetition)["group"].unique().sort()) for repetition in range(6)}) > 1
    assert made.scores["draw"].unique().to_list() == list(range(6))
    with pytest.raises(InputProblem, match="dvc repro prune"):
        made.kept(0.4, 6)
    with pytest.raises(InputProblem, match=r"0\.3"):
        made.kept(0.3)


def test_twice_gives_the_same_bytes_and_so_do_scrambled_target_labels(prune: Callable[..., None]) -> None:
    planted()
    prune()
    first = contents()
    prune()
    assert contents() == first
    planted(scramble=True)
    prune()
    assert contents() == first


def test_only_training_images_are_looked_at(prune: Callable[..., None]) -> None:
    planted()
    prune()
    first = contents("*.parquet") | contents("*.txt")
    planted(garbage=True)
    prune()
    assert (contents("*.parquet") | contents("*.txt")) == first


def test_nothing_is_left_of_a_run_that_failed(prune: Callable[..., None]) -> None:
    planted()
    prune()
    first = contents()
    with pytest.raises(InputProblem, match="label_mapping"):
        prune(methods=["random", "label_maping"])
    assert contents() == first
    assert not [path for path in Path("data/store/scratch").iterdir() if path.is_dir()]


def test_no_pairs_make_empty_outputs(prune: Callable[..., None]) -> None:
    prune(pairs=[])
    assert tables.load("pruning_scores").is_empty()
    assert Path("data/pruning").is_dir()


def test_a_pair_listed_twice_and_a_dataset_without_training_images_are_refused(prune: Callable[..., None]) -> None:
    with pytest.raises(InputProblem, match="twice"):
        prune(pairs=[PAIR, PAIR])
    planted()
    write_features("digits", np.ones((3, 6)), np.arange(3), ["test"] * 3, np.ones((3, 5)))
    with pytest.raises(InputProblem, match="training images"):
        prune()


def test_absent_features_name_the_stage_that_makes_them(prune: Callable[..., None], project: Path) -> None:
    with pytest.raises(InputProblem, match=r"dvc repro --glob 'extract\*@tiny'"):
        prune()


def farthest_from_the_origin(inputs: PruneInputs) -> GroupScores:
    """Score single images."""
    lengths = np.linalg.norm(np.asarray(inputs.source_features), axis=1).astype(np.float64)
    return GroupScores(lengths, np.zeros(len(lengths)), level="image")


@pytest.fixture
def added() -> Iterator[str]:
    """A pruner of single images, registered for one test."""
    PRUNERS.add("farthest_from_the_origin", farthest_from_the_origin)
    yield "farthest_from_the_origin"
    PRUNERS.remove("farthest_from_the_origin")


def test_a_new_pruner_needs_no_change_of_the_entry(prune: Callable[..., None], added: str) -> None:
    planted()
    prune(methods=[added])
    made = Pruning.open("glyphs", "digits", added)
    assert len(made.kept(0.2)) == 24  # of 120 training images, each a group of its own
    assert made.kept(0.2)["group"].equals(made.kept(0.2)["id"].alias("group"))
    assert len(made.scores) == 120
    assert tables.load("pruning_scores").is_empty()  # of classes and clusters alone


def test_a_source_without_labels_is_grouped_by_clusters_alone(prune: Callable[..., None]) -> None:
    planted()
    write_dataset("glyphs", ["everything"])
    prune(methods=["feature_mapping_clusters", "near_duplicates_in_clusters", "random_images"])
    assert len(Pruning.open("glyphs", "digits", "feature_mapping_clusters_5").kept(0.4)) > 0
    with pytest.raises(InputProblem, match=r"(?s)method feature_mapping:.*feature_mapping_clusters") as raised:
        prune(methods=["feature_mapping"])
    assert "glyphs -> digits" in str(raised.value)


def test_a_head_is_read_by_the_names_of_its_classes(prune: Callable[..., None]) -> None:
    planted()
    write_dataset("glyphs", CLASSES[::-1])  # another order than the surrogate's head
    prune(methods=["label_mapping"])
    assert tables.load("pruning_scores").sort("rank")["group"].to_list()[:2] == ["gamma", "beta"]
    write_dataset("glyphs", [*CLASSES[1:], "omega"])
    prune(methods=["feature_mapping"])
    with pytest.raises(InputProblem, match="knows others"):
        prune(methods=["label_mapping"])
