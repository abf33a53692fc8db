"""From rendered characters to the proof, every stage as DVC runs it, at a small size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from stages.artifacts import tables
from stages.artifacts.pruning import Pruning

STAGES = [
    ("ingest", "--dataset", "letters"),
    ("ingest", "--dataset", "digits"),
    ("sources",),
    ("weights", "--encoder", "tiny"),
    ("extract", "--encoder", "tiny"),
    ("prune",),
    ("prune_proof",),
]


@pytest.mark.slow
def test_characters_are_pruned_for_digits(write_params: Callable[..., Path], run_stage: Callable[..., Any]) -> None:
    methods = ["label_mapping", "feature_mapping", "random", "reversed", "moderate"]
    write_params(
        datasets={
            "packaged": {
                "letters": {"kind": "glyphs", "scripts": ["latin", "digits"], "classes": 12, "images_per_class": 20},
                "digits": {"kind": "sklearn", "name": "digits"},
            }
        },
        encoders={
            "tiny": {"arch": "test_byobnet", "arch_args": {"in_chans": 1}, "weights": {"pretrain": "letters"}, "input_size": 32}
        },
        pretrain={"epochs": 2, "batch_size": 32},
        run={"device": "cpu", "threads": 1},
        prune={
            "pairs": [{"source": "letters", "target": "digits", "surrogate": "tiny"}],
            "methods": [*methods, "feature_mapping_clusters"], "clusters": [12], "fractions": [0.25, 0.5], "seeds": 1,
            "tolerance": 1.0,
        },
        finetune={"epochs": 1},
    )  # fmt: skip
    methods.append("feature_mapping_clusters_12")
    for stage in STAGES:
        done = run_stage(*stage)
        assert done.returncode == 0, done.stderr
    votes = tables.load("pruning_scores").filter(pl.col("method") == "label_mapping")
    digits_in_training = len(pl.read_parquet("data/datasets/digits/manifest.parquet").filter(pl.col("split") == "train"))
    assert votes["score"].sum() == digits_in_training
    assert len(votes) == 12
    letters = pl.read_parquet("data/datasets/letters/manifest.parquet")
    for method in methods:
        kept = Pruning.open("letters", "digits", method, verify=True).kept(0.5)
        assert kept.join(letters, on="id")["split"].unique().to_list() == ["train"]
    outcomes = tables.load("pruning_outcomes")
    assert len(outcomes) == 2 * (2 + 2 * len(methods))
    assert tables.load("pruning_savings")["keep_fraction"].to_list() == [0.25] * 2 * len(methods)
    linear = outcomes.filter(pl.col("mode") == "linear")
    full = linear.filter(pl.col("method") == "full")["pretrain_steps"].item()
    quarter = linear.filter(pl.col("method") == "label_mapping", pl.col("keep_fraction") == 0.25)["pretrain_steps"].item()
    assert 0 < quarter <= full / 2
