"""Measured scores against scikit-learn's own naive Bayes, refitted from scratch for each cell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import f1_score
from sklearn.naive_bayes import MultinomialNB

from stages import params, seeds, transfer
from stages.artifacts import manifest, tables
from stages.errors import InputProblem
from stages.languages import PAIR_FEATURES, TASKS, classifier, tokens
from stages.languages.corpus import gather, split
from stages.languages.measure import measure_task
from stages.languages.texts import Texts

TASK = "entity_type"


@pytest.fixture(scope="module")
def examples() -> pl.DataFrame:
    return gather(TASKS[TASK], ["es", "pt", "ru"])


@pytest.fixture(scope="module")
def measured(examples: pl.DataFrame) -> pl.DataFrame:
    return measure_task(
        TASK, examples, shots=[0, 20, 5000], n_seeds=1, run_seed=3, max_source=400, features={"one": lambda s, t, texts: None}
    )


def test_counting_equals_refitting(examples: pl.DataFrame, measured: pl.DataFrame) -> None:
    parts = split(examples, run_seed=3, task=TASK, seed=0, max_train=400)
    for source, target, n in [("es", "pt", 0), ("es", "es", 0), ("ru", "pt", 20), ("pt", "ru", 0)]:
        of_target = parts.filter(pl.col("language") == target)
        source_rows = parts.filter((pl.col("language") == source) & (pl.col("part") == "train"))
        rows = np.flatnonzero(((parts["language"] == target) & (parts["part"] == "train").fill_null(value=False)).to_numpy())
        drawn = seeds.generator(3, "languages", TASK, "shots", target, 0).permutation(rows)[:n]
        train = pl.concat([source_rows, parts[drawn.tolist()]])
        test = of_target.filter(pl.col("part") == "test")
        vectorizer = CountVectorizer(analyzer="char_wb", ngram_range=(1, tokens.LONGEST), binary=True)
        model = MultinomialNB(alpha=classifier.ALPHA, fit_prior=False)
        model.fit(vectorizer.fit_transform(train["text"].to_list()), train["label"].to_list())
        guess = model.predict(vectorizer.transform(test["text"].to_list()))
        expected = f1_score(test["label"].to_list(), guess, average="macro")
        row = measured.filter((pl.col("source") == source) & (pl.col("target") == target) & (pl.col("n_shots") == n))
        assert row["score"].item() == pytest.approx(expected, abs=1e-12)
        assert row["n_target"].item() == test.height
        assert row["n_source"].item() == source_rows.height


def test_rows_are_all_pairs_once_and_only_what_can_be_drawn(measured: pl.DataFrame) -> None:
    counts = measured.group_by("n_shots").len().sort("n_shots").rows()
    assert counts == [(0, 9), (20, 6)], "in-language at 0 only; no row for more examples than a target has"
    assert measured["one"].null_count() == measured.height


def test_neighbours_transfer_and_scripts_do_not(measured: pl.DataFrame) -> None:
    score = {(s, t): v for s, t, v in measured.filter(pl.col("n_shots") == 0).select("source", "target", "score").iter_rows()}
    assert score["es", "es"] > score["es", "pt"] - 0.05
    assert score["es", "pt"] > 0.4
    assert score["es", "ru"] < 0.2


@pytest.mark.parametrize("seed", range(5))
def test_macro_f1_is_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, guess = rng.integers(0, 4, 30), rng.integers(0, 3, 30)
    other = np.full(30, 2)
    expected = [f1_score(truth, column, average="macro", zero_division=0) for column in (guess, other)]
    assert classifier.macro_f1(truth, np.column_stack([guess, other]), 6) == pytest.approx(expected)


def test_a_feature_added_at_run_time_is_a_column_and_the_stage_repeats_itself(
    project: Path, write_params: Callable[..., Path]
) -> None:
    def length_ratio(source: str, target: str, texts: Texts) -> float | None:
        if target == "pt":
            return None
        lengths = [sum(map(len, texts[language])) / len(texts[language]) for language in (source, target)]
        return min(lengths) / max(lengths)

    section = {"tasks": [TASK], "languages": ["en", "es", "pt"], "shots": [0, 10], "seeds": 1}
    settings = params.load(write_params(languages=section))
    PAIR_FEATURES.add("length_ratio", length_ratio)
    try:
        transfer.main(settings)
        first = manifest.sha256(tables.result_path("language_pairs"))
        transfer.main(settings)
    finally:
        PAIR_FEATURES.remove("length_ratio")
    assert manifest.sha256(tables.result_path("language_pairs")) == first
    pairs = tables.load("language_pairs")
    assert pairs.filter(pl.col("target") == "pt")["length_ratio"].null_count() == 5
    assert pairs.filter((pl.col("target") == "es") & (pl.col("source") == "es"))["length_ratio"].to_list() == [1.0]
    assert set(PAIR_FEATURES) <= set(pairs.columns)


def test_an_unknown_language_is_named_with_its_neighbours(project: Path, write_params: Callable[..., Path]) -> None:
    settings = params.load(write_params(languages={"tasks": [TASK], "languages": ["en", "es", "ptt"]}))
    with pytest.raises(InputProblem, match=r"no language 'ptt'; nearest valid: pt"):
        transfer.main(settings)


@pytest.mark.parametrize("task", ["entity_type", "territory_continent", "same_entity"])
def test_near_languages_transfer_best_and_other_scripts_are_near_chance(task: str) -> None:
    languages = ["en", "es", "pt", "de", "sw", "ru", "uk", "hi", "ta", "el"]
    pairs = measure_task(
        task, gather(TASKS[task], languages), shots=[0, 300], n_seeds=1, run_seed=0, max_source=1000,
        features={"script_match": PAIR_FEATURES["script_match"]},
    )  # fmt: skip
    zero = pairs.filter(pl.col("n_shots") == 0, pl.col("source") != pl.col("target")).sort("score", descending=True)
    best = [(source, target) for source, target in zero.head(30).select("source", "target").iter_rows()]
    assert ("es", "pt") in best
    assert ("ru", "uk") in best
    across = zero.filter(pl.col("script_match") == 0)
    constant, guessed = {"same_entity": (1 / 3, 1 / 2)}.get(task, (0.1, 0.2))  # one class for all; any class at random
    assert constant - 0.1 < across["score"].mean() < guessed + 0.02  # type: ignore[operator]
    assert zero.filter(pl.col("script_match") == 1)["score"].mean() > across["score"].mean() + 0.2  # type: ignore[operator]
    for target in ("ta", "el"):  # the only ones of their script
        of_target = (
            pairs.filter(pl.col("target") == target, pl.col("source") != target).group_by("n_shots").agg(pl.col("score").mean())
        )
        score = dict(of_target.iter_rows())
        assert score[300] > score[0] + 0.15, "target examples do what no source does"
