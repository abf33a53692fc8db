"""Guards find what was planted and keep quiet elsewhere; claims find which kind of feature was planted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from stages.languages.claims import Moments, contributions, kind
from stages.languages.guards import broken_sources, saturated_tasks, strange_targets, warnings_of, without_broken

Planted = Callable[..., pl.DataFrame]


def test_a_sound_table_has_no_warnings(planted: Planted) -> None:
    for seed in range(5):
        assert warnings_of(planted(14, seed=seed)).is_empty()


def test_a_failed_fine_tuning_is_found(planted: Planted) -> None:
    pairs = planted(14).with_columns(
        score=pl.when(pl.col("source") == "l04").then(0.05 + 0.01 * pl.col("x_distance")).otherwise(pl.col("score"))
    )
    found = warnings_of(pairs)
    assert found.select("task", "kind", "subject").rows() == [("t", "broken_source", "l04")]
    assert "low on 100% of its targets" in found["detail"][0]
    assert "on itself" in found["detail"][0]
    kept = without_broken(pairs, found)
    assert "l04" not in kept["source"]
    assert kept.height == pairs.height - 14
    without_self = pairs.filter(pl.col("source") != pl.col("target"))
    assert "was not measured" in broken_sources(without_self)["detail"][0]


def test_a_language_apart_is_not_broken(planted: Planted) -> None:
    """Low on all others for its script, and as good as any on itself."""
    low = (pl.col("source") == "l04") & (pl.col("target") != "l04")
    pairs = planted(14).with_columns(score=pl.when(low).then(0.05).otherwise(pl.col("score")))
    assert broken_sources(pairs).is_empty()


def test_a_weak_source_is_not_broken(planted: Planted) -> None:
    pairs = planted(14).with_columns(score=pl.col("score") - 0.05 * (pl.col("source") == "l04").cast(pl.Float64))
    assert broken_sources(pairs).is_empty()


def test_tasks_without_a_choice(planted: Planted) -> None:
    top = planted(8).with_columns(score=0.97 + 0.02 * pl.col("score"))
    alike = planted(8).with_columns(score=0.5 + 0.01 * pl.col("score"), task=pl.lit("u"))
    found = saturated_tasks(pl.concat([top, alike, planted(8).with_columns(task=pl.lit("v"))]))
    assert found.select("task", "subject").rows() == [("t", "*"), ("u", "*")]
    assert "reach 0.97" in found["detail"][0]


def test_a_target_unlike_all_others(planted: Planted) -> None:
    far = pl.col("target") == "l05"
    pairs = planted(14).with_columns(other=pl.when(far).then(40.0).otherwise(pl.col("irrelevant")))
    found = strange_targets(pairs)
    assert found["subject"].to_list() == ["l05"]
    assert found["detail"][0].startswith("other is 40, others ")
    alone = planted(14).with_columns(same=pl.when(far).then(1.0).otherwise(0.3))
    assert strange_targets(alone)["subject"].to_list() == ["l05"], "the others are all alike"


def test_tiny_tables_are_not_judged(planted: Planted) -> None:
    assert warnings_of(planted(3).filter(pl.col("source") != pl.col("target"))).is_empty()


def test_kinds_of_features() -> None:
    names = ["syntax_distance", "inventory_distance", "subword_overlap", "script_match", "genetic_distance",
             "source_type_token_ratio", "morphology_distance"]  # fmt: skip
    assert [kind(name) for name in names] == ["syntax", "phonology", "lexical", "script", "genetic", "data", "morphology"]


def lawful(typological: float, lexical: float, seed: int = 0, n: int = 16) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for s in range(n):
        for t in range(n):
            a, b, c = rng.normal(size=3)
            score = 0.5 + 0.05 * (typological * a + lexical * b) + 0.05 * rng.normal()
            rows.append({"task": "t", "source": f"l{s}", "target": f"l{t}", "score": float(np.clip(score, 0, 1)),
                         "syntax_distance": a, "word_overlap": b, "geographic_distance": c})  # fmt: skip
    return pl.DataFrame(rows)


def test_contributions_are_differences_of_r2_written_out() -> None:
    pairs = lawful(1.0, 0.5)
    groups, claims = contributions(pairs, np.random.default_rng(0))
    rows = pairs.filter(pl.col("source") != pl.col("target"))
    y = rows["score"].to_numpy()

    def r2(names: list[str]) -> float:
        x = np.column_stack([np.ones(len(y)), *(rows[name] for name in names)])
        residual = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
        return 1 - float(residual @ residual) / float(((y - y.mean()) ** 2).sum())

    every = ["syntax_distance", "word_overlap", "geographic_distance"]
    for group, name in (("syntax", every[0]), ("lexical", every[1]), ("geographic", every[2])):
        row = groups.filter(pl.col("group") == group).row(0, named=True)
        assert row["r2_dropped"] == pytest.approx(r2(every) - r2([other for other in every if other != name]), abs=1e-6)
        assert row["r2_alone"] == pytest.approx(max(0.0, 1 - (1 - r2([name])) * (len(y) - 1) / (len(y) - 2)), abs=1e-6)
        assert row["ci_low"] <= row["r2_dropped"] <= row["ci_high"]
    alone = claims.filter(pl.col("measure") == "alone").row(0, named=True)
    assert alone["difference"] == pytest.approx(alone["typological"] - alone["lexical"])


def test_a_resample_is_the_fit_on_the_rows_drawn() -> None:
    rng = np.random.default_rng(1)
    x, y, targets = rng.normal(size=(30, 2)), rng.normal(size=30), np.repeat(np.arange(5), 6)
    moments = Moments.of(x, y, targets, ["a", "b"])
    drawn = [0, 0, 2, 3, 3]
    rows = np.concatenate([np.flatnonzero(targets == target) for target in drawn])
    design = np.column_stack([np.ones(len(rows)), x[rows]])
    residual = y[rows] - design @ np.linalg.lstsq(design, y[rows], rcond=None)[0]
    expected = 1 - residual @ residual / ((y[rows] - y[rows].mean()) ** 2).sum()
    found = moments.r2(moments.of_target[drawn].sum(axis=0)[None], [True, True])
    assert found[0] == pytest.approx(expected, abs=1e-7)
    assert moments.resampled(rng, 50)[:, 0, 0] == pytest.approx(30)


@pytest.mark.parametrize(
    ("typological", "lexical", "verdict"), [(1.0, 0.2, "supported"), (0.2, 1.0, "contradicted"), (0.6, 0.6, "undecided")]
)
def test_the_verdict_follows_the_law(typological: float, lexical: float, verdict: str) -> None:
    claims = contributions(lawful(typological, lexical), np.random.default_rng(0))[1]
    assert claims["measure"].to_list() == ["alone", "dropped"]
    assert claims["verdict"].to_list() == [verdict, verdict]


def test_the_interval_of_the_difference_covers() -> None:
    inside = 0
    for seed in range(40):
        pairs = lawful(np.sqrt(0.75), 0.5, seed=seed)  # with the noise's 1 in all 2
        row = contributions(pairs, np.random.default_rng(0))[1].row(0, named=True)
        inside += row["ci_low"] <= 0.75 / 2 - 0.25 / 2 <= row["ci_high"]
    assert inside >= 34  # 38 expected at 95%, fewer for 16 clusters


def test_a_claim_without_its_features_is_not_testable(planted: Planted) -> None:
    for pairs in (planted(8), planted(8).with_columns(score=pl.lit(0.5))):
        claims = contributions(pairs, np.random.default_rng(0))[1]
        assert claims["verdict"].to_list() == ["not testable"] * 2
        assert claims["difference"].null_count() == 2
