"""Weights by each objective become an artifact, and one without a head goes through every stage that needs none."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

import stages.extract
import stages.probe.__main__
import stages.prune.__main__
import stages.rank.__main__
import stages.weights
from stages import encoders, ingest, params, prune_proof
from stages.artifacts import tables, weights
from stages.artifacts.features import FeatureSet
from stages.artifacts.pruning import Pruning
from stages.errors import InputProblem

ROOT = Path(__file__).resolve().parents[2]
BUDGET = {"epochs": 2, "batch_size": 64}


def sections(objective: str, method: str = "feature_mapping", **options: object) -> dict[str, Any]:
    aim = {"pretrain": "letters", "objective": objective, **options}
    return {
        "datasets": {
            "packaged": {
                "letters": {"kind": "glyphs", "scripts": ["latin"], "classes": 8, "images_per_class": 20, "size": 32},
                "digits": {"kind": "sklearn", "name": "digits"},
            }
        },
        "encoders": {"mine": {"arch": "test_byobnet", "arch_args": {"in_chans": 1}, "weights": aim, "input_size": 32}},
        "pretrain": BUDGET,
        "finetune": {"epochs": 1},
        "run": {"device": "cpu"},
        "rank": {"metrics": ["logme", "leep"]},
        "probe": {"sizes": [20, 50, 100], "seeds": 2},
        "prune": {
            "pairs": [{"source": "letters", "target": "digits", "surrogate": "mine"}],
            "methods": [method], "fractions": [0.25, 0.5], "seeds": 1, "modes": ["linear"],
        },
    }  # fmt: skip


def test_an_encoder_without_a_head_goes_through_every_stage(write_params: Callable[..., Path]) -> None:
    settings = params.load(write_params(**sections("simclr", mirror=False)))
    for name in ("letters", "digits"):
        ingest.main(settings, name)
    for stage in (stages.weights, stages.extract, stages.rank.__main__, stages.probe.__main__):
        stage.main(settings, "mine")
    card = weights.read_card("mine")
    assert (card.source, card.origin, card.num_classes, card.classes) == ("pretrain", "letters", 0, [])
    assert {"objective": "simclr", "mirror": False, "temperature": 0.5}.items() <= card.training.items()
    assert not any("accuracy" in name for name in card.training)
    model, _ = encoders.load("mine")
    assert model.num_classes == 0
    assert FeatureSet.open("mine", "digits").source_classes is None
    scored = pl.read_parquet("data/parts/transferability/mine.parquet")
    assert scored.filter(pl.col("metric") == "leep")["score"].to_list() == [None]
    assert scored.filter(pl.col("metric") == "logme")["score"].null_count() == 0
    stages.prune.__main__.main(settings)
    prune_proof.main(settings)
    assert len(Pruning.open("letters", "digits", "feature_mapping").kept(0.25)) > 0
    proved = tables.load("pruning_outcomes")
    assert proved.filter(pl.col("method") == "feature_mapping")["n_classes"].to_list() == [2, 4]

    with pytest.raises(InputProblem, match=r"label mapping needs .* the surrogate's head is absent") as refused:
        stages.prune.__main__.main(params.load(write_params(**sections("simclr", "label_mapping", mirror=False))))
    assert refused.value.next_step is not None
    assert "use feature_mapping" in refused.value.next_step


def kept_trainings() -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in Path("data/store/training").glob("*/facts.json")}


@pytest.mark.parametrize("objective", ["simclr", "adversarial"])
def test_a_training_is_kept_and_repeatable_and_its_options_are_part_of_it(
    write_params: Callable[..., Path], objective: str
) -> None:
    settings = params.load(write_params(**sections(objective)))
    ingest.main(settings, "letters")
    stages.weights.main(settings, "mine")
    first, card, kept = weights.weights_path("mine").read_bytes(), weights.read_card("mine"), kept_trainings()
    if objective == "adversarial":
        assert {"val_accuracy", "val_robust_accuracy", "test_accuracy", "test_robust_accuracy"} <= card.training.keys()
        assert card.training["test_robust_accuracy"] <= card.training["test_accuracy"]
    stages.weights.main(settings, "mine")
    assert kept_trainings() == kept
    shutil.rmtree("data/store")
    stages.weights.main(settings, "mine")
    assert weights.weights_path("mine").read_bytes() == first
    assert weights.read_card("mine") == card
    option = {"simclr": {"temperature": 0.2}, "adversarial": {"epsilon": 60}}[objective]
    stages.weights.main(params.load(write_params(**sections(objective, **option))), "mine")
    assert len(kept_trainings()) == 2
    assert weights.weights_path("mine").read_bytes() != first


def test_a_killed_training_ends_in_the_bytes_of_an_unbroken_one(
    write_params: Callable[..., Path], run_stage: Callable[..., Any]
) -> None:
    """SimCLR's, which carries more than the encoder from epoch to epoch; the others are interrupted in their contract test."""
    settings = params.load(write_params(**{**sections("simclr"), "pretrain": {"epochs": 12, "batch_size": 16}}))
    ingest.main(settings, "letters")
    command = [sys.executable, "-m", "stages.weights", "--encoder", "mine"]
    victim = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(Path("data/store/training").glob("*/checkpoints/newest.pt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    (newest,) = Path("data/store/training").glob("*/checkpoints/newest.pt")
    assert 0 < torch.load(newest, weights_only=True)["epochs_done"] < 12
    assert run_stage("weights", "--encoder", "mine").returncode == 0
    resumed = weights.weights_path("mine").read_bytes()
    shutil.rmtree("data/store")
    assert run_stage("weights", "--encoder", "mine").returncode == 0
    assert weights.weights_path("mine").read_bytes() == resumed
