"""Sets of sources against all sets, one by one; and the languages' clusters against scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, combinations

import numpy as np
import polars as pl
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import silhouette_samples

from stages.errors import InputProblem
from stages.languages.clusters import clusters, combined_distances, silhouettes, square
from stages.languages.predict import held_out_predictions
from stages.languages.source_sets import Offer, cheapest_cover, exact, greedy, offers, source_sets

Planted = Callable[..., pl.DataFrame]


def offer(seed: int, n: int = 8, t: int = 12, costs: bool = False) -> Offer:
    rng = np.random.default_rng(seed)
    predicted = rng.uniform(size=(n, t))
    predicted[rng.uniform(size=(n, t)) < 0.1] = np.nan
    price = rng.choice([0.5, 1.0, 2.0], n) if costs else np.ones(n)
    return Offer([f"l{i}" for i in range(n)], price, predicted, predicted + 0.01, 1 - predicted)


def all_sets(made: Offer, budget: float = np.inf) -> list[tuple[int, ...]]:
    sets = chain.from_iterable(combinations(range(len(made.sources)), size) for size in range(1, len(made.sources) + 1))
    return [chosen for chosen in sets if made.costs[list(chosen)].sum() <= budget + 1e-9]


@pytest.mark.parametrize("costs", [False, True])
def test_the_exact_set_is_the_best_of_all_and_greedy_is_near(costs: bool) -> None:
    ratios = []
    for seed in range(15):
        made = offer(seed, costs=costs)
        best = max(made.value(chosen, made.predicted) for chosen in all_sets(made, 3.0))
        found = exact(made, made.predicted, 3.0)
        assert found is not None
        assert made.costs[found].sum() <= 3.0
        assert made.value(found, made.predicted) == pytest.approx(best)
        quick = greedy(made, made.predicted, 3.0)
        assert made.costs[quick].sum() <= 3.0
        ratios.append(made.value(quick, made.predicted) / best)
    assert min(ratios) > 1 - 1 / np.e
    assert max(ratios) <= 1 + 1e-12


def test_too_many_sets_are_not_tried() -> None:
    made = offer(0, n=60)
    assert exact(made, made.predicted, 5.0) is None
    assert exact(made, made.predicted, 0.5) is None, "nothing is that cheap"
    assert len(greedy(made, made.predicted, 5.0)) == 5
    assert greedy(made, made.predicted, 0.5) == []


@pytest.mark.parametrize("costs", [False, True])
def test_the_cheapest_cover_is_the_cheapest_of_all_covers(costs: bool) -> None:
    for seed in range(10):
        made = offer(seed, costs=costs)
        tolerance = 0.15
        covering = [chosen for chosen in all_sets(made) if made.outcome(chosen, tolerance)["covered"] == 1]
        cheapest = min(made.costs[list(chosen)].sum() for chosen in covering)
        found = cheapest_cover(made, tolerance)
        assert made.outcome(found, tolerance)["covered"] == 1
        assert made.costs[found].sum() == pytest.approx(cheapest)


def test_each_target_is_served_by_the_source_predicted_best() -> None:
    nan = np.nan
    predicted, measured = np.array([[0.9, 0.2, nan], [0.8, 0.7, nan]]), np.array([[0.1, 0.5, nan], [0.3, 0.6, nan]])
    made = Offer(["a", "b"], np.ones(2), predicted, measured, np.zeros((2, 3)))
    found = made.outcome([0, 1], 0.05)
    assert found["predicted"] == pytest.approx((0.9 + 0.7) / 2)
    assert found["measured"] == pytest.approx((0.1 + 0.6) / 2), "not 0.3: what is measured is not known when one chooses"
    assert found["covered"] == pytest.approx(2 / 3), "nobody serves the third"
    assert made.outcome([1], 0.05)["covered"] == pytest.approx(1 / 3)


def test_the_table_of_sets(planted: Planted) -> None:
    pairs = planted(12)
    predicted = held_out_predictions(pairs, models=["ridge"])
    distances = combined_distances(pairs)[1]
    found = source_sets(offers(predicted, distances), np.random.default_rng(0), budget=3, tolerance=0.02)
    assert set(found["rule"]) == {"cover", "english", "exact", "greedy", "nearest", "random", "strongest"}
    assert found.filter((pl.col("rule") == "english") & (pl.col("budget") == 1))["sources"].to_list() == ["en"]
    measured = {(rule, budget): value for rule, budget, value in found.select("rule", "budget", "measured").iter_rows()}
    assert measured["exact", 3.0] > measured["random", 3.0]
    assert found.filter(pl.col("rule") == "cover")["covered"].to_list() == [1.0]
    served = offers(predicted, distances, targets=["l03", "l04"], sources=["en", "l05"], costs={"en": 2.0})["t"]
    assert served.sources == ["en", "l05"]
    assert served.costs.tolist() == [2.0, 1.0]
    assert served.predicted.shape == (2, 2)
    with pytest.raises(InputProblem, match="'l99' is no target of any task; nearest valid: l09"):
        offers(predicted, distances, targets=["l99"])
    with pytest.raises(InputProblem, match=r"languages\.serve\.costs"):
        offers(predicted, distances, costs={"english": 2.0})
    cheap = source_sets(offers(predicted, distances, costs={"en": 0.01}), np.random.default_rng(0), budget=3, tolerance=0.02)
    budgets = cheap.filter(pl.col("rule") == "greedy")["budget"].to_list()
    assert budgets == pytest.approx([0.3 * i for i in range(1, 11)])
    assert cheap["cost"].is_between(0, cheap["budget"] + 1e-9).all()
    dear = source_sets(offers(predicted, distances), np.random.default_rng(0), budget=0.5, tolerance=0.02)
    assert dear["rule"].to_list() == ["cover"], "nothing is that cheap"


def test_planted_clusters_are_found() -> None:
    rng = np.random.default_rng(4)
    centres = {"a": (0.0, 0.0), "b": (1.0, 0.0), "c": (0.3, 1.0)}
    places = {
        f"{group}{i}": np.array(centre) + 0.05 * rng.normal(size=2) for group, centre in centres.items() for i in range(5)
    }
    rows = [
        {"task": "t", "source": s, "target": t, "distance": float(np.linalg.norm(places[s] - places[t]))}
        for s in places for t in places if s != t
    ]  # fmt: skip
    table = pl.DataFrame(rows)
    found = clusters(table)
    number = dict(found.select("language", "cluster").iter_rows())
    assert len(set(number.values())) == 3
    assert all(number[name] == number[name[0] + "0"] for name in places)
    assert found.group_by("cluster").agg(pl.col("medoid").sum())["medoid"].to_list() == [1, 1, 1]
    assert sorted(found["place"]) == list(range(1, 16))
    ordered = found.sort("place")["cluster"].to_list()
    assert ordered == sorted(ordered), "clusters lie together along the dendrogram, numbered along it"
    names, matrix = square(table)
    labels = np.array([number[name] for name in names])
    np.testing.assert_allclose(found["silhouette"], silhouette_samples(matrix, labels, metric="precomputed"), atol=1e-12)


def test_silhouettes_are_scikit_learns_with_lone_languages() -> None:
    rng = np.random.default_rng(5)
    points = rng.normal(size=(9, 2))
    matrix, labels = cdist(points, points), np.array([1, 1, 1, 2, 2, 2, 2, 3, 4])
    np.testing.assert_allclose(
        silhouettes(matrix, labels), silhouette_samples(matrix, labels, metric="precomputed"), atol=1e-12
    )


def test_one_direction_is_enough_and_no_distance_is_no_cluster(planted: Planted) -> None:
    table = pl.DataFrame({"task": ["t"] * 3, "source": ["a", "a", "b"], "target": ["b", "c", "c"], "distance": [0.1, 0.5, 0.6]})
    _, matrix = square(table)
    assert (matrix == matrix.T).all()
    assert matrix[0].tolist() == [0, 0.1, 0.5]
    weights, distances = combined_distances(planted(6).drop("x_distance"))
    assert weights.is_empty()
    assert distances.is_empty()
    assert clusters(distances).is_empty()
