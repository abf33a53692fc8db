"""`transferscope agreement`: a zoo that others published is judged from two tables, without any project around it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

ROOT = Path(__file__).resolve().parents[2]


def agreement(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "agreement", *arguments], cwd=folder, env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def zoo(tmp_path: Path) -> pl.DataFrame:
    """Ten encoders on two datasets, one metric that agrees and one that does not; an encoder without a score of one."""
    stream = np.random.default_rng(0)
    accuracy = stream.uniform(0.5, 0.9, (2, 10))
    frame = pl.DataFrame(
        {
            "encoder": [f"e{index}" for index in range(10)] * 2,
            "dataset": ["cars"] * 10 + ["pets"] * 10,
            "accuracy": accuracy.ravel(),
            "good": (accuracy + 0.02 * stream.normal(size=(2, 10))).ravel(),
            "noise": [None, *stream.normal(size=19)],
        }
    )
    frame.select("encoder", "dataset", "good", "noise").write_csv(tmp_path / "scores.csv")
    frame.filter(pl.col("encoder") != "e9").select("encoder", "dataset", "accuracy").write_parquet(tmp_path / "known.parquet")
    return frame.filter(pl.col("encoder") != "e9")


def test_agreement_is_what_scipy_finds(zoo: pl.DataFrame, tmp_path: Path) -> None:
    done = agreement(tmp_path, "scores.csv", "known.parquet", "--csv")
    assert done.returncode == 0, done.stderr
    found = pl.read_csv(io.StringIO(done.stdout))
    assert found.select("target", "metric").rows() == [
        (target, metric) for target in ("cars", "pets") for metric in ("good", "noise")
    ]
    for row in found.iter_rows(named=True):
        part = zoo.filter((pl.col("dataset") == row["target"]) & pl.col(row["metric"]).is_not_null())
        x, y = part[row["metric"]].to_numpy(), part["accuracy"].to_numpy()
        assert row["n_encoders"] == len(x)
        assert row["weighted_kendall"] == pytest.approx(stats.weightedtau(x, y).statistic)
        assert row["top1_regret"] == pytest.approx(y.max() - y[x.argmax()])
    assert found["warning"].to_list()[1] == "1 encoders have no score or no accuracy"


def test_the_screen_says_which_metric_is_better_than_chance(zoo: pl.DataFrame, tmp_path: Path) -> None:
    done = agreement(tmp_path, "scores.csv", "known.parquet", "--out", "found.parquet")
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.startswith(("good", "noise"))}
    assert "better than chance" in lines["good"]
    assert "may be chance" in lines["noise"]
    assert pl.read_parquet(tmp_path / "found.parquet").height == 4


def test_a_mistake_is_one_message(zoo: pl.DataFrame, tmp_path: Path) -> None:
    known = pl.read_parquet(tmp_path / "known.parquet")
    known.with_columns(encoder=pl.col("encoder").str.replace("e3", "e33")).write_csv(tmp_path / "wrong.csv")
    done = agreement(tmp_path, "scores.csv", "wrong.csv")
    assert done.returncode == 2
    assert "wrong.csv: line 5, column encoder: there is no encoder 'e33' in scores.csv; nearest valid: e3" in done.stderr
    assert "Traceback" not in done.stderr
