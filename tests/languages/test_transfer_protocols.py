"""Protocols: what is asked is never seen, by whatever model, in the fit, in the choice of constants or in the intervals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from stages.languages import PROTOCOLS
from stages.languages.design import Pairs, Predictor, zero_shot
from stages.languages.families import families
from stages.languages.holdout import hold_out, in_blocks, regrets
from stages.languages.predict import evaluate, predictions, split_of
from stages.languages.protocols import MOST_UNITS, leave_one_target_out
from stages.languages.ridge import ridge

Planted = Callable[..., pl.DataFrame]
REAL = ["en", "de", "es", "pt", "ru", "uk", "fi", "et", "tr", "sw", "hi", "id"]


@pytest.fixture
def real_names(planted: Planted) -> pl.DataFrame:
    """The planted table under names whose families are known."""
    made = planted(12)
    renamed = dict(zip(sorted(set(made["source"])), sorted(REAL), strict=True))
    return made.with_columns(pl.col("source", "target").replace_strict(renamed))


# protocol -> may a pair (source, target) be seen when (new_source, new_target) is asked?
FAMILY = families(REAL)
MAY_BE_SEEN: dict[str, Callable[[str, str, str, str], bool]] = {
    "leave_one_target_out": lambda source, target, _, new: new not in (source, target),
    "leave_one_family_out": lambda source, target, _, new: FAMILY[new] not in (FAMILY[source], FAMILY[target]),
    "seen_target": lambda source, target, new, _: source != new,
    "optimistic": lambda source, target, new_source, new: (source, target) != (new_source, new),
}


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_no_row_of_the_held_out_unit_is_in_any_fit(real_names: pl.DataFrame, protocol: str) -> None:
    every = Pairs.of(zero_shot(real_names))
    asked_with: list[tuple[set[tuple[str, str]], set[tuple[str, str]]]] = []

    def spy(seen: Pairs) -> Predictor:
        rows = set(zip(seen.sources.tolist(), seen.targets.tolist(), strict=True))

        def predict(pairs: Pairs) -> NDArray[np.float64]:
            asked_with.append((rows, set(zip(pairs.sources.tolist(), pairs.targets.tolist(), strict=True))))
            return np.full(len(pairs), 0.5)

        return predict

    found = hold_out(every, split_of(protocol, every, "t"), {"spy": spy})
    assert np.isfinite(found["spy"].predicted).all(), "every pair is asked"
    for rows, asked in asked_with:
        for new_source, new_target in asked:
            assert all(MAY_BE_SEEN[protocol](source, target, new_source, new_target) for source, target in rows)


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_scores_of_the_held_out_unit_change_nothing_that_is_said_of_it(real_names: pl.DataFrame, protocol: str) -> None:
    every = Pairs.of(zero_shot(real_names))
    split = split_of(protocol, every, "t")
    names = pl.DataFrame({"source": every.sources.tolist(), "target": every.targets.tolist()})
    rng = np.random.default_rng(5)
    models = ["global_mean", "nearest_x", "combined_distance", "ridge", "lambdarank", "source_mean"]
    columns = ["model", "source", "target", "predicted", "interval_low", "interval_high", "in_set"]

    def told(table: pl.DataFrame) -> pl.DataFrame:
        return predictions(evaluate(table, protocol=protocol, models=models), protocol).select(columns)

    before = told(real_names)
    unit = int(split.unit[7])
    involved = names.filter(pl.Series(split.involves[:, unit])).with_columns(hit=pl.lit(value=True))
    marked = real_names.join(involved, on=["source", "target"], how="left", maintain_order="left")
    scrambled = marked.with_columns(
        score=pl.when(pl.col("hit")).then(pl.Series(rng.uniform(0, 1, marked.height))).otherwise(pl.col("score"))
    ).drop("hit")
    after = told(scrambled)
    asked = names.filter(pl.Series(split.unit == unit))
    same = [found.join(asked, on=["source", "target"], how="semi").sort(columns[:3]) for found in (before, after)]
    assert same[0].height > 0
    assert same[0].equals(same[1])
    others = [found.join(asked, on=["source", "target"], how="anti").sort(columns[:3]) for found in (before, after)]
    assert not others[0].equals(others[1]), "the others did see it"


def test_a_source_that_is_asked_was_seen(real_names: pl.DataFrame) -> None:
    """In calibration too: else its errors would be those of harder questions than the one asked."""
    every = Pairs.of(zero_shot(real_names))

    def known(seen: Pairs) -> Predictor:
        return lambda pairs: np.where(np.isin(pairs.source, seen.source), 1.0, 0.0)

    found = hold_out(every, split_of("leave_one_target_out", every, "t"), {"known": known})["known"]
    assert (found.predicted == 1).all()
    assert all((calibration.predicted == 1).all() for calibration in found.calibrations)


def test_chosen_by_what_is_known_before(real_names: pl.DataFrame) -> None:
    every = Pairs.of(zero_shot(real_names))
    truth = {(s, t): y for s, t, y in zip(every.source.tolist(), every.target.tolist(), every.scores.tolist(), strict=True)}

    def off_by(gap: float) -> Callable[[Pairs], Predictor]:
        return lambda seen: (
            lambda pairs: np.array(
                [truth[pair] + gap for pair in zip(pairs.source.tolist(), pairs.target.tolist(), strict=True)]
            )
        )

    def silent(seen: Pairs) -> Predictor:
        return lambda pairs: np.full(len(pairs), np.nan)

    fits = {"far": off_by(0.05), "near": off_by(0.01), "silent": silent}
    found = hold_out(every, split_of("leave_one_target_out", every, "t"), fits)
    np.testing.assert_allclose(found["chosen"].predicted, found["near"].predicted)
    assert found["chosen"].calibrations[0].half_width(0.5) == pytest.approx(0.01)
    assert np.isnan(found["silent"].predicted).all()
    assert found["silent"].calibrations[0].half_width(0.5) is None


def test_regret_by_hand() -> None:
    scores, targets = np.array([0.5, 0.2, 0.9, 0.4, 0.6]), np.array([1, 1, 1, 2, 2])
    values = np.array([[0.1, 0.2, 0.3, 0.9, 0.1], [0.3, 0.1, 0.2, 0.1, 0.2], [0.5, 0.5, 0.5, 0.5, 0.5]])
    expected = [[0.0, 0.2], [0.4, 0.0], [0.9 - 1.6 / 3, 0.1]]  # the last cannot tell sources apart: the mean
    np.testing.assert_allclose(regrets(values, scores, targets)[:, [0, 3]], expected)
    assert regrets(values, scores, targets)[:, [1, 2, 4]].sum() == 0


def test_the_penalty_is_the_best_of_its_path_on_other_units(real_names: pl.DataFrame) -> None:
    every = Pairs.of(zero_shot(real_names))
    split = split_of("leave_one_target_out", every, "t")
    found = hold_out(every, split, {"ridge": ridge}, blocks=12)["ridge"]
    target = every.position("fi")
    block = int(found.block[every.target == target][0])
    errors = 0.0
    for other in np.unique(every.target):
        if other == target:
            continue
        out = np.isin(every.target, (target, other)) | np.isin(every.source, (target, other))
        asked = (every.target == other) & (every.source != target)
        errors = errors + ((ridge(every.where(~out))(every.where(asked)) - every.scores[asked]) ** 2).sum(axis=1)
    assert found.calibrations[block].candidate == int(np.argmin(errors))


def test_families_of_known_languages() -> None:
    assert FAMILY["fi"] == FAMILY["et"] != FAMILY["ru"]
    assert FAMILY["hi"] == FAMILY["en"] == FAMILY["ru"] == "Indo-European"
    assert families(["eu", "no such code"]) == {"eu": "eu", "no such code": "no such code"}


def test_blocks_are_a_partition_of_like_sizes(real_names: pl.DataFrame) -> None:
    every = Pairs.of(zero_shot(real_names))
    for protocol in PROTOCOLS:
        split = split_of(protocol, every, "t")
        blocks = in_blocks(split)
        assert sorted(unit for block in blocks for unit in block.tolist()) == list(range(split.n_units))
        assert len(blocks) <= 8


def test_many_targets_are_held_out_several_at_once() -> None:
    names = [f"l{i:03d}" for i in range(2 * MOST_UNITS + 5)]
    rows = [{"task": "t", "source": s, "target": t, "score": 0.5} for s in names[:2] for t in names[2:]]
    split = leave_one_target_out(Pairs.of(zero_shot(pl.DataFrame(rows))), np.random.default_rng(0))
    assert split.n_units == MOST_UNITS
    assert (split.involves[np.arange(len(split.unit)), split.unit]).all()


def test_few_languages_get_what_can_be_said(planted: Planted) -> None:
    for protocol in PROTOCOLS:
        found = predictions(evaluate(planted(4), protocol=protocol), protocol)
        assert found["predicted"].null_count() == 0
        if protocol.startswith("leave"):
            assert found["interval_low"].null_count() == found.height
    assert predictions(evaluate(planted(2)), "leave_one_target_out").is_empty()
