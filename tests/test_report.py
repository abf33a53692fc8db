"""The report on few rows: every sentence and every figure holds up where tables are small or empty."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from stages import ingest, params, recommend
from stages.artifacts import tables
from stages.artifacts.dataset import Dataset
from stages.errors import InputProblem
from stages.languages import fewshot_curve, rank_sources
from stages.languages.clusters import combined_distances
from stages.languages.predict import quality
from stages.params import Params
from stages.probe.simulation import fits
from stages.prune.savings import smallest_fraction
from stages.report import Results, extract, language_figures, probe, prune, rank, sections
from stages.report.metrics import metrics
from stages.report.page import page as page_of
from stages.report.thumbnails import thumbnails
from stages.tables import profiles

ENCODERS = {"big": 0.9, "small": 0.6}
TARGETS = ("digits", "other")


def frame(name: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={key: column.dtype for key, column in tables.SCHEMAS[name].columns.items()})


def outcome(pair: tuple[str, str], method: str, fraction: float, seed: int, accuracy: float) -> dict[str, Any]:
    return {
        "source": pair[0],
        "target": pair[1],
        "method": method,
        "keep_fraction": fraction,
        "mode": "linear",
        "seed": seed,
        "n_classes": 5,
        "n_images": 50,
        "pretrain_steps": round(100 * fraction) + seed,  # repetitions need not take the same number of steps
        "downstream_accuracy": accuracy,
        "full_source_accuracy": 0.9,
    }


def outcomes(*pairs: tuple[str, str]) -> pl.DataFrame:
    rows = [
        outcome(pair, method, fraction, seed, accuracy)
        for pair in pairs
        for seed in (0, 1)
        for method, fraction, accuracy in (("full", 1.0, 0.9), ("mapping", 0.5, 0.9 - 0.004 * seed), ("random", 0.5, 0.5))
    ]
    return frame("pruning_outcomes", rows)


def language_pairs() -> pl.DataFrame:
    names = ["en", "es", "pt"]
    rows = [
        {
            "task": "k",
            "source": source,
            "target": target,
            "n_shots": n,
            "seed": 0,
            "score": 0.5 + 0.1 * abs(names.index(source) - names.index(target)) + 0.01 * n,
            "metric": "macro_f1",
            "n_source": 9,
            "n_target": 9,
        }
        for source in names
        for target in names
        for n in (0, 10)
    ]
    nearness = (pl.col("source") == pl.col("target")).cast(pl.Float64)
    return pl.DataFrame(rows).with_columns(syntax_distance=1 - nearness, genetic_distance=nearness)


@pytest.fixture
def settings(write_params: Callable[..., Path]) -> Params:
    tiny = {"arch": "test_byobnet", "weights": "random", "layers": ["pooled", "stages.1"]}
    return params.load(write_params(encoders=dict.fromkeys(ENCODERS, tiny)))


@pytest.fixture
def results(settings: Params) -> Results:
    """Tables of two encoders on two targets; the pick is an intermediate layer on one of them, two of four curves cross."""
    pairs = [(target, encoder) for target in TARGETS for encoder in ENCODERS]
    scores = [
        {
            "target": target,
            "encoder": encoder,
            "layer": layer,
            "metric": "logme",
            "score": score,
            "rank": 1 + ["pooled", "stages.1"].index(layer) + (2 if encoder == "small" else 0),
            "higher_is_better": True,
            "n": 10,
            "d": 2,
            "n_classes": 2,
            "warning": None,
        }
        for target, encoder in pairs
        for layer, score in (("pooled", ENCODERS[encoder]), ("stages.1", ENCODERS[encoder] - 0.1))
    ]
    finetuned = [
        {
            "target": target,
            "encoder": encoder,
            "mode": mode,
            "seed": seed,
            "accuracy": ENCODERS[encoder] - 0.01 * seed,
            "mean_per_class_accuracy": 0.5,
            "epochs": None,
        }
        for target, encoder in pairs
        for mode in ("full", "linear")
        for seed in (0, 1)
    ]
    agreement = [
        {
            "target": target,
            "metric": "logme",
            "mode": mode,
            "n_encoders": 2,
            "n_candidates": 2,
            "weighted_kendall": tau,
            "top1_regret": 0.02,
        }
        for target in TARGETS
        for mode, tau in (("full", 0.25), ("linear", 0.75))
    ]
    probes = [
        {"target": target, "encoder": encoder, "layer": layer, "seed": seed, "depth": depth, "d": 2, "accuracy": accuracy}
        for target, encoder in pairs
        for layer, depth, accuracy in (("pooled", 1.0, ENCODERS[encoder]), ("stages.1", 0.5, 0.4))
        for seed in (0, 1)
    ]
    verdicts = [
        {"aspect": "all", "level": "all targets", "metric": "logme", "n_targets": 2, "n_comparisons": 4, "n_encoders": 2,
         "place": 1, "weighted_kendall": 0.5, "verdict": "too few encoders"}
    ]  # fmt: skip
    curves = [
        {
            "target": target,
            "encoder": encoder,
            "head": head,
            "m": m,
            "seed": seed,
            "error": error + 0.01 * seed * (head == "logistic"),
            "mean_per_class_error": error,
            "log_loss": error,
            "calibration_error": error / 2,
        }
        for target, encoder in pairs
        for head, errors in (("logistic", (0.5, 0.2)), ("naive_bayes", (0.4, 0.4)))
        for m, error in zip((10, 1000), errors, strict=True)
        for seed in (0, 1)
    ]
    crossings = {("digits", "big"): 100.0, ("digits", "small"): 201.0}
    crossover = [
        {
            "target": target,
            "encoder": encoder,
            "m_star": crossings.get((target, encoder)),
            "regime": "naive_bayes_first" if (target, encoder) in crossings else "logistic_always",
        }
        for target, encoder in pairs
    ]
    checked = [
        {
            "target": target,
            "encoder": encoder,
            "n": 100,
            "d": 8,
            "n_classes": 2,
            "n_constant": 0,
            **{f"variance_q{level}": 0.1 * step for step, level in enumerate(("05", "25", "50", "75", "95"), 1)},
            "divergence_per_dim": divergence,
            "winner_at_fewest": "naive_bayes",
            "winner_at_most": "logistic",
            "naive_bayes_error": 0.4 + divergence / 10,
            "logistic_error": 0.2,
            "regime": "naive_bayes_first",
        }
        for (target, encoder), divergence in zip(pairs, (0.1, 0.2, 0.3, 0.45), strict=True)
    ]
    needed = [
        {
            "k": 2,
            "n_dims": n,
            "head": head,
            "seed": seed,
            "m_to_epsilon": m + seed,
            "error_at_m": 0.005,
            "m_of_mean": m,
            "bayes_error": 1e-9,
        }
        for head, of in (("naive_bayes", (6, 7, 8)), ("logistic", (144, 213, 407)))
        for n, m in zip((100, 200, 400), of, strict=True)
        for seed in (0, 1)
    ]
    bounds = [
        {"k": 2, "n_dims": 100, "seed": 0, "m": m, "excess_log_loss": loss, "excess_error": loss / 4, "error_bound": loss**0.5}
        for m, loss in ((4, 0.5), (100, 0.01))
    ]
    simulated = frame("sample_complexity", needed)
    predictions = frame(
        "language_predictions",
        [
            {
                "task": row["task"],
                "split_protocol": "leave_one_target_out",
                "model": "chosen_by_regret",
                "in_set": True,
                "source": row["source"],
                "target": row["target"],
                "score": row["score"],
                "predicted": row["score"],
            }
            for row in language_pairs().filter((pl.col("n_shots") == 0) & (pl.col("source") != pl.col("target"))).to_dicts()
        ],
    )
    effect = {"task": "k", "term": "syntax_distance", "beta_standardised": -0.1, "ci_low": -0.2, "ci_high": 0.0}
    found: Results = {
        "transferability": frame("transferability", scores),
        "finetuned": frame("finetuned", finetuned),
        "layer_probes": frame("layer_probes", probes),
        "layer_profiles": profiles(frame("transferability", scores), frame("layer_probes", probes)),
        "agreement": frame("agreement", agreement),
        "metric_verdicts": frame("metric_verdicts", verdicts),
        "pruning_scores": frame("pruning_scores", []),
        "pruning_outcomes": outcomes(("glyphs", "digits"), ("glyphs", "other")),
        "pruning_savings": smallest_fraction(
            outcomes(("glyphs", "digits"), ("glyphs", "other")), settings.prune.tolerance, np.random.default_rng(0)
        ),
        "probe_curves": frame("probe_curves", curves),
        "probe_crossover": frame("probe_crossover", crossover),
        "probe_assumptions": frame("probe_assumptions", checked),
        "sample_complexity": simulated,
        "sample_complexity_fits": fits(simulated),
        "logistic_bound": frame("logistic_bound", bounds),
        "language_pairs": language_pairs(),
        "language_effects": frame("language_effects", [effect]),
        "language_predictions": predictions,
        "source_languages": rank_sources(predictions),
        "source_sets": frame("source_sets", []),
        "language_warnings": frame("language_warnings", []),
        "language_distances": combined_distances(language_pairs())[1],
        "language_quality": quality(predictions),
        "language_claims": frame("language_claims", [{"task": "k", "measure": "alone", "verdict": "undecided"}]),
        "fewshot_curves": fewshot_curve(language_pairs(), goal=0.8),
    }
    return answered(settings, found)


def answered(settings: Params, results: Results) -> Results:
    """Write the tables, let the stage recommend, and read its answers."""
    for name, table in results.items():
        tables.write(name, table)
    recommend.main(settings, "")
    return {**results, "recommendations": tables.load("recommendations")}


def empty(settings: Params, results: Results, *names: str) -> Results:
    return answered(settings, {name: results[name].clear() if name in names else results[name] for name in results})


def sentences(settings: Params, results: Results) -> dict[str, str]:
    return {section.key: section.sentence for section in sections(settings, results)}


def test_the_sentences_say_what_the_tables_say(settings: Params, results: Results) -> None:
    said = sentences(settings, results)
    assert "No metric of 1 is shown to agree with fine-tuning better than chance over 2 targets and 2 encoders" in said["rank"]
    assert "full 0.250, first pick 0.020 below the best" in said["rank"]
    assert "linear 0.750" in said["rank"]
    for pair in ("glyphs for digits", "glyphs for other"):
        assert f"{pair}: with a linear head the full source gives 0.900" in said["prune"]
    assert said["prune"].count("50% [50%] by mapping") == 2
    assert said["prune"].count("none of those tried [100%] by random") == 2
    assert "median crossing is at 150 labels" in said["probe"]  # between 100 and 201: the mean of the middle two is 150.5
    assert "0.10 to 0.45 nats a dimension from independence" in said["probe"]
    assert "rank correlation with what naive Bayes loses on all labels is +1.00 over 4 pairs" in said["probe"]
    assert "for 2 classes in n dimensions, naive Bayes 6 at n = 100 and 8 at 400 (R2: a + b ln n 1.00" in said["probe"]
    assert "logistic regression 144 at n = 100 and 407 at 400 (R2: a + b ln n 0.93 and a + b n 0.99)" in said["probe"]
    assert "k, mean score lost against the best source over 2 targets: 0.000 by the predicted first source" in said["languages"]
    assert "by always taking English" in said["languages"]
    assert "by the nearest language" in said["languages"]
    assert "at random" in said["languages"]
    assert "Mean absolute error" not in said["languages"], "there is no global mean to compare with"
    assert "than lexical similarity is undecided on k." in said["languages"]
    assert "Target examples that a score of 0.8 takes" in said["languages"]


@pytest.mark.parametrize(
    "left_out",
    [
        (),
        ("pruning_outcomes", "pruning_savings"),
        ("fewshot_curves",),
        ("language_effects",),
        ("language_predictions", "source_languages", "language_effects", "fewshot_curves"),
    ],
)
def test_the_page_holds_with_tables_that_may_be_empty(settings: Params, results: Results, left_out: tuple[str, ...]) -> None:
    found = empty(settings, {name: results[name] for name in results if name != "recommendations"}, *left_out)
    page = page_of(settings, found, "all checks passed")
    charts = json.loads(page.partition('id="charts">')[2].partition("</script>")[0])
    assert set(charts) == set(re.findall(r'<figure id="([^"]+)"', page))
    assert ("prune-0" in charts) == ("pruning_outcomes" not in left_out)
    drawn = json.dumps([chart for key, chart in charts.items() if key.startswith("languages-")])
    for title, table in (
        ("standardised effect", "language_effects"), ("target held out", "language_predictions"),
        ("target examples", "fewshot_curves"),
    ):  # fmt: skip
        assert (title in drawn) == (table not in left_out)
    assert "combined distance, mean over tasks" in drawn
    assert metrics(settings, found)["rank"]["linear"]["mean_weighted_kendall"] == 0.75


def test_a_metric_that_is_defined_nowhere(settings: Params, results: Results) -> None:
    scores = results["transferability"].with_columns(score=pl.lit(None, pl.Float64), rank=pl.lit(None, pl.Int64))
    tables_alone = {name: table for name, table in results.items() if name != "recommendations"}
    found = answered(settings, {**tables_alone, "transferability": scores})
    refused = found["recommendations"].filter(pl.col("answer") == "no answer")
    assert sorted(refused["target"].to_list()) == sorted(TARGETS * 2)
    assert page_of(settings, found, "")


def values(chart: Any) -> list[dict[str, Any]]:
    """Return the rows that a chart draws; it must serialise."""
    content = chart.to_dict()
    return list(content["data"]["values"]) if "data" in content else list(content["layer"][0]["data"]["values"])


def test_repetitions_with_different_steps_are_one_point() -> None:
    rows = values(prune.accuracy(outcomes(("s", "t"), ("s", "u"))))
    assert len(rows) == 6
    assert {row["pretrain_steps"] for row in rows if row["method"] == "mapping"} == {50.5}


def test_steps_saved_are_those_against_the_full_source_of_the_same_seed() -> None:
    rows = values(prune.steps_saved(outcomes(("s", "t")), 0.01))
    assert [(row["method"], row["limit"]) for row in rows] == [("mapping", -0.01), ("random", -0.01)]
    assert {row["saved"] for row in rows} == {round((50 / 100 + 50 / 101) / 2, 4)}
    assert rows[0]["change"] == -0.002
    assert rows[0]["low"] == pytest.approx(-0.002 - 12.706 * 0.002, abs=1e-4)  # Student's t of two seeds


def scores_of(method: str, n: int) -> list[dict[str, Any]]:
    keys = {"source": "s", "target": "t", "method": method}
    return [{**keys, "group": f"class {n - rank}", "score": n - rank, "rank": rank, "n_images": 9} for rank in range(1, n + 1)]


def test_votes_show_either_end_of_each_order_and_no_control() -> None:
    table = frame("pruning_scores", [*scores_of("label_mapping", 30), *scores_of("few", 5), *scores_of("random", 30)])
    shown = prune.ends(table)
    assert shown.filter(pl.col("method") == "label_mapping")["rank"].to_list() == [*range(1, 9), *range(23, 31)]
    assert shown.filter(pl.col("method") == "few")["rank"].to_list() == [1, 2, 3, 4, 5]
    assert set(shown["method"]) == {"label_mapping", "few"}
    pictures = shown.select("source", "group").unique().with_columns(image=pl.lit("data:,")).sort("group")
    rows = values(prune.votes(table, pictures.head(20)))
    assert {row["group"] for row in rows} == set(pictures["group"].head(20))
    names = [row["name"] for row in rows if row["panel"] == "s for t · label_mapping"]
    assert names == sorted(names)  # which is how the axis orders them


def test_pictures_are_small_the_same_every_time_and_of_training_images(write_params: Callable[..., Path]) -> None:
    settings = params.load(write_params())
    ingest.main(settings, "digits")
    dataset = Dataset.open("digits")
    asked = pl.DataFrame({"source": ["digits"] * 3, "group": ["7", "0", "no class"]})
    found = thumbnails(asked, 10_000)
    assert found.select("source", "group").rows() == [("digits", "0"), ("digits", "7")]
    assert found.equals(thumbnails(asked.reverse(), 10_000))
    train = dataset.rows.filter(pl.col("split") == "train", pl.col("label") == "7")
    picture = Image.open(io.BytesIO(base64.b64decode(found["image"][1].partition(",")[2])))
    original = Image.open(io.BytesIO(dataset.chosen([train["id"][0]])[train["id"][0]]))
    assert picture.size == original.size == (8, 8)
    assert picture.convert("L").tobytes() == original.convert("L").tobytes()
    with pytest.raises(InputProblem, match="cannot be decoded"):
        thumbnails(asked, 3)
    with pytest.raises(InputProblem, match="dvc repro sources"):
        thumbnails(asked.with_columns(source=pl.lit("gone")), 10_000)


def test_a_large_picture_becomes_a_small_one(write_params: Callable[..., Path]) -> None:
    for folder in (Path("data/raw/photos/cat"), Path("data/raw/photos/dog")):
        folder.mkdir(parents=True)
        for number in range(4):
            Image.new("RGBA", (400, 100), (number, 200, 30 if folder.name == "cat" else 60, 255)).save(folder / f"{number}.png")
    settings = params.load(
        write_params(
            datasets={"packaged": {"digits": {"kind": "sklearn", "name": "digits"}},
                      "files": {"photos": {"kind": "imagefolder", "path": "data/raw/photos"}}},
            ingest={"val_fraction": 0.1, "test_fraction": 0.1},
        )
    )  # fmt: skip
    ingest.main(settings, "photos")
    (uri,) = thumbnails(pl.DataFrame({"source": ["photos"], "group": ["cat"]}), 100_000)["image"]
    picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert picture.format == "PNG"
    assert picture.size == (56, 14)


def test_the_scatter_has_head_layers_and_in_their_own_mode_the_others(results: Results) -> None:
    layers = {"big": "pooled", "small": "stages.1"}
    rows = rank.compared(results["transferability"], results["finetuned"], results["layer_probes"], layers)
    heads = rows.filter(pl.col("mode") != "layers")
    assert set(heads.select("encoder", "layer").iter_rows()) == set(layers.items())
    assert len(heads) == 2 * 2 * 2  # targets, encoders, modes
    others = rows.filter(pl.col("mode") == "layers")
    assert set(others.select("encoder", "layer").iter_rows()) == {("big", "stages.1"), ("small", "pooled")}
    drawn = values(rank.score_against_accuracy(rows, results["agreement"], "logme"))
    said = [row["said"] for row in drawn if row["said"]]
    assert said == ["tau full 0.25 · linear 0.75"] * 2  # once a target


def test_the_leaderboard_has_all_candidates_in_the_order_of_the_metric(results: Results) -> None:
    points = rank.compared(
        results["transferability"], results["finetuned"], results["layer_probes"], dict.fromkeys(ENCODERS, "pooled")
    )
    rows = rank.leaderboard("digits", "logme", results["transferability"], points).rows
    assert rows.select("encoder", "layer", "logme rank").rows() == [
        ("big", "pooled", 1), ("big", "stages.1", 2), ("small", "pooled", 3), ("small", "stages.1", 4),
    ]  # fmt: skip
    assert rows["linear"].to_list() == pytest.approx([0.895, 0.4, 0.595, 0.4])
    assert rows["full"].to_list() == [pytest.approx(0.895), None, pytest.approx(0.595), None]


@pytest.mark.parametrize("few", [0, 1])
def test_every_figure_is_made_of_few_rows(results: Results, few: int) -> None:
    cut = {name: table.head(few) for name, table in results.items()}
    picked = {"digits": "big"} if few else {}
    for chart in (
        extract.head_accuracy(cut["finetuned"]),
        rank.score_against_accuracy(
            rank.compared(cut["transferability"], cut["finetuned"], cut["layer_probes"], {"big": "pooled"} if few else {}),
            cut["agreement"],
            "logme",
        ),
        rank.layer_profile(cut["layer_profiles"]),
        rank.agreement(cut["agreement"]),
        prune.accuracy(cut["pruning_outcomes"]),
        prune.steps_saved(cut["pruning_outcomes"], 0.01),
        prune.votes(cut["pruning_scores"], pl.DataFrame(schema=dict.fromkeys(("source", "group", "image"), pl.String))),
        probe.probe_curves(cut["probe_curves"], cut["probe_crossover"], picked),
        probe.assumptions(cut["probe_assumptions"]),
        probe.variances(cut["probe_assumptions"]),
        probe.simulation(cut["sample_complexity"], cut["sample_complexity_fits"]),
        probe.bound(cut["logistic_bound"]),
        language_figures.transfer_matrix(cut["language_pairs"], ["en"]),
        language_figures.predictions(cut["language_predictions"]),
        language_figures.fewshot(cut["language_pairs"], cut["fewshot_curves"], 0.8),
        language_figures.language_effects(cut["language_effects"]),
    ):
        assert chart.to_dict()["$schema"]
