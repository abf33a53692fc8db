"""The ground truth of ranking: the same images for every encoder, each run paid for once, end to end on real digits."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from stages import extract, finetune, ingest, params, seeds, weights
from stages.artifacts import tables
from stages.artifacts.dataset import Dataset
from stages.artifacts.features import FeatureSet
from stages.artifacts.weights import weights_path
from stages.errors import InputProblem
from stages.probe.logistic import LogisticProbe

Run = Callable[..., subprocess.CompletedProcess[str]]
TINY = {"modes": ["linear", "full"], "seeds": 1, "epochs": 1, "max_train": 100}


def rows(counts: list[int]) -> pl.DataFrame:
    """Training rows with so many images of each class."""
    classes = [index for index, count in enumerate(counts) for _ in range(count)]
    return pl.DataFrame({"id": [f"image-{number:04d}" for number in range(len(classes))], "class_index": classes})


@pytest.mark.parametrize("limit", [5, 40, 1000])
def test_the_subset_is_drawn_once_and_misses_no_class(limit: int) -> None:
    table = rows([300, 50, 3, 1, 1])
    drawn = finetune.training_ids(table, limit, seeds.generator(0, "finetune", "digits", 0))
    assert len(set(drawn)) == len(drawn) == min(limit, 355)
    assert table.filter(pl.col("id").is_in(drawn))["class_index"].n_unique() == 5
    assert drawn == finetune.training_ids(table.reverse(), limit, seeds.generator(0, "finetune", "digits", 0))
    if limit < 355:
        assert drawn != finetune.training_ids(table, limit, seeds.generator(0, "finetune", "digits", 1))


def test_the_subset_is_uniform_within_a_class() -> None:
    table, hits = rows([20, 5]), np.zeros(20)
    for seed in range(400):
        drawn = finetune.training_ids(table, 8, seeds.generator(0, "finetune", "digits", seed))
        np.add.at(hits, [number for number in (int(identity.removeprefix("image-")) for identity in drawn) if number < 20], 1)
    # In each of 400 draws an image is taken with a chance of about a third: six standard deviations are 57.
    assert 400 < hits.sum() < 400 * 8
    assert hits.max() - hits.min() < 57


def test_accuracies_against_a_count_by_hand() -> None:
    truth, predicted = np.array([0, 0, 0, 0, 1, 1, 2]), np.array([0, 0, 0, 1, 1, 2, 0])
    assert finetune.accuracies(predicted, truth) == pytest.approx((4 / 7, (3 / 4 + 1 / 2 + 0) / 3))


@pytest.fixture
def settings(write_params: Callable[..., Path]) -> Callable[..., params.Params]:
    """Params with the digits, a few glyphs and one small encoder at random weights."""

    def make(targets: list[str], **budget: Any) -> params.Params:
        packaged = {
            "digits": {"kind": "sklearn", "name": "digits"},
            "letters": {"kind": "glyphs", "scripts": ["hebrew"], "images_per_class": 8, "size": 32},
        }
        finetune = {**TINY, **budget}
        return params.load(
            write_params(datasets={"packaged": packaged}, targets=targets, run={"threads": 1}, finetune=finetune)
        )

    return make


def part() -> Path:
    return tables.PARTS / "finetuned" / "tiny.parquet"


def test_end_to_end_and_each_run_once(settings: Callable[..., params.Params], run_stage: Run) -> None:
    def run(stage: str, option: str, name: str) -> str:
        result = run_stage(stage, option, name)
        assert result.returncode == 0, result.stderr
        return result.stderr

    settings(["digits"])
    run("ingest", "--dataset", "digits")
    run("weights", "--encoder", "tiny")
    run("extract", "--encoder", "tiny")
    run("finetune", "--encoder", "tiny")
    frame = tables.load_parts("finetuned", ["tiny"])
    assert frame.select("target", "encoder", "mode", "seed", "epochs").rows() == [
        ("digits", "tiny", "full", 0, 1),
        ("digits", "tiny", "linear", 0, None),
    ]
    accuracy = dict(frame.select("mode", "accuracy").iter_rows())
    assert accuracy["linear"] > 0.5  # even random features of digits are worth much; chance is 0.1
    n_test = len(Dataset.open("digits").rows.filter(pl.col("split") == "test"))
    for value in accuracy.values():
        assert value * n_test == pytest.approx(round(value * n_test))  # the whole test split

    # A new target costs only its own runs.
    first = part().read_bytes()
    settings(["digits", "letters"])
    run("ingest", "--dataset", "letters")
    run("extract", "--encoder", "tiny")
    said = run("finetune", "--encoder", "tiny")
    assert "on letters, linear" in said
    assert "on letters, full" in said
    assert "on digits" not in said
    both = tables.load_parts("finetuned", ["tiny"])
    assert both.filter(pl.col("target") == "digits").equals(frame)
    assert both["target"].unique().sort().to_list() == ["digits", "letters"]

    # Kept outcomes that are damaged are told, dropped and measured again.
    settings(["digits"])
    for path in Path("data/store/finetune").glob("*/outcome.json"):
        path.write_bytes(path.read_bytes().replace(b": 0.", b": 0.1"))
    assert run("finetune", "--encoder", "tiny").count("outcome.json: is damaged") == 2
    assert tables.load_parts("finetuned", ["tiny"]).equals(frame)

    # Without the store everything is measured again, to the same bytes.
    shutil.rmtree("data/store")
    settings(["digits"])
    assert "on digits, full" in run("finetune", "--encoder", "tiny")
    assert part().read_bytes() == first


def test_full_fine_tuning_learns(settings: Callable[..., params.Params]) -> None:
    made = settings(["digits"], modes=["full"], epochs=8, max_train=500, learning_rate=0.004)
    ingest.main(made, "digits")
    weights.main(made, "tiny")
    before = weights_path("tiny").read_bytes()
    finetune.main(made, "tiny")
    assert tables.load_parts("finetuned", ["tiny"])["accuracy"].item() > 0.85
    assert weights_path("tiny").read_bytes() == before


def test_the_linear_head_sees_the_drawn_images_alone(settings: Callable[..., params.Params]) -> None:
    made = settings(["digits"])
    ingest.main(made, "digits")
    weights.main(made, "tiny")
    extract.main(made, "tiny")
    dataset = Dataset.open("digits")
    outcome = finetune.Bench(made, "tiny", dataset).outcome("linear", 0)

    # The same head fitted by hand, on rows found by a plain loop over the ids.
    features = FeatureSet.open("tiny", "digits")
    train = dataset.rows.filter(pl.col("split") == "train")
    drawn = set(finetune.training_ids(train, 100, seeds.generator(0, "finetune", "digits", 0)))
    picked = [number for number, identity in enumerate(features.index["id"]) if identity in drawn]
    assert len(picked) == 100
    pooled, labels = np.asarray(features.layer("pooled")), features.index["class_index"].to_numpy()
    head = LogisticProbe().fit(pooled[picked], labels[picked])
    held_out = [number for number, split in enumerate(features.index["split"]) if split == "test"]
    right = head.predict(pooled[held_out]) == labels[held_out]
    assert outcome.accuracy == pytest.approx(float(np.mean(right)))

    # Every layer that is kept has its own head; at the head layer it is the one of mode `linear`, and not fitted twice.
    made = settings(["digits"], modes=["linear"])
    entry = made.encoders["tiny"].model_copy(update={"layers": ["pooled", "stages.1"]})
    made = made.model_copy(update={"encoders": {"tiny": entry}})
    extract.main(made, "tiny")
    finetune.main(made, "tiny")
    probes = tables.load_parts("layer_probes", ["tiny"])
    assert probes.select("layer", "seed", "d").rows() == [("pooled", 0, 256), ("stages.1", 0, 64)]
    assert probes["accuracy"][0] == outcome.accuracy
    middle = np.asarray(FeatureSet.open("tiny", "digits").layer("stages.1"))
    right = LogisticProbe().fit(middle[picked], labels[picked]).predict(middle[held_out]) == labels[held_out]
    assert probes["accuracy"][1] == pytest.approx(float(np.mean(right)))
    assert 0 < probes["depth"][1] < probes["depth"][0] == 1

    shutil.rmtree("data/features")
    with pytest.raises(InputProblem, match=r"dvc repro --glob 'extract\*@tiny'"):
        finetune.Bench(made, "tiny", dataset).outcome("linear", 0)
    with pytest.raises(InputProblem, match=r"nearest valid: tiny"):
        finetune.main(made, "tin")
