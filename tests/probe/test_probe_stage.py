"""The entry of the probe stage: features on disk in, two checked tables out, the same bytes twice."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_digits
from sklearn.dummy import DummyClassifier

from stages import params
from stages.artifacts import atomic, features, manifest, tables
from stages.errors import InputProblem
from stages.probe import HEADS, Head
from stages.probe.__main__ import main

Stage = Callable[..., "subprocess.CompletedProcess[str]"]


def write_features(encoder: str, dataset: str) -> None:
    """Pixels of the real handwritten digits as the layer `pooled`, in three splits."""
    x, y = load_digits(return_X_y=True)
    splits = np.array(["train", "train", "train", "val", "test"])[np.arange(len(y)) % 5]
    index = {"id": [f"{i:05d}" for i in range(len(y))], "split": splits.tolist(), "class_index": y.tolist()}
    with atomic.new_folder(features.features_path(encoder, dataset)) as folder:
        np.save(folder / "pooled.npy", x.astype(np.float32))
        pl.DataFrame(index, schema=features.INDEX_SCHEMA).write_parquet(folder / "index.parquet")
        manifest.write(
            folder,
            kind="features",
            version=features.VERSION,
            inputs={},
            encoder=encoder,
            dataset=dataset,
            layers={"pooled": "pooled.npy"},
            dtype="float32",
            source_classes=None,
        )


def parts() -> list[Path]:
    return [tables.PARTS / name / "tiny.parquet" for name in ("probe_curves", "probe_crossover")]


def test_the_entry_writes_both_tables_and_the_same_bytes_again(write_params: Callable[..., Path], run_stage: Stage) -> None:
    write_params(probe={"seeds": 3})
    write_features("tiny", "digits")
    first = run_stage("probe", "--encoder", "tiny")
    assert first.returncode == 0, first.stderr
    contents = [path.read_bytes() for path in parts()]
    assert run_stage("probe", "--encoder", "tiny").returncode == 0
    assert [path.read_bytes() for path in parts()] == contents

    curves = tables.load_parts("probe_curves", ["tiny"])
    assert curves.columns == list(tables.SCHEMAS["probe_curves"].columns)
    assert curves["m"].unique().to_list()[-1] == 1079  # all of the train split and nothing else
    assert len(curves) == 2 * 7 * 3
    crossing = tables.load_parts("probe_crossover", ["tiny"]).row(0, named=True)
    assert (crossing["target"], crossing["encoder"]) == ("digits", "tiny")
    assert crossing["regime"] in {"naive_bayes_first", "logistic_always"}  # logistic regression wins on all the digits
    best = curves.filter(m=1079, head="logistic")["error"][0]
    assert best < 0.06


def test_a_head_and_sizes_from_params_reach_the_table_without_touching_the_entry(write_params: Callable[..., Path]) -> None:
    write_params(probe={"seeds": 2, "heads": ["logistic", "prior"], "sizes": [20, 100, 500, 99_999]})
    write_features("tiny", "digits")
    HEADS.add("prior", Head(lambda c: DummyClassifier(strategy="prior")))
    try:
        main(params.load(), "tiny")
    finally:
        HEADS.remove("prior")
    curves = tables.load_parts("probe_curves", ["tiny"])
    assert curves.select("head", "m").unique().sort("head", "m").rows() == [
        (head, m) for head in ("logistic", "prior") for m in (20, 100, 500)
    ]
    crossing = tables.load_parts("probe_crossover", ["tiny"]).row(0, named=True)
    assert crossing["regime"] == "no_crossing_seen"
    assert crossing["m_star"] is None
    assert crossing["m_to_asymptote_nb"] is None


def test_wrong_input_is_one_message_and_exit_code_2(write_params: Callable[..., Path], run_stage: Stage) -> None:
    write_params(probe={"heads": ["logistics"]})
    missing = run_stage("probe", "--encoder", "tiny")
    assert missing.returncode == 2
    assert "dvc repro --glob 'extract*@tiny'" in missing.stderr
    write_features("tiny", "digits")
    unknown = run_stage("probe", "--encoder", "tiny")
    assert unknown.returncode == 2
    assert "nearest valid: logistic" in unknown.stderr
    with pytest.raises(InputProblem):
        tables.load_parts("probe_curves", ["tiny"])


def test_assumptions_stand_beside_who_won_and_need_the_curves(write_params: Callable[..., Path], run_stage: Stage) -> None:
    write_params(probe={"seeds": 2, "sizes": [20, 100, 500]})
    write_features("tiny", "digits")
    early = run_stage("assumptions", "--encoder", "tiny")
    assert early.returncode == 2
    assert "probe_curves" in early.stderr
    assert run_stage("probe", "--encoder", "tiny").returncode == 0
    part = tables.PARTS / "probe_assumptions" / "tiny.parquet"
    assert run_stage("assumptions", "--encoder", "tiny").returncode == 0
    first = part.read_bytes()
    assert run_stage("assumptions", "--encoder", "tiny").returncode == 0
    assert part.read_bytes() == first
    row = tables.load_parts("probe_assumptions", ["tiny"]).row(0, named=True)
    assert (row["n"], row["d"], row["n_classes"]) == (1079, 64, 10)
    assert row["n_constant"] >= 3  # corners of the 8 x 8 images that no pen reaches
    assert row["divergence_per_dim"] > 0.1  # neighbouring pixels go together
    curves = tables.load_parts("probe_curves", ["tiny"]).filter(m=500)
    assert row["logistic_error"] == pytest.approx(curves.filter(head="logistic")["error"].mean())
    assert row["regime"] == tables.load_parts("probe_crossover", ["tiny"])["regime"].item()


def test_the_simulation_writes_its_tables_and_the_same_bytes_again(write_params: Callable[..., Path], run_stage: Stage) -> None:
    write_params(simulation={"classes": [2, 3], "dims": [10, 20, 40], "seeds": 2, "max_m": 200, "test_points": 500})
    names = ("sample_complexity", "sample_complexity_fits", "logistic_bound")
    first = run_stage("sample_complexity")
    assert first.returncode == 0, first.stderr
    contents = [tables.result_path(name).read_bytes() for name in names]
    assert run_stage("sample_complexity").returncode == 0
    assert [tables.result_path(name).read_bytes() for name in names] == contents
    found, fitted, bounds = (tables.load(name) for name in names)
    assert len(found) == 2 * 3 * 2 * 2  # mixtures, heads, seeds
    assert len(fitted) == 2 * 2 * 2
    assert (bounds["excess_error"] <= bounds["error_bound"]).all()


def test_a_simulation_that_is_none_is_refused(write_params: Callable[..., Path], run_stage: Stage) -> None:
    write_params(simulation={"classes": [1]})
    refused = run_stage("sample_complexity")
    assert refused.returncode == 2
    assert "simulation.classes" in refused.stderr
