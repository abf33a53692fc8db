"""Learning curves: nested and shared draws, no leakage from the test set or from rows outside a draw, known answers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest
import threadpoolctl
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from polars.testing import assert_frame_equal
from sklearn.dummy import DummyClassifier
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.preprocessing import MinMaxScaler

from stages.errors import InputProblem
from stages.probe import HEADS, Head, LogisticProbe, default_sizes, learning_curves
from stages.probe.draws import few_shot_draws, nested_draws
from stages.probe.measures import LOWEST_LOG_PROBABILITY

BOTH = ["naive_bayes", "logistic"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def blobs(n: int, k: int = 4, d: int = 6, seed: int = 0) -> tuple[Floats, Ints]:
    """k classes with fixed means (whatever the seed), one standard deviation apart in every dimension."""
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(k), random.integers(0, k, n - k)])
    return np.random.default_rng(99).normal(size=(k, d))[labels] + random.normal(size=(n, d)), labels


@pytest.fixture
def prior_head() -> Iterator[str]:
    """A head added from outside: it always says the most frequent class."""
    HEADS.add("prior", Head(lambda c: DummyClassifier(strategy="prior")))
    yield "prior"
    HEADS.remove("prior")


@settings(max_examples=40)
@given(k=st.integers(2, 8), n=st.integers(40, 120), seeds=st.integers(1, 4), run_seed=st.integers(0, 99))
def test_draws_are_permutations_whose_smallest_prefix_holds_every_class(k: int, n: int, seeds: int, run_seed: int) -> None:
    labels = np.arange(n) % k
    draws = nested_draws(labels, [n, 3 * k, 2 * k], seeds, run_seed=run_seed)
    assert draws.sizes == tuple(sorted({2 * k, 3 * k, n}))
    assert len(draws.orders) == seeds
    for order in draws.orders:
        assert sorted(order.tolist()) == list(range(n))
        assert set(labels[order[: 2 * k]]) == set(range(k))


def test_draws_depend_on_run_seed_names_and_seed_but_not_on_how_many_seeds() -> None:
    labels = np.arange(60) % 3
    few, many = nested_draws(labels, [9], 2, run_seed=0), nested_draws(labels, [9], 4, run_seed=0)
    for left, right in zip(few.orders, many.orders, strict=False):
        np.testing.assert_array_equal(left, right)
    different = [*many.orders, *nested_draws(labels, [9], 1, run_seed=1).orders]
    different += nested_draws(labels, [9], 1, run_seed=0, names=("digits",)).orders
    assert len({tuple(order) for order in different}) == 6


def test_draws_are_uniform_among_those_that_hold_every_class() -> None:
    labels = np.array([0, 0, 0, 1])  # draws of two with both classes: the lone row and any of three others
    partners = [int(order[:2].min()) for order in nested_draws(labels, [2], 3000, run_seed=0).orders]
    np.testing.assert_allclose(np.bincount(partners, minlength=3) / 3000, 1 / 3, atol=0.03)


def test_a_size_that_chance_never_fills_is_left_out() -> None:
    labels = np.concatenate([np.repeat(np.arange(25), 40), [25]])  # one example of the last class
    draws = nested_draws(labels, [26, 700, 1001], 3, run_seed=0)
    assert draws.sizes == (700, 1001)
    with pytest.raises(InputProblem, match="holds all 26 classes"):
        nested_draws(labels, [10, 2000], 1, run_seed=0)


def test_default_sizes_are_a_log_grid_up_to_all_data() -> None:
    sizes = default_sizes(1258, 10)
    assert (sizes[0], sizes[-1], len(sizes)) == (20, 1258, 7)
    np.testing.assert_allclose(np.diff(np.log(sizes)), np.log(1258 / 20) / 6, rtol=0.02)
    assert default_sizes(12, 10) == [12]


def test_every_cell_is_the_head_fitted_on_its_draw_and_scored_on_the_whole_test_set() -> None:
    x, y = blobs(200)
    test_x, test_y = blobs(333, seed=1)
    curves = learning_curves(x, y, test_x, test_y, [8, 30, 200], 3, ["logistic"], run_seed=5, names=("t",), c=0.5)
    draws = nested_draws(y, [8, 30, 200], 3, run_seed=5, names=("t",))
    assert curves.select("m", "seed").rows() == [(m, seed) for m in (8, 30, 200) for seed in range(3)]
    for m, seed, error, per_class, loss, calibration, constant, warning in curves.drop("head").iter_rows():
        rows = draws.orders[seed][:m]
        model = LogisticProbe(0.5).fit(x[rows], y[rows])
        predicted = model.predict(test_x)
        # The curve's fit and this one stop at different points that are both at the optimum to 1e-5 of the training loss.
        assert error == pytest.approx((predicted != test_y).mean(), abs=1.01 / 333)
        assert per_class == pytest.approx(1 - balanced_accuracy_score(test_y, predicted), abs=0.005)
        assert loss == pytest.approx(log_loss(test_y, model.predict_proba(test_x)), abs=5e-3)
        assert calibration == pytest.approx(calibration_error(model.predict_proba(test_x), test_y), abs=0.01)
        assert (constant, warning) == (0.5, None)


def calibration_error(probabilities: Floats, labels: Ints) -> float:
    """Guo et al. (2017), bin by bin."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    total = 0.0
    for low in range(15):
        inside = (confidence * 15 >= low) & (confidence * 15 < low + 1 + 1e-9 * (low == 14))
        if inside.any():
            total += inside.sum() * abs(confidence[inside].mean() - right[inside].mean())
    return total / len(labels)


def test_measures_are_the_definitions_for_linear_and_other_heads() -> None:
    x, y = blobs(120)
    test_x, test_y = blobs(5000, seed=1)
    test_x[:7] += 1e4  # as sure as float64 can be
    for name in ("naive_bayes", "gaussian_nb"):
        model = HEADS[name].build(1.0).fit(x, y)
        probabilities, predicted = model.predict_proba(test_x), model.predict(test_x)
        own = np.maximum(model.predict_log_proba(test_x), LOWEST_LOG_PROBABILITY)[np.arange(5000), test_y]
        found = learning_curves(x, y, test_x, test_y, [120], 1, [name]).row(0, named=True)
        assert found["error"] == pytest.approx((predicted != test_y).mean(), abs=1e-12)
        assert found["mean_per_class_error"] == pytest.approx(1 - balanced_accuracy_score(test_y, predicted), abs=1e-12)
        assert found["log_loss"] == pytest.approx(-own.mean(), rel=1e-9)
        assert found["calibration_error"] == pytest.approx(calibration_error(probabilities, test_y), abs=1e-9)


def test_both_heads_see_the_same_draws_whatever_runs_beside_them() -> None:
    x, y = blobs(200)
    test = blobs(300, seed=1)
    together = learning_curves(x, y, *test, [8, 30, 200], 3, BOTH, run_seed=0)
    alone = [learning_curves(x, y, *test, [8, 30, 200], 3, [head], run_seed=0) for head in BOTH]
    assert_frame_equal(together, pl.concat(alone).sort("head", "m", "seed"), check_exact=True)
    assert together.filter(head="naive_bayes")["alpha_or_c"].null_count() == 9


def test_rows_outside_the_draw_change_nothing() -> None:
    x, y = blobs(200)
    test = blobs(300, seed=1)
    drawn = nested_draws(y, [8, 30, 200], 1, run_seed=0).orders[0][:30]
    other = x * 1e3 - 70  # a scaler that saw any of this would move every prediction
    other[drawn] = x[drawn]
    plain = learning_curves(x, y, *test, [8, 30, 200], 1, BOTH, run_seed=0)
    changed = learning_curves(other, y, *test, [8, 30, 200], 1, BOTH, run_seed=0)
    small = pl.col("m") <= 30
    assert_frame_equal(plain.filter(small), changed.filter(small), check_exact=True)
    assert not plain.filter(~small).equals(changed.filter(~small))


def test_test_examples_do_not_influence_each_other() -> None:
    x, y = blobs(100)
    test_x, test_y = blobs(400, seed=1)
    odd_x, odd_y = test_x[:40] * 500 + 1000, test_y[:40]

    # The construction bites: scaled by the range of train and test together, the same head predicts otherwise.
    wide = MinMaxScaler().fit(np.concatenate([x, test_x, odd_x]))
    leaking = LogisticProbe(scale=False).fit(wide.transform(x), y).predict(wide.transform(test_x))
    assert (leaking != LogisticProbe().fit(x, y).predict(test_x)).mean() > 0.05

    sizes = [8, 30, 100]
    whole = learning_curves(x, y, np.concatenate([test_x, odd_x]), np.concatenate([test_y, odd_y]), sizes, 3, BOTH, run_seed=0)
    parts = [learning_curves(x, y, *part, sizes, 3, BOTH, run_seed=0) for part in ((test_x, test_y), (odd_x, odd_y))]
    for column in ("error", "log_loss"):
        expected = (400 * parts[0][column] + 40 * parts[1][column]) / 440
        np.testing.assert_allclose(whole[column], expected, rtol=1e-9)


def test_labels_without_meaning_give_chance_error_at_every_size() -> None:
    x, y = blobs(600, k=10)
    test_x, test_y = blobs(2000, k=10, seed=1)
    random = np.random.default_rng(2)
    curves = learning_curves(x, random.permutation(y), test_x, test_y, default_sizes(600, 10), 5, BOTH, run_seed=0)
    means = curves.group_by("head", "m").agg(pl.col("error").mean())
    assert len(means) == 14
    assert means["error"].is_between(0.85, 0.95).all()
    real = learning_curves(x, y, test_x, test_y, [600], 1, BOTH, run_seed=0)
    assert (real["error"] < 0.5).all()


def test_the_error_falls_and_is_reported_alike_for_every_seed_at_all_data() -> None:
    x, y = blobs(400)
    curves = learning_curves(x, y, *blobs(2000, seed=1), [8, 50, 400], 4, BOTH, run_seed=0)
    means = curves.group_by("head", "m").agg(pl.col("error").mean()).sort("head", "m")["error"].to_numpy().reshape(2, 3)
    assert (np.diff(means, axis=1) < 0).all()
    assert curves.filter(m=400).group_by("head").agg(pl.col("error").n_unique())["error"].to_list() == [1, 1]


def test_the_same_inputs_give_the_same_bytes() -> None:
    x, y = blobs(150)
    first, second = (learning_curves(x, y, *blobs(100, seed=1), [8, 150], 2, BOTH, run_seed=0) for _ in range(2))
    assert_frame_equal(first, second, check_exact=True)


def test_a_head_added_from_outside_gets_its_curve(prior_head: str) -> None:
    x, y = blobs(200)
    y = np.where(np.arange(200) < 150, 0, y)  # class 0 is always the most frequent
    test_x, test_y = blobs(100, seed=1)
    curves = learning_curves(x, y, test_x, test_y, [50, 200], 2, [prior_head, "naive_bayes"], run_seed=0)
    assert curves.filter(head="prior")["error"].to_list() == pytest.approx([(test_y != 0).mean()] * 4)


def test_labels_may_be_text_and_unknown_test_labels_are_errors() -> None:
    x, y = blobs(100)
    test_x, test_y = blobs(100, seed=1)
    names, test_names = np.array(["d", "a", "c", "b"])[y], np.array(["d", "a", "c", "b"])[test_y]
    plain = learning_curves(x, names, test_x, test_names, [20, 100], 2, BOTH, run_seed=0)
    strange = learning_curves(x, names, test_x, np.full(100, "z"), [20, 100], 2, BOTH, run_seed=0)
    assert (plain["error"] < 0.5).all()
    assert (strange["error"] == 1).all()
    assert strange["log_loss"].to_numpy() == pytest.approx(708.4, abs=0.1)


def test_an_unknown_head_is_named_with_its_neighbours() -> None:
    x, y = blobs(50)
    with pytest.raises(InputProblem, match="nearest valid: naive_bayes"):
        learning_curves(x, y, x, y, [8, 50], 1, ["naive_bays"], run_seed=0)


def test_a_head_that_does_not_converge_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    HEADS.add("hurried", Head(lambda c: LogisticProbe(c, max_iter=1)))
    try:
        x, y = blobs(50)
        learning_curves(x, y, x, y, [50], 1, ["hurried"], run_seed=0, names=("digits",))
    finally:
        HEADS.remove("hurried")
    assert caplog.messages == ["digits: hurried on 50 rows, seed 0: did not converge"]


@pytest.mark.parametrize("name", sorted(HEADS))
def test_every_head_keeps_the_contract(name: str) -> None:
    head = HEADS[name]
    x, y = blobs(60, k=3)
    new, _ = blobs(40, k=3, seed=1)
    sizes, classes = [3, 20, 60], np.arange(3)  # at the first, one example a class
    sizes = [m for m in sizes if m >= 3 + head.beyond_classes]
    found = [fitted.classifier.predict_log_proba(new) for fitted in head.along(x, y, sizes, classes, 1.0)]
    fresh = [head.build(1.0).fit(x[:m], y[:m]).predict_log_proba(new) for m in sizes]
    for grown, alone in zip(found, fresh, strict=True):
        assert grown.shape == (40, 3)
        np.testing.assert_allclose(np.exp(grown).sum(axis=1), 1)
        np.testing.assert_allclose(np.exp(grown), np.exp(alone), atol=0.02)  # either stops within a tolerance of the optimum
    shuffled = np.random.default_rng(0).permutation(60)
    reordered = head.build(1.0).fit(x[shuffled], y[shuffled])
    np.testing.assert_allclose(reordered.predict_proba(new), np.exp(fresh[-1]), atol=0.02)
    np.testing.assert_array_equal(reordered.classes_[reordered.predict_log_proba(new).argmax(axis=1)], reordered.predict(new))
    constants = [fitted.constant for fitted in head.along(x, y, sizes, classes, 1.0)]
    assert set(constants) <= {None, 1.0}


@pytest.mark.parametrize("name", sorted(HEADS))
def test_one_example_for_each_of_many_classes_is_no_cause_for_warnings(name: str) -> None:
    random = np.random.default_rng(0)
    y = np.concatenate([np.arange(30), np.arange(30)])
    x = random.normal(size=(30, 5))[y] * 10 + random.normal(size=(60, 5))
    least = 30 + HEADS[name].beyond_classes
    curves = learning_curves(x[:least], y[:least], x[30:], y[30:], [30, least], 1, [name], run_seed=0)
    assert curves["m"].to_list() == [least]
    assert curves["error"][0] < 0.5 or name == "lda"  # whose covariance is of one row's distance from another
    assert len([*HEADS[name].along(x, y, [31, 60], np.arange(30), 1.0)]) == 2


def test_few_shot_draws_hold_k_of_each_class_and_are_nested() -> None:
    labels = np.repeat(["a", "b", "c"], [50, 9, 20])
    draws = few_shot_draws(labels, [4, 1, 9, 16], 3, run_seed=0)
    assert (draws.sizes, draws.left_out) == ((3, 12, 27), (16,))
    for order in draws.orders:
        assert len(set(order.tolist())) == 27
        for m, k in zip(draws.sizes, (1, 4, 9), strict=True):
            assert np.unique(labels[order[:m]], return_counts=True)[1].tolist() == [k, k, k]
    assert len({tuple(order) for order in draws.orders}) == 3
    with pytest.raises(InputProblem, match="rarest class has 9"):
        few_shot_draws(labels, [10], 1, run_seed=0)


def test_few_shot_curves_count_labels_and_share_the_draws() -> None:
    x, y = blobs(200)
    curves = learning_curves(x, y, *blobs(300, seed=1), [1, 2, 8], 3, BOTH, per_class=True)
    assert curves["m"].unique().sort().to_list() == [4, 8, 32]
    assert curves["error"].null_count() == 0


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_change_nothing(workers: int) -> None:
    x, y = blobs(200)
    with threadpoolctl.threadpool_limits(1):
        alone = learning_curves(x, y, *blobs(300, seed=1), [8, 50, 200], 3, BOTH)
        beside = learning_curves(x, y, *blobs(300, seed=1), [8, 50, 200], 3, BOTH, workers=workers)
    assert_frame_equal(alone, beside, check_exact=True)


def test_float32_features_give_the_same_curves() -> None:
    x, y = blobs(400)
    test_x, test_y = blobs(2000, seed=1)
    wide = learning_curves(x, y, test_x, test_y, [8, 50, 400], 3, BOTH)
    narrow = learning_curves(x.astype(np.float32), y, test_x.astype(np.float32), test_y, [8, 50, 400], 3, BOTH)
    np.testing.assert_allclose(wide["error"], narrow["error"], atol=0.002)


GRID = (0.001, 0.1, 10.0)


def test_c_is_the_one_that_rows_held_out_of_the_draw_choose() -> None:
    x, y = blobs(300)
    test_x, test_y = blobs(2000, seed=1)
    curves = learning_curves(x, y, test_x, test_y, [40, 300], 2, ["logistic"], c=GRID)
    draws = nested_draws(y, [40, 300], 2, run_seed=0)
    for m, seed, chosen in curves.select("m", "seed", "alpha_or_c").iter_rows():
        rows = draws.orders[seed if m == 40 else 0][:m]
        held = np.zeros(m, dtype=bool)
        for k in range(4):
            members = np.flatnonzero(y[rows] == k)
            held[members[len(members) - max(len(members) // 5, 1) :]] = True
        fitted, out = rows[~held], rows[held]
        losses = [
            log_loss(y[out], LogisticProbe(c).fit(x[fitted], y[fitted]).predict_proba(x[out]), labels=range(4)) for c in GRID
        ]
        assert chosen == GRID[int(np.argmin(losses))]
        assert (curves.filter(m=m, seed=seed)["warning"][0] is not None) == (chosen in (GRID[0], GRID[-1]))


def test_the_test_set_has_no_say_in_c() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(80, 30)), np.arange(80) % 2
    x[:, 0] += 0.8 * y
    # A test set on which strong and weak penalties differ most: were c chosen on it, its labels would decide.
    test_x = random.normal(size=(500, 30))
    chosen = []
    for test_y in (np.zeros(500, dtype=int), (LogisticProbe(GRID[-1]).fit(x, y).predict(test_x))):
        curves = learning_curves(x, y, test_x, test_y, [40, 80], 3, ["logistic"], c=GRID)
        chosen.append(curves["alpha_or_c"].to_list())
        losses = [log_loss(test_y, LogisticProbe(c).fit(x, y).predict_proba(test_x), labels=[0, 1]) for c in GRID]
        chosen.append(GRID[int(np.argmin(losses))])
    assert chosen[0] == chosen[2]
    assert chosen[1] != chosen[3]  # a choice by the test labels would have told the two test sets apart


def test_one_example_a_class_leaves_none_to_choose_by() -> None:
    x, y = blobs(100)
    curves = learning_curves(x, y, x, y, [1, 5, 10], 1, BOTH, per_class=True, c=GRID)
    first = curves.filter(m=4, head="logistic").row(0, named=True)
    assert first["alpha_or_c"] == 0.1
    assert "middle of the grid" in first["warning"]
    assert curves.filter(head="naive_bayes")["warning"].null_count() == 3
