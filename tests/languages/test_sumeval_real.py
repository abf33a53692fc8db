"""The few-shot law on published cross-lingual results (SumEval, XLM-R): the logarithm beats the line and the step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stages.languages import PAIR_FEATURES, fewshot_curve, mix
from stages.languages.features import with_features
from stages.languages.fewshot import laws
from stages.languages.intake import accept
from stages.languages.within import within_line

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


@pytest.fixture(scope="module")
def taken(request: pytest.FixtureRequest) -> pl.DataFrame:
    """The whole table as a user would hand it in: mixes as JSON, the model as a part of the task."""
    path = Path(__file__).resolve().parents[3] / "shared" / "real" / "language" / "sumeval.parquet"
    if not path.is_file():
        pytest.skip(f"the real inputs are not at {path}")
    raw = pl.read_parquet(path).with_columns(pl.format("{}/{}", "task", "model").alias("task"))
    raw = raw.select("task", "target", "score", "split", source="config", n_target="target_train_size")
    found = accept(raw, "sumeval.parquet")
    assert found.notes == ["columns that hold no numbers left out: split", "languages written in another way: tl is fil"]
    return found.pairs


def test_every_row_is_taken_with_its_mix(taken: pl.DataFrame, real_inputs: Path) -> None:
    raw = pl.read_parquet(real_inputs / "language" / "sumeval.parquet")
    assert taken.height == raw.height == 54_160
    assert taken["score"].sort().equals(raw["score"].sort())
    sizes = taken.filter(pl.col("source") != pl.col("target")).select(
        pl.col("n_source"), pl.col("n_shots"), total=pl.col("n_source") + pl.col("n_shots")
    )
    assert (
        sizes["n_shots"].sum() + taken.filter(pl.col("source") == pl.col("target"))["n_shots"].sum()
        == raw["target_train_size"].sum()
    )
    assert sizes["total"].sum() <= raw["total_train_size"].sum()
    own = [
        target in mix.languages(source)
        for source, target in taken.filter(pl.col("source") != pl.col("target")).select("source", "target").iter_rows()
    ]
    assert not any(own), "what a mix has of the target are target examples"


@pytest.mark.parametrize(
    ("task", "expected"), [("UDPOS", (0.394, 0.143, 0.313)), ("WikiANN", (0.353, 0.330, 0.249))], ids=["udpos", "wikiann"]
)
def test_the_logarithm_fits_best_in_the_table_as_taken(
    taken: pl.DataFrame, task: str, expected: tuple[float, float, float], real_inputs: Path
) -> None:
    raw = pl.read_parquet(real_inputs / "language" / "sumeval.parquet")
    seen = raw.filter((pl.col("task") == task) & (pl.col("split") == "train"))["target"].unique()
    pairs = taken.filter((pl.col("task") == f"{task}/XLMR") & pl.col("target").is_in(seen.to_list()))
    row = laws(pairs).row(0, named=True)
    found = (row["r2_log"], row["r2_linear"], row["r2_step"])
    assert found[0] == max(found)
    assert found == pytest.approx(expected, abs=0.02)
    curves = fewshot_curve(pairs, goal=0.9)
    assert curves.height == row["n_targets"]
    assert (curves["slope_low"] > 0).mean() > 0.9, "more target examples help nearly every language"
    assert curves["source"].null_count() == curves.height


def test_features_of_real_mixes_are_known(taken: pl.DataFrame) -> None:
    features = {name: PAIR_FEATURES[name] for name in sorted(PAIR_FEATURES)}
    found = with_features(taken.filter(pl.col("task") == "WikiANN/XLMR"), features, {})
    assert {"syntax_distance", "genetic_distance", "n_source_languages", "source_log_examples"} <= set(found.columns)
    assert found["syntax_distance"].null_count() == 0
    assert not [name for name in found.columns if "overlap" in name], "no texts were given"
