"""The few-shot law on published cross-lingual results (SumEval, XLM-R): the logarithm beats the line and the step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stages.languages import fewshot_curve
from stages.languages.fewshot import within_line

pytestmark = pytest.mark.real


@pytest.mark.parametrize(
    ("task", "expected"), [("UDPOS", (0.394, 0.143, 0.313)), ("WikiANN", (0.353, 0.330, 0.249))], ids=["udpos", "wikiann"]
)
def test_the_logarithm_fits_best_within_targets(real_inputs: Path, task: str, expected: tuple[float, float, float]) -> None:
    rows = pl.read_parquet(real_inputs / "language" / "sumeval.parquet").filter(
        (pl.col("task") == task) & (pl.col("model") == "XLMR") & pl.col("split").is_in(["train", "test"])
    )
    n, score = rows["target_train_size"].to_numpy().astype(float), rows["score"].to_numpy()
    targets = rows["target"].rank("dense").to_numpy().astype(np.int64)
    lines = [within_line(x, score, targets) for x in (np.log10(1 + n), n, (n > 0).astype(float))]
    found = [line.r2 for line in lines if line is not None and line.r2 is not None]
    assert found == pytest.approx(expected, abs=0.0006)
    assert found[0] == max(found)


def test_the_table_fits_the_input_contract(real_inputs: Path) -> None:
    rows = pl.read_parquet(real_inputs / "language" / "sumeval.parquet").filter(
        (pl.col("task") == "UDPOS") & (pl.col("model") == "XLMR") & pl.col("split").is_in(["train", "test"])
    )
    table = rows.select("task", "target", "score", n_shots="target_train_size", seed="config_id")
    curves = fewshot_curve(table, goal=0.9)
    assert curves.height == rows.filter(pl.col("target_train_size") > 0)["target"].n_unique()
    means = curves.select(pl.col("r2_log", "r2_linear", "r2_step").mean()).row(0)
    assert means[0] == max(means)
    assert (curves["slope_low"] > 0).mean() > 0.9, "more target examples help nearly every language"
