"""Joining the parts: ranks, agreement, metrics over pools, and encoders that are no longer wanted."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stages import params
from stages.artifacts import tables
from stages.errors import InputProblem
from stages.rank import METRICS, PoolMetric, agreement
from stages.seeds import integer_seed
from stages.tables import add_rank, main

ENCODERS = ["ada", "bea", "cyd", "dot"]
ACCURACY = {"ada": 0.5, "bea": 0.9, "cyd": 0.7, "dot": 0.6}
MODES = ("full", "layers", "linear")
SCORE = {"ada": 0.1, "bea": 0.8, "cyd": 0.9, "dot": 0.3}


def schema(name: str, leave_out: str = "") -> dict[str, object]:
    return {column: kind.dtype for column, kind in tables.SCHEMAS[name].columns.items() if column != leave_out}


def write_parts(encoder: str, *, pooled: bool = False) -> None:
    """Write what the stages before leave for one encoder; `deep` scores mislead, `missing` has none."""
    row = {"target": "digits", "encoder": encoder, "higher_is_better": True, "n": 10, "d": 4, "n_classes": 2,
           "n_source_classes": None if encoder == "dot" else 7, "warning": None}  # fmt: skip
    scores = [
        {**row, "layer": "pooled", "metric": "good", "score": SCORE[encoder]},
        {**row, "layer": "deep", "metric": "good", "score": -SCORE[encoder]},
        {**row, "layer": "pooled", "metric": "low", "score": SCORE[encoder], "higher_is_better": False},
        {**row, "layer": "pooled", "metric": "missing", "score": None, "warning": "needs a source head"},
    ]
    if pooled:
        scores += [
            {**row, "layer": "pooled", "metric": "spread:one", "score": SCORE[encoder] * 7},
            {**row, "layer": "pooled", "metric": "spread:two", "score": None if encoder == "dot" else -1.0},
        ]
    frame = pl.DataFrame(scores, schema=schema("transferability", "rank"))
    tables.write_part("transferability", encoder, frame, leave_out=["rank"])
    runs = [
        {"target": "digits", "encoder": encoder, "mode": mode, "seed": seed, "accuracy": ACCURACY[encoder] + shift,
         "mean_per_class_accuracy": 0.5, "epochs": 3}
        for mode in ("linear", "full")
        for seed, shift in enumerate((-0.01, 0.01))
    ]  # fmt: skip
    tables.write_part("finetuned", encoder, pl.DataFrame(runs, schema=schema("finetuned")))
    probes = [
        {
            "target": "digits",
            "encoder": encoder,
            "layer": layer,
            "seed": seed,
            "depth": depth,
            "d": 4,
            "accuracy": accuracy + shift,
        }
        for layer, depth, accuracy in (("deep", 0.5, 0.4), ("pooled", 1.0, ACCURACY[encoder]))
        for seed, shift in enumerate((-0.01, 0.01))
    ]
    tables.write_part("layer_probes", encoder, pl.DataFrame(probes, schema=schema("layer_probes")))
    curve = {"target": "digits", "encoder": encoder, "head": "logistic", "m": 20, "seed": 0, "error": 0.5}
    curve |= {"mean_per_class_error": 0.5, "log_loss": 1.0, "calibration_error": 0.1}
    tables.write_part("probe_curves", encoder, pl.DataFrame([curve], schema=schema("probe_curves")))
    crossing = dict.fromkeys(schema("probe_crossover")) | {"target": "digits", "encoder": encoder, "regime": "no_crossing_seen"}
    tables.write_part("probe_crossover", encoder, pl.DataFrame([crossing], schema=schema("probe_crossover")))
    checked = dict.fromkeys(schema("probe_assumptions")) | {key: crossing[key] for key in ("target", "encoder", "regime")}
    checked |= {"n": 10, "d": 4, "n_classes": 2, "n_constant": 4, "warning": "no dimension varies within a class"}
    tables.write_part("probe_assumptions", encoder, pl.DataFrame([checked], schema=schema("probe_assumptions")))


@pytest.fixture
def join(write_params: Callable[..., Path]) -> Callable[..., None]:
    """Run the entry's body for some encoders."""

    def run(encoders: list[str], metrics: tuple[str, ...] = ("logme",), layers: tuple[str, ...] = ("deep", "pooled")) -> None:
        entry = {"arch": "test_byobnet", "weights": "random", "layers": list(layers)}
        write_params(encoders=dict.fromkeys(encoders, entry), rank={"metrics": list(metrics)}, recommend={"metric": metrics[0]})
        main(params.load(), "")

    return run


def test_ranks(join: Callable[..., None]) -> None:
    for encoder in ENCODERS:
        write_parts(encoder)
    join(ENCODERS)
    table = tables.load("transferability")
    good = table.filter(pl.col("metric") == "good").sort("rank").select("encoder", "layer").rows()
    assert good[:4] == [(name, "pooled") for name in ("cyd", "bea", "dot", "ada")]
    assert good[4:] == [(name, "deep") for name in ("ada", "dot", "bea", "cyd")]
    low = table.filter(pl.col("metric") == "low").sort("rank")["encoder"].to_list()
    assert low == ["ada", "dot", "bea", "cyd"]
    missing = table.filter(pl.col("metric") == "missing")
    assert missing["rank"].null_count() == len(missing) == 4


def test_equal_scores_go_by_encoder_and_layer() -> None:
    frame = pl.DataFrame(
        {
            "target": ["t"] * 4, "encoder": ["b", "a", "a", "c"], "layer": ["x", "y", "x", "x"], "metric": ["m"] * 4,
            "score": [1.0, 1.0, 1.0, 2.0], "higher_is_better": [True] * 4,
        }
    )  # fmt: skip
    ranked = add_rank(frame).sort("rank")
    assert ranked.select("encoder", "layer").rows() == [("c", "x"), ("a", "x"), ("a", "y"), ("b", "x")]
    assert ranked["rank"].to_list() == [1, 2, 3, 4]


def test_agreement_is_of_the_head_layer_with_the_mean_over_seeds(join: Callable[..., None]) -> None:
    for encoder in ENCODERS:
        write_parts(encoder)
    join(ENCODERS)
    table = tables.load("agreement")
    assert table.select("metric", "mode").rows() == [(metric, mode) for metric in ("good", "low", "missing") for mode in MODES]
    expected = agreement(
        [SCORE[name] for name in ENCODERS],
        [ACCURACY[name] for name in ENCODERS],
        seed=integer_seed(0, "agreement", "digits", "full"),
    )
    row = table.row(0, named=True)
    for name, value in expected.items():
        assert row[name] == (pytest.approx(value) if isinstance(value, float) else value), name
    assert row["top1_regret"] == pytest.approx(0.2)  # cyd instead of bea
    reversed_row = table.row(by_predicate=(pl.col("metric") == "low") & (pl.col("mode") == "full"), named=True)
    assert reversed_row["kendall"] == pytest.approx(-row["kendall"])
    missing = table.row(by_predicate=(pl.col("metric") == "missing") & (pl.col("mode") == "full"), named=True)
    assert missing["n_encoders"] == 0
    assert missing["kendall"] is None
    assert missing["warning"].startswith("4 encoders have no score")


def test_a_removed_encoder_leaves_every_table(join: Callable[..., None]) -> None:
    for encoder in ENCODERS:
        write_parts(encoder)
    join(ENCODERS)
    join(ENCODERS[:3])
    assert Path("data/parts/finetuned/dot.parquet").exists()
    for name in ("transferability", "finetuned", "probe_curves", "probe_crossover", "probe_assumptions"):
        assert tables.load(name)["encoder"].unique().sort().to_list() == ENCODERS[:3]
    assert tables.load("agreement").filter(pl.col("metric") == "good")["n_encoders"].to_list() == [3, 3, 3]
    ranks = tables.load("transferability").filter(pl.col("metric") == "good")["rank"].sort().to_list()
    assert ranks == list(range(1, 7))


def test_a_missing_part_names_what_makes_it_and_order_in_params_does_not_matter(join: Callable[..., None]) -> None:
    for encoder in ENCODERS[:3]:
        write_parts(encoder)
    with pytest.raises(InputProblem, match="dot"):
        join(ENCODERS)
    results = Path("data/results")
    assert not list(results.glob("*.parquet"))
    join(["bea", "ada", "cyd"])
    first = {path.name: path.read_bytes() for path in results.glob("*.parquet")}
    join(["cyd", "bea", "ada"])
    assert {path.name: path.read_bytes() for path in results.glob("*.parquet")} == first
    assert len(first) == 9


def test_one_encoder(join: Callable[..., None], run_stage: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    write_parts("ada")
    join(["ada"])
    expected = Path("data/results/agreement.parquet").read_bytes()
    assert tables.load("agreement").filter(pl.col("metric") == "good")["warning"].str.contains("too few").all()
    done = run_stage("tables")
    assert done.returncode == 0, done.stderr
    assert Path("data/results/agreement.parquet").read_bytes() == expected


@pytest.fixture
def spread() -> Iterator[str]:
    """A metric over the pool, registered for one test."""
    metric = PoolMetric(
        components=("one", "two"),
        measure=lambda statistics: ((float(statistics.n), float(statistics.d)), None),
        combine=lambda table: np.asarray((table - table.min(axis=0))[:, 0] / np.ptp(table[:, 0])),
    )
    METRICS.add("spread", metric)
    yield "spread"
    METRICS.remove("spread")


def test_a_metric_over_the_pool_is_joined_here(join: Callable[..., None], spread: str) -> None:
    for encoder in ENCODERS:
        write_parts(encoder, pooled=True)
    join(ENCODERS, ("logme", spread))
    table = tables.load("transferability")
    assert not table["metric"].str.contains(":").any()
    rows = table.filter(pl.col("metric") == spread).sort("encoder")
    assert rows["score"].to_list() == [0, pytest.approx(7 / 8), 1, None]  # (0.8 - 0.1) / (0.9 - 0.1); dot has no component
    assert rows["rank"].to_list() == [3, 2, 1, None]
    assert tables.load("agreement").filter(pl.col("metric") == spread)["n_encoders"].to_list() == [3, 3, 3]


def test_profiles_have_every_layer_with_its_score(join: Callable[..., None]) -> None:
    for encoder in ENCODERS:
        write_parts(encoder)
    part = tables.load_parts("transferability", ["ada"]).with_columns(pl.col("metric").replace("good", "tmi"))
    tables.write_part("transferability", "ada", part, leave_out=["rank"])
    join(ENCODERS)
    rows = tables.load("layer_profiles")
    assert rows.filter(pl.col("encoder") == "ada").select("layer", "depth", "d", "tmi", "tmi_per_dim").rows() == [
        ("deep", 0.5, 4, -0.1, None), ("pooled", 1.0, 4, 0.1, None),
    ]  # fmt: skip
    assert rows["tmi"].null_count() == 6
    bea = rows.row(by_predicate=(pl.col("encoder") == "bea") & (pl.col("layer") == "pooled"), named=True)
    assert [bea[name] for name in ("probe_accuracy", "probe_low", "probe_high")] == pytest.approx([0.9, 0.89, 0.91])


def test_accuracies_that_the_user_brings(write_params: Callable[..., Path]) -> None:
    """They replace fine-tuning: three of four encoders have one, and the metric is judged by those."""
    for encoder in ENCODERS:
        write_parts(encoder)
        empty = tables.load_parts("finetuned", [encoder]).clear()
        tables.write_part("finetuned", encoder, empty)
        tables.write_part("layer_probes", encoder, tables.load_parts("layer_probes", [encoder]).clear())
    entry = {"arch": "test_byobnet", "weights": "random", "layers": ["deep", "pooled"]}
    mine = Path("data/raw/accuracies/mine.csv")
    mine.parent.mkdir()

    def run(content: str) -> None:
        mine.write_text(content)
        rank = {"metrics": ["logme"], "accuracies": str(mine)}
        write_params(encoders=dict.fromkeys(ENCODERS, entry), rank=rank, finetune={"modes": []})
        main(params.load(), "")

    run("encoder,dataset,accuracy\nada,digits,0.5\nbea,digits,0.9\ncyd,digits,0.7\n")
    assert tables.load("finetuned").select("encoder", "mode", "seed", "accuracy", "epochs").rows() == [
        ("ada", "given", 0, 0.5, None), ("bea", "given", 0, 0.9, None), ("cyd", "given", 0, 0.7, None),
    ]  # fmt: skip
    agreed = tables.load("agreement")
    assert agreed.select("metric", "mode").rows() == [(metric, "given") for metric in ("good", "low", "missing")]
    good = agreed.row(0, named=True)
    assert (good["n_encoders"], good["top1_regret"]) == (3, pytest.approx(0.2))
    assert tables.load("metric_verdicts").filter(aspect="all", metric="good")["n_encoders"].to_list() == [3]
    assert tables.load("layer_profiles").is_empty()
    with pytest.raises(InputProblem, match=r"mine.csv: line 2, column encoder: there is no encoder 'adda'.*valid: ada"):
        run("encoder,dataset,accuracy\nadda,digits,0.5\n")


def test_no_ground_truth_at_all_is_a_mistake_in_params(write_params: Callable[..., Path]) -> None:
    write_params(finetune={"modes": []})
    with pytest.raises(InputProblem, match=r"finetune\.modes: is empty, and rank\.accuracies names no accuracies"):
        params.load()
