"""Both entries as DVC runs them: measured pairs in, the tables out, the same bytes again."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import polars as pl

from stages import params, transfer
from stages.artifacts import manifest, tables
from stages.languages import __main__ as entry

MADE = [
    "language_warnings", "language_effects", "language_groups", "language_claims", "language_predictions", "language_quality",
    "language_anchors", "language_choices", "source_languages", "distance_weights", "language_distances", "language_clusters",
    "source_sets", "fewshot_curves",
]  # fmt: skip


def test_nothing_asked_gives_empty_tables(write_params: Callable[..., Path]) -> None:
    settings = params.load(write_params(languages={"tasks": [], "languages": ["en", "es", "pt"]}))
    transfer.main(settings)
    entry.main(settings)
    assert {name: tables.load(name).height for name in ["language_pairs", *MADE]} == dict.fromkeys(["language_pairs", *MADE], 0)


def test_measured_to_answered(
    project: Path, write_params: Callable[..., Path], run_stage: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    languages = ["en", "de", "es", "pt", "fr", "it", "nl", "sv", "ru", "uk", "id"]
    write_params(languages={
        "tasks": ["entity_type", "territory_continent"], "languages": languages, "shots": [0, 10, 100], "seeds": 2, "goal": 0.5,
        "models": ["source_mean", "nearest_genetic", "combined_distance", "ridge", "lambdarank"],
    })  # fmt: skip
    early = run_stage("languages")
    assert early.returncode == 2
    assert "dvc repro transfer" in early.stderr
    for stage in ("transfer", "languages"):
        done = run_stage(stage)
        assert done.returncode == 0, done.stderr
    first = {name: manifest.sha256(tables.result_path(name)) for name in MADE}
    assert run_stage("languages").returncode == 0
    assert {name: manifest.sha256(tables.result_path(name)) for name in MADE} == first
    assert "choosing by english" in done.stdout
    assert "claim that syntax, morphology and phonology predict more than lexical similarity, alone: " in done.stdout
    assert "the sources chosen beat always English" in done.stdout

    zero = (
        tables.load("language_pairs")
        .filter(pl.col("n_shots") == 0)
        .group_by("task", "source", "target")
        .agg(pl.col("score").mean())
    )
    for task, source, target in [("entity_type", "es", "pt"), ("territory_continent", "ru", "uk"), ("entity_type", "ru", "uk")]:
        of_target = zero.filter((pl.col("task") == task) & (pl.col("target") == target) & (pl.col("source") != target))
        assert of_target.sort("score")["source"].last() == source
    cross = zero.filter((pl.col("source") == "ru") & (pl.col("target").is_in(languages[:6])))
    assert cross["score"].max() < 0.25, "across scripts there is nothing to go by: near chance"

    ranked = tables.load("source_languages")
    assert ranked.height == 2 * 11 * 10
    assert ranked.filter(pl.col("rank") == 1)["regret"].mean() < 0.05
    protocols = set(tables.load("language_quality")["split_protocol"])
    assert protocols == {"leave_one_target_out", "seen_target", "optimistic"}
    assert "leave_one_family_out: no answer" in done.stdout, "two families, and one of them held out"
    grouped = tables.load("language_clusters").filter(pl.col("language").is_in(["ru", "uk", "en"]))
    for (_,), of_task in grouped.group_by("task"):
        number = dict(of_task.select("language", "cluster").iter_rows())
        assert number["ru"] == number["uk"] != number["en"]
    assert set(tables.load("language_effects")["task"]) == {"entity_type", "territory_continent"}
    curves = tables.load("fewshot_curves")
    assert curves.height == 22
    assert curves.filter(pl.col("n_for_goal").is_null())["warning"].null_count() == 0
    told = curves.filter(pl.col("n_for_goal").is_not_null() & pl.col("warning").str.contains("extrapolated"))
    assert told.equals(curves.filter(pl.col("n_for_goal") > 100))  # beyond what was measured
    bounded = curves.drop_nulls("n_high")
    assert (bounded["n_low"] <= bounded["n_for_goal"]).all()
    assert (bounded["n_for_goal"] <= bounded["n_high"]).all()
