"""Models of their own making: LambdaRank's step, the combined distance, boosting's start, anchors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from scipy.optimize import lsq_linear

from stages.languages.anchors import share, variances, with_anchors
from stages.languages.boosting import TREES, base, boosting
from stages.languages.combined import CombinedDistance, combined_distance
from stages.languages.design import Pairs, zero_shot
from stages.languages.holdout import Calibration
from stages.languages.lambdarank import TOP, _Lists, gains, lambdarank
from stages.languages.predict import evaluate

Planted = Callable[..., pl.DataFrame]


def loss_of(
    x: np.ndarray, gain: np.ndarray, targets: np.ndarray, by: np.ndarray, penalty: float
) -> Callable[[np.ndarray], float]:
    """Write out the loss pair by pair, the exchanges being those of the order by `by`."""
    parts = []
    for target in np.unique(targets):
        rows = np.flatnonzero(targets == target)
        order = rows[np.argsort(-(x[rows] @ by), kind="stable")]
        ideal = sum(g / np.log2(i + 2) for i, g in enumerate(sorted(gain[rows], reverse=True)))
        for i in range(min(TOP, len(order))):
            for j in range(i + 1, len(order)):
                a, b = order[i], order[j]
                change = abs((gain[a] - gain[b]) * (1 / np.log2(i + 2) - 1 / np.log2(j + 2))) / ideal
                better, worse = (a, b) if gain[a] > gain[b] else (b, a)
                if gain[a] != gain[b]:
                    parts.append((change, x[better] - x[worse]))
    count = len(np.unique(targets))

    def loss(weights: np.ndarray) -> float:
        pairs = sum(change * np.log1p(np.exp(-(apart @ weights))) for change, apart in parts)
        return float(pairs + penalty * count / 2 * weights @ weights)

    return loss


def test_a_step_is_newtons_on_the_loss_written_out() -> None:
    rng = np.random.default_rng(0)
    targets = np.array([0] * 7 + [1] * 9 + [2] * 2)  # ragged, one list shorter than the top
    x, scores = rng.normal(size=(18, 3)), rng.uniform(size=18)
    gain = gains(scores, targets)
    lists = _Lists(x, gain, targets)
    by, start, penalty = rng.normal(size=3), 0.3 * rng.normal(size=3), 0.2
    loss = loss_of(x, gain, targets, by, penalty)
    e = 1e-4 * np.eye(3)
    gradient = np.array([(loss(start + d) - loss(start - d)) / 2e-4 for d in e])
    hessian = np.array([
        [(loss(start + a + b) - loss(start + a - b) - loss(start - a + b) + loss(start - a - b)) / 4e-8 for a in e] for b in e
    ])  # fmt: skip
    np.testing.assert_allclose(lists.step(start, by, penalty), start - np.linalg.solve(hessian, gradient), rtol=1e-4)


def test_gains_by_hand() -> None:
    found = gains(np.array([0.2, 0.6, 1.0, 0.5, 0.5]), np.array([4, 4, 4, 7, 7]))
    assert found == pytest.approx([0, 0.5, 1, 0, 0])


def test_lambdarank_orders_where_the_level_of_a_target_hides_the_order() -> None:
    """Levels differ by target far more than sources do: squared error looks at them, an order within the target does not."""
    rng = np.random.default_rng(1)
    rows = [
        {"task": "t", "source": f"s{s:02d}", "target": f"t{t:02d}", "a": (a := rng.normal()), "b": rng.normal(),
         "score": float(np.clip(0.1 + 0.03 * t + 0.02 * a, 0, 1))}
        for s in range(20) for t in range(25)
    ]  # fmt: skip
    every = Pairs.of(zero_shot(pl.DataFrame(rows)))
    found = lambdarank(every)(every)
    assert found.shape[0] > 1
    for target in np.unique(every.target):
        mine = every.target == target
        assert np.argmax(found[-1][mine]) == np.argmax(every.features[mine, 0])


def test_weights_of_distances_are_the_bounded_least_squares(planted: Planted) -> None:
    rows = zero_shot(planted(10).with_columns(y_distance=pl.col("irrelevant").abs(), z_overlap=1 - pl.col("x_distance") ** 2))
    every = Pairs.of(rows)
    fitted = CombinedDistance.fit(every)
    assert [every.names[i] for i in fitted.columns] == ["x_distance", "y_distance", "z_overlap"]
    raw = np.column_stack([rows["x_distance"], rows["y_distance"], -rows["z_overlap"]])
    standardised = (raw - raw.mean(axis=0)) / raw.std(axis=0)
    expected = lsq_linear(standardised, rows["score"].mean() - rows["score"].to_numpy(), bounds=(0, np.inf), tol=1e-12).x
    np.testing.assert_allclose(fitted.weights, expected, atol=1e-6)
    assert (fitted.weights >= 0).all()
    np.testing.assert_allclose(
        combined_distance(every)(every), rows["score"].mean() - standardised @ fitted.weights, atol=1e-12
    )


def test_a_planted_weight_is_found_and_a_wrong_sign_gets_none() -> None:
    rng = np.random.default_rng(2)
    rows = [
        {"task": "t", "source": f"l{s}", "target": f"l{t}", "a_distance": (a := rng.uniform()),
         "b_distance": (b := rng.uniform()), "score": 0.7 - 0.4 * a + 0.1 * b}
        for s in range(12) for t in range(12) if s != t
    ]  # fmt: skip
    every = Pairs.of(zero_shot(pl.DataFrame(rows)))
    weights = dict(CombinedDistance.fit(every).table(every.names).iter_rows())
    assert weights["b_distance"] == 0
    assert weights["a_distance"] == pytest.approx(0.4 * every.features[:, 0].std(), rel=0.1)


def test_without_distances_nothing_is_combined(planted: Planted) -> None:
    every = Pairs.of(zero_shot(planted(6).drop("x_distance")))
    assert combined_distance(every)(every) == pytest.approx(every.scores.mean())


def test_boosting_starts_from_the_known_means(planted: Planted) -> None:
    every = Pairs.of(zero_shot(planted(14))).knowing(("source", "target"))
    means = [every.mean_of_others(every, side) for side in ("source", "target")]
    assert base(every, every) == pytest.approx(means[0] + means[1] - every.scores.mean())
    few = every.where(np.arange(len(every)) < 30)
    assert boosting(few)(few)[0] == pytest.approx(base(few, few)), "too few pairs to split"
    found = boosting(every)(every)
    assert found.shape == (len(TREES), len(every))
    errors = ((found - every.scores) ** 2).mean(axis=1)
    assert (np.diff(errors) <= 0).all(), "more trees fit what they saw better"
    assert (found == boosting(every)(every)).all()


def test_variances_of_a_planted_effect() -> None:
    rng = np.random.default_rng(3)
    targets = np.repeat(np.arange(400), rng.integers(5, 30, 400))
    errors = rng.normal(0, 0.3, 400)[targets] + rng.normal(0, 0.2, len(targets))
    between, within = variances(errors, targets)
    assert between == pytest.approx(0.09, rel=0.15)
    assert within == pytest.approx(0.04, rel=0.05)
    assert variances(rng.normal(0, 0.2, 2000), np.repeat(np.arange(100), 20))[0] < 0.001
    calibration = Calibration(-errors, np.zeros(len(errors)), targets, targets, targets, 0)
    assert share(calibration, 2) == pytest.approx(2 * between / (2 * between + within))
    assert share(calibration, 0) == 0


def test_anchors_help_where_targets_have_levels_and_do_no_harm_where_not(planted: Planted) -> None:
    for effect, helps in ((0.1, True), (0.0, False)):
        every, held = evaluate(planted(16, noise=0.02, target_effect=effect), models=["ridge"])["t"]
        found = with_anchors(every, held["ridge"], 0.9, np.random.default_rng(0))
        mae = found["mae"].to_list()
        assert found["n_anchors"].to_list() == [0, 1, 2, 3]
        assert found["coverage"].is_between(0.8, 1).all()
        if helps:
            assert mae[1] < 0.7 * mae[0]
            assert mae[3] < mae[1]
        else:
            assert mae[3] < 1.03 * mae[0]
    level = float(np.abs(held["ridge"].predicted - every.scores).mean())
    assert mae[0] == pytest.approx(level, rel=1e-6), "every target has as many sources, so the means agree"
