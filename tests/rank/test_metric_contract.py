"""What holds for every metric, and for one that nobody has written yet."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stages.errors import InputProblem
from stages.rank import METRICS, Metric, PoolMetric, Score, Statistics, score_pool
from stages.rank.metric import min_max

NAMES = sorted(METRICS)


def scored(name: str, *given: object) -> dict[str, Score]:
    """What a candidate's part of the table holds: one score, or the components of a metric that compares candidates."""
    return METRICS[name].rows(name, Statistics(*given))


def candidate(n: int = 60, d: int = 6, seed: int = 0) -> tuple[NDArray, NDArray, NDArray]:
    stream = np.random.default_rng(seed)
    labels = stream.permutation(np.arange(n) % 3)
    features = stream.normal(size=(n, d)) + stream.normal(size=(3, d))[labels]
    return features.astype(np.float32), labels, stream.dirichlet(np.ones(5), n).astype(np.float32)


def degenerate() -> dict[str, tuple[NDArray, NDArray, NDArray | None]]:
    x, y, p = candidate()
    return {
        "constant": (np.full_like(x, 0.1), y, p),
        "zeros": (np.zeros_like(x), y, p),
        "two rows": (x[:2], np.array([0, 1]), p[:2]),
        "one row": (x[:1], y[:1], p[:1]),
        "single class": (x, np.zeros_like(y), p),
        "all classes single": (x, np.arange(60), p),
        "wide": (*candidate(20, 50)[:2], p[:20]),
        "copies": (np.repeat(x[:6], 10, axis=0), np.repeat(y[:6], 10), p),
        "collapsed": (np.eye(3)[y], y, np.eye(3)[y]),
        "one source class": (x, y, np.ones((60, 1))),
        "no head": (x, y, None),
        "huge": (x * np.float32(4e37), y, p),
        "tiny": (x * np.float32(1e-37), y, p),
        "vanishing": (x.astype(np.float64) * 1e-200, y, p),
        "one dimension": (x[:, :1], y, p),
    }


@pytest.mark.parametrize("case", degenerate())
@pytest.mark.parametrize("name", NAMES)
def test_finite_or_none_with_a_reason(name: str, case: str) -> None:
    given = degenerate()[case]
    pooled = [METRICS[name](*given), *score_pool([given, candidate()], METRICS[name])]
    for score in [*scored(name, *given).values(), *pooled]:
        assert isinstance(score, Score)
        assert isinstance(score.higher_is_better, bool)
        if score.value is None:
            assert score.warning
        else:
            assert type(score.value) is float
            assert math.isfinite(score.value)


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_left_alone_and_the_answer_is_the_same_twice(name: str) -> None:
    given = candidate()
    before = [array.copy() for array in given]
    for array in given:
        array.setflags(write=False)
    first = scored(name, *given)
    assert scored(name, *given) == first
    for array, copy in zip(given, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("name", NAMES)
def test_arrays_and_tensors_of_every_precision(name: str) -> None:
    x, y, p = candidate()
    x, p = x.astype(np.float16).astype(np.float32), p.astype(np.float16)  # so that half precision holds them exactly
    expected = scored(name, x, y, p)
    assert scored(name, x.astype(np.float16), y.astype(np.int32), p) == expected
    assert scored(name, x.astype(np.float64), y.tolist(), p) == expected
    assert scored(name, torch.tensor(x), torch.tensor(y), torch.tensor(p)) == expected
    assert scored(name, torch.tensor(x, dtype=torch.float16, requires_grad=True), torch.tensor(y), p) == expected
    rounded = torch.tensor(x).bfloat16()
    assert scored(name, rounded, y, p) == scored(name, rounded.float().numpy(), y, p)
    other_order = scored(name, np.asfortranarray(x), y, p)  # sums run in another order
    for part, score in other_order.items():
        assert score.value == pytest.approx(expected[part].value, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_class_ids_may_have_gaps(name: str) -> None:
    x, y, p = candidate()
    assert scored(name, x, np.array([7, 40, 1000])[y], p) == scored(name, x, y, p)


@pytest.mark.parametrize("name", NAMES)
def test_values_that_are_not_finite_are_counted(name: str) -> None:
    x, y, p = candidate()
    x = x.astype(np.float64)
    x[3, 2], x[7, 0], x[8, 1] = np.nan, -np.inf, 1e39  # which float32 cannot hold
    with pytest.raises(InputProblem, match="3 of 360 feature values are not finite"):
        METRICS[name](x, y, p)


@pytest.mark.parametrize("name", NAMES)
def test_without_a_source_head_only_metrics_that_need_it_have_no_value(name: str) -> None:
    x, y, p = candidate()
    metric, rows = METRICS[name], scored(name, x, y)
    for part, with_head in scored(name, x, y, p).items():
        assert with_head.value is not None
        if metric.needs_source_probabilities:
            assert rows[part] == Score(None, "needs a source head", metric.higher_is_better)
        else:
            assert rows[part] == with_head


@pytest.mark.parametrize("name", NAMES)
def test_one_class_has_no_value(name: str) -> None:
    x, y, p = candidate()
    assert all(score.value is None for score in scored(name, x, np.full_like(y, 4), p).values())


@pytest.mark.parametrize("name", NAMES)
def test_shared_statistics_change_nothing(name: str) -> None:
    given = candidate()
    shared = Statistics(*given)
    for other in NAMES:
        METRICS[other].rows(other, shared)
    assert METRICS[name].rows(name, shared) == scored(name, *given)


@pytest.mark.parametrize(
    ("features", "labels", "probabilities", "message"),
    [
        (np.zeros(4), np.zeros(4, int), None, "features"),
        (np.zeros((4, 2)), np.zeros(3, int), None, "labels"),
        (np.zeros((0, 2)), np.zeros(0, int), None, "features"),
        (np.zeros((4, 2)), np.zeros(4), None, "class numbers"),
        (np.zeros((4, 2)), np.zeros(4, int), np.ones((3, 1)), "probabilities"),
        (np.zeros((4, 2)), np.zeros(4, int), np.full((4, 2), 0.7), "sum to 1"),
        (np.zeros((4, 2)), np.zeros(4, int), np.tile([1.5, -0.5], (4, 1)), "0 or more"),
    ],
)
def test_what_does_not_fit_is_refused(features: NDArray, labels: NDArray, probabilities: NDArray | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Statistics(features, labels, probabilities)


def test_blocks_give_what_one_pass_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    given = candidate(80, 9)
    whole = {name: scored(name, *given) for name in NAMES}
    monkeypatch.setattr("stages.rank.statistics.BLOCK_VALUES", 70)  # seven rows at once
    monkeypatch.setattr("stages.rank.knn.BLOCK_DISTANCES", 500)
    for name in NAMES:
        for part, score in scored(name, *given).items():
            assert score.value == pytest.approx(whole[name][part].value, rel=1e-10), part


def test_a_mean_under_a_large_offset() -> None:
    x = np.random.default_rng(0).normal(size=(1000, 3)) + 1e9
    np.testing.assert_allclose(Statistics(x, np.zeros(1000, int)).mean - 1e9, (x - 1e9).mean(axis=0), atol=2e-7)


def test_reading_the_registry_loads_neither_torch_nor_a_metric() -> None:
    program = (
        "import sys; from stages.rank import METRICS; names = list(METRICS);"
        "assert not {'torch', 'sklearn', 'scipy.stats', 'stages.rank.tmi'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def spread_against_the_pool(table: NDArray) -> NDArray:
    """Min-max each component over the candidates, and add up."""
    span = np.ptp(table, axis=0)
    return np.asarray(((table - table.min(axis=0)) / np.where(span > 0, span, 1)).sum(axis=1))


POOLED = PoolMetric(
    components=("spread", "size"),
    measure=lambda statistics: ((float(statistics.squared_norms.sum()), float(statistics.n)), None),
    combine=spread_against_the_pool,
)


def test_a_pool_metric_compares_its_candidates() -> None:
    x, y, p = candidate()
    pool = [(x, y, p), (2 * x, y, p), (3 * x, y)]
    scores = score_pool(pool, POOLED)
    assert [score.value for score in scores] == pytest.approx([0, 3 / 8, 1], rel=1e-5)
    with_one_class = score_pool([*pool, (x, np.zeros_like(y), p)], POOLED)
    assert with_one_class[:3] == scores
    assert with_one_class[3].value is None
    assert with_one_class[3].warning
    alone = POOLED(x, y, p)
    assert alone.value is None
    assert "two candidates" in str(alone.warning)
    needing = PoolMetric(POOLED.components, POOLED.measure, POOLED.combine, needs_source_probabilities=True)
    assert [score.value is None for score in score_pool(pool, needing)] == [False, False, True]


def test_candidates_without_a_difference_are_said_to_be_equal() -> None:
    x, y, p = candidate()
    scores = score_pool([(x, y, p), (x, y, p)], POOLED)
    assert [score.value for score in scores] == [0, 0]
    assert {score.warning for score in scores} == {"all candidates have the same score"}


def test_stretching_over_the_pool() -> None:
    table = np.array([[1.0, 7.0, -3.0], [3.0, 7.0, -1.0], [2.0, 7.0, -5.0]])
    np.testing.assert_array_equal(min_max(table), [[0, 0, 0.5], [1, 0, 1], [0.5, 0, 0]])


def test_a_metric_of_single_candidates_takes_a_pool_too() -> None:
    x, y, p = candidate()
    assert score_pool([(x, y), (x, y, p)], METRICS["logme"]) == [METRICS["logme"](x, y)] * 2


def test_an_endless_value_becomes_none() -> None:
    metric = Metric(lambda statistics: (math.inf, None), higher_is_better=False)
    score = metric(*candidate())
    assert score.value is None
    assert "floating point" in str(score.warning)
    assert not score.higher_is_better
