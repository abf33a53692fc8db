"""The entry: what it reads, what it writes, and a metric that it has never heard of."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from stages import params
from stages.artifacts import manifest
from stages.artifacts.features import features_path
from stages.errors import InputProblem
from stages.rank import METRICS, Metric, Statistics
from stages.rank.__main__ import main, sample, score_candidate
from stages.tables import add_rank, join_pools

LAYERS = ["pooled", "stages.1"]
PART = Path("data/parts/transferability/tiny.parquet")
ENCODERS = {"tiny": {"arch": "test_byobnet", "weights": "random", "layers": LAYERS}}


def write_features(layers: dict[str, NDArray], labels: NDArray, splits: list[str], probabilities: NDArray | None) -> None:
    """Write the artifact that `extract` leaves behind."""
    folder = features_path("tiny", "digits")
    folder.mkdir(parents=True, exist_ok=True)
    for name, layer in layers.items():
        np.save(folder / f"{name}.npy", layer.astype(np.float32))
    if probabilities is not None:
        np.save(folder / "probabilities.npy", probabilities.astype(np.float16))
    ids = [f"{number:04d}" for number in range(len(labels))]
    pl.DataFrame({"id": ids, "split": splits, "class_index": labels}).write_parquet(folder / "index.parquet")
    manifest.write(
        folder, kind="features", version=1, inputs={}, encoder="tiny", dataset="digits",
        layers={name: f"{name}.npy" for name in layers}, dtype="float32",
        source_classes=None if probabilities is None else [str(z) for z in range(probabilities.shape[1])],
    )  # fmt: skip


def planted(head: bool = True, garbage: bool = False) -> tuple[dict[str, NDArray], NDArray, NDArray]:
    """Write two layers of 120 images in four classes; two thirds are training images."""
    stream = np.random.default_rng(0)
    labels = stream.integers(0, 4, 120)
    layers = {
        name: stream.normal(size=(4, d))[labels] + stream.normal(size=(120, d)) for name, d in zip(LAYERS, (8, 5), strict=True)
    }
    probabilities = stream.dirichlet(np.ones(6), 120)
    splits = ["train", "train", "test"] * 40
    hidden = np.array(splits) == "test"
    if garbage:
        for layer in layers.values():
            layer[hidden] = np.nan
    write_features(layers, labels, splits, probabilities if head else None)
    kept = {name: layer[~hidden].astype(np.float32) for name, layer in layers.items()}
    return kept, labels[~hidden], probabilities[~hidden].astype(np.float16)


@pytest.fixture
def rank(write_params: Callable[..., Path]) -> Callable[..., pl.DataFrame]:
    """Run the entry's body and read the part that it wrote."""

    def run(metrics: list[str], **section: object) -> pl.DataFrame:
        recommend = {"metric": metrics[0]}
        write_params(encoders=ENCODERS, rank={"metrics": metrics, **section}, recommend=recommend)
        main(params.load(), "tiny")
        return pl.read_parquet(PART)

    return run


def test_every_layer_and_metric_has_its_row(rank: Callable[..., pl.DataFrame]) -> None:
    layers, labels, probabilities = planted()
    metrics = ["logme", "tmi", "leep", "knn"]
    part = rank(metrics)
    assert set(part.select("layer", "metric").iter_rows()) == {(layer, metric) for layer in LAYERS for metric in metrics}
    assert part.columns == [
        "target",
        "encoder",
        "layer",
        "metric",
        "score",
        "higher_is_better",
        "n",
        "d",
        "n_classes",
        "n_source_classes",
        "warning",
    ]
    for row in part.iter_rows(named=True):
        score = METRICS[row["metric"]](layers[row["layer"]], labels, probabilities)
        assert (row["score"], row["warning"], row["n"], row["d"]) == (
            score.value, score.warning, len(labels), layers[row["layer"]].shape[1],
        )  # fmt: skip


def test_without_a_source_head(rank: Callable[..., pl.DataFrame]) -> None:
    planted(head=False)
    part = rank(["leep", "nce", "logme"])
    assert part.filter(pl.col("metric") != "logme")["score"].null_count() == 4
    assert part.filter(pl.col("metric") == "nce")["warning"].unique().to_list() == ["needs a source head"]
    assert part.filter(pl.col("metric") == "logme")["score"].null_count() == 0


def test_candidates_without_a_head_and_of_any_width_rank_in_one_pool(project: Path) -> None:
    """Three encoders, 3 to 200 dimensions, fewer images than dimensions in the widest, one without a source head."""
    stream = np.random.default_rng(5)
    labels = np.arange(60) % 3
    useful = stream.normal(size=(3, 3))[labels]
    rows = []
    for name, d, head in (("narrow", 3, True), ("wide", 200, True), ("alone", 20, False)):
        features = 3 * useful @ stream.normal(size=(3, d)) + stream.normal(size=(60, d))
        probabilities = stream.dirichlet(np.ones(6), 60) if head else None
        found = score_candidate(Statistics(features, labels, probabilities), list(METRICS))
        rows += [{"target": "t", "encoder": name, "layer": "pooled", **row} for row in found]
    ranked = add_rank(join_pools(pl.DataFrame(rows, infer_schema_length=None), list(METRICS)))
    assert set(ranked["metric"]) == set(METRICS)
    assert ranked.filter(pl.col("score").is_null(), pl.col("warning").is_null()).is_empty()
    for name, metric in METRICS.items():
        mine = ranked.filter(pl.col("metric") == name)
        expected = [1, 2, None] if metric.needs_source_probabilities else [1, 2, 3]
        assert mine.sort("rank", nulls_last=True)["rank"].to_list() == expected, name
        if metric.needs_source_probabilities:
            assert mine.filter(pl.col("rank").is_null())["encoder"].to_list() == ["alone"]
    widths = ranked.select("encoder", "d", "n_classes", "n_source_classes").unique().sort("d").rows()
    assert widths == [("narrow", 3, 3, 6), ("alone", 20, 3, None), ("wide", 200, 3, 6)]


def test_only_training_images_count_and_twice_gives_the_same_bytes(rank: Callable[..., pl.DataFrame]) -> None:
    planted()
    rank(list(METRICS), max_per_class=9)
    first = PART.read_bytes()
    planted(garbage=True)
    rank(list(METRICS), max_per_class=9)
    assert PART.read_bytes() == first


def test_sampling(rank: Callable[..., pl.DataFrame]) -> None:
    _, labels, _ = planted()
    assert rank(["knn"], max_per_class=9)["n"].to_list() == [36, 36]
    rows = sample(labels, 9, np.random.default_rng(0))
    assert (np.diff(rows) > 0).all()
    assert np.bincount(labels[rows]).tolist() == [9] * 4
    assert sample(labels, 9, np.random.default_rng(1)).tolist() != rows.tolist()
    assert np.bincount(labels[sample(labels, 10**6, np.random.default_rng(0))]).tolist() == np.bincount(labels).tolist()


def test_wrong_inputs_are_named(rank: Callable[..., pl.DataFrame], project: Path) -> None:
    with pytest.raises(InputProblem, match="@tiny"):
        rank(["knn"])
    with pytest.raises(InputProblem, match="logme"):
        rank(["log_me"])
    layers, _, _ = planted()
    broken = {name: np.full((6, layer.shape[1]), np.nan) for name, layer in layers.items()}
    write_features(broken, np.arange(6), ["train"] * 6, None)
    with pytest.raises(InputProblem, match="digits/pooled: 48 of 48 feature values are not finite"):
        rank(["knn"])
    write_features(layers, np.zeros(80, dtype=np.int64), ["test"] * 80, None)
    with pytest.raises(InputProblem, match="no training images"):
        rank(["knn"])
    assert not PART.exists()


def test_as_a_process(
    write_params: Callable[..., Path], run_stage: Callable[..., subprocess.CompletedProcess[str]], rank: Callable[..., object]
) -> None:
    planted()
    rank(["logme", "h_score"])
    expected = PART.read_bytes()
    PART.unlink()
    done = run_stage("rank", "--encoder", "tiny")
    assert done.returncode == 0, done.stderr
    # The process has threads of its own number; values agree, and here, at this size, to the bit.
    assert PART.read_bytes() == expected


def distance_of_means(statistics: Statistics) -> tuple[float | None, str | None]:
    """Measure how far the class means lie from the mean of all."""
    means = [statistics.of_class(position).mean(axis=0) for position in range(statistics.n_classes)]
    return float(np.linalg.norm(means, axis=1).mean()), None


@pytest.fixture
def added() -> Iterator[str]:
    """A metric registered for one test."""
    METRICS.add("distance_of_means", Metric(distance_of_means))
    yield "distance_of_means"
    METRICS.remove("distance_of_means")


def test_a_new_metric_needs_no_change_of_the_entry(rank: Callable[..., pl.DataFrame], added: str) -> None:
    layers, labels, _ = planted()
    part = rank([added])
    assert part["metric"].unique().to_list() == [added]
    centred = layers["pooled"].astype(np.float64) - layers["pooled"].astype(np.float64).mean(axis=0)
    plain = np.mean([np.linalg.norm(centred[labels == label].mean(axis=0)) for label in range(4)])
    assert part.filter(pl.col("layer") == "pooled")["score"].item() == pytest.approx(plain, rel=1e-6)
