"""The methods that look at the source alone, against their definitions written out naively."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stages.errors import InputProblem
from stages.prune import PRUNERS, PruneInputs, keep
from stages.prune.early import BATCH, EPOCHS, RATE, RUNS, Scaling, trained_head
from stages.prune.herding import herding_order
from stages.prune.in_domain import InnerProducts
from stages.prune.k_center import k_center_order
from stages.prune.moderate import moderate
from stages.prune.near_duplicates import largest_cosines

IN_DOMAIN = ["moderate", "el2n", "grand", "herding", "k_center"]
NEED_LABELS = [
    *IN_DOMAIN,
    *(f"{method}_classes" for method in IN_DOMAIN),
    "label_mapping",
    "feature_mapping",
    "random",
    "reversed",
]
POINTS = st.tuples(st.integers(1, 25), st.integers(1, 6), st.booleans(), st.integers(0, 2**32 - 1))


def points(shape: tuple[int, int, bool, int]) -> NDArray[np.float64]:
    """Points [m, d] far from the origin; small whole numbers among them make copies and equal distances."""
    m, d, whole, seed = shape
    stream = np.random.default_rng(seed)
    return 50 + (stream.integers(-1, 2, (m, d)).astype(np.float64) if whole else stream.normal(size=(m, d)))


def source(n: int = 400, d: int = 12, n_classes: int = 5, offset: float = 0.0) -> PruneInputs:
    """A source of overlapping classes of unequal size, in an order that mixes them."""
    stream = np.random.default_rng(4)
    groups = np.minimum(stream.geometric(0.35, n) - 1, n_classes - 1)
    features = offset + 1.5 * stream.normal(size=(n_classes, d))[groups] + stream.normal(size=(n, d))
    return PruneInputs(
        target_probabilities=np.full((3, n_classes), 1 / n_classes, dtype=np.float32),
        target_features=stream.normal(size=(3, d)).astype(np.float32),
        source_features=features.astype(np.float32),
        source_groups=groups.astype(np.int64),
        group_names=[f"class {number}" for number in range(n_classes)],
        source_ids=[f"{number:04d}" for number in range(n)],
        n_clusters=7,
        generator=np.random.default_rng(0),
    )


@settings(deadline=None)
@given(POINTS)
def test_every_herding_pick_brings_the_mean_nearest(shape: tuple[int, int, bool, int]) -> None:
    rows = points(shape)
    mean, picked = rows.mean(axis=0), np.zeros(rows.shape[1])
    left = set(range(len(rows)))
    for turn, choice in enumerate(herding_order(rows), 1):
        gaps = {row: float(np.linalg.norm(mean - (picked + rows[row]) / turn)) for row in left}
        assert gaps[int(choice)] == pytest.approx(min(gaps.values()), abs=1e-9)
        left.remove(int(choice))
        picked += rows[choice]
    assert not left


def test_herding_takes_the_nearest_where_a_popular_toolkit_takes_the_farthest() -> None:
    rows = np.random.default_rng(0).normal(size=(300, 5))
    mean = rows.mean(axis=0)

    def gap(order: NDArray[np.int64], n: int) -> float:
        return float(np.linalg.norm(rows[order[:n]].mean(axis=0) - mean))

    left, picked, farthest = list(range(300)), np.zeros(5), []
    for turn in range(1, 301):
        farthest.append(max(left, key=lambda row: float(np.linalg.norm(mean - (picked + rows[row]) / turn))))
        left.remove(farthest[-1])
        picked += rows[farthest[-1]]
    ours, random = herding_order(rows), np.random.default_rng(1).permutation(300)
    for n in (10, 30, 100):
        assert gap(ours, n) < 0.2 * gap(random, n) < gap(np.array(farthest), n)
        assert gap(ours, n) * n < 5  # the mean's error falls as 1 / n, not as 1 / sqrt(n)


@settings(deadline=None)
@given(POINTS)
def test_every_k_center_pick_is_the_farthest_from_all_before(shape: tuple[int, int, bool, int]) -> None:
    rows = points(shape)
    order = k_center_order(rows).tolist()
    assert sorted(order) == list(range(len(rows)))
    to_mean = np.linalg.norm(rows - rows.mean(axis=0), axis=1)
    assert to_mean[order[0]] == pytest.approx(to_mean.min(), abs=1e-9)
    for turn in range(1, len(order)):
        farness = {row: min(float(np.linalg.norm(rows[row] - rows[pick])) for pick in order[:turn]) for row in order[turn:]}
        assert farness[order[turn]] == pytest.approx(max(farness.values()), abs=1e-6)


def test_k_center_is_within_twice_the_best_radius() -> None:
    rows = np.random.default_rng(2).normal(size=(11, 2))
    distances = np.linalg.norm(rows[:, None] - rows, axis=2)
    order = k_center_order(rows)
    for k in (1, 2, 3, 4):
        best = min(distances[:, list(chosen)].min(axis=1).max() for chosen in combinations(range(11), k))
        assert distances[:, order[:k]].min(axis=1).max() <= 2 * best + 1e-12


def test_columns_that_are_computed_when_needed_give_the_same_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(3).normal(size=(60, 7))
    kept = herding_order(rows), k_center_order(rows), InnerProducts(rows)[3]
    monkeypatch.setattr("stages.prune.in_domain.LARGE", 10)
    np.testing.assert_array_equal(herding_order(rows), kept[0])
    np.testing.assert_array_equal(k_center_order(rows), kept[1])
    np.testing.assert_allclose(InnerProducts(rows)[3], kept[2], rtol=1e-12)


@settings(deadline=None)
@given(POINTS)
def test_moderate_is_the_distance_to_the_middle_rank(shape: tuple[int, int, bool, int]) -> None:
    rows = points(shape)
    median = [sorted(column)[len(rows) // 2] for column in rows.T.tolist()]
    if len(rows) % 2 == 0:
        median = [(high + sorted(column)[len(rows) // 2 - 1]) / 2 for high, column in zip(median, rows.T.tolist(), strict=True)]
    distances = np.sqrt(np.square(rows - median).sum(axis=1)).tolist()
    made = moderate(rows)
    for mine, score in zip(distances, made, strict=True):
        # Whole numbers give exact distances up to the last bit of the root, which both sides round alike.
        below, equal = sum(other < mine for other in distances), sum(other == mine for other in distances)
        assert score == pytest.approx(-abs((below + equal / 2) / len(rows) - 0.5))


def test_moderate_keeps_neither_end_of_any_class() -> None:
    inputs = source()
    features = np.asarray(inputs.source_features)
    kept = set(keep(PRUNERS["moderate"](inputs), 0.5).tolist())
    for group in range(5):
        members = np.flatnonzero(inputs.source_groups == group)
        distances = np.linalg.norm(features[members] - np.median(features[members], axis=0), axis=1)
        order = members[np.argsort(distances)]
        quarter = len(members) // 4
        assert not kept & set(order[: quarter - 1].tolist())
        assert not kept & set(order[-(quarter - 1) :].tolist())
        assert abs(len(kept & set(members.tolist())) - len(members) / 2) <= 1


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_heads_early_in_training_equal_a_plain_loop(offset: float) -> None:
    inputs = source(offset=offset)
    rows, labels = np.asarray(inputs.source_features).astype(np.float64), inputs.source_groups
    made = trained_head(inputs.source_features, labels, 5, Scaling.of(inputs.source_features), np.random.default_rng(8))
    scaled = (rows - rows.mean(axis=0)) / rows.std(axis=0) / np.sqrt(12)
    head, bias, stream = torch.zeros(12, 5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64), np.random.default_rng(8)
    head.requires_grad_(True), bias.requires_grad_(True)
    for _ in range(EPOCHS):
        order = stream.permutation(400)
        for start in range(0, 400, BATCH):
            chosen = order[start : start + BATCH]
            logits = torch.from_numpy(scaled[chosen]) @ head + bias
            loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels[chosen]))
            down = torch.autograd.grad(loss, (head, bias))
            with torch.no_grad():
                head -= RATE * down[0]
                bias -= RATE * down[1]
    np.testing.assert_allclose(made[:-1], head.detach().numpy(), atol=2e-4)
    np.testing.assert_allclose(made[-1], bias.detach().numpy(), atol=2e-4)


def test_el2n_and_grand_are_what_their_definitions_say() -> None:
    inputs = source(n=120)
    scaling, stream = Scaling.of(inputs.source_features), np.random.default_rng(0)
    labels = inputs.source_groups
    heads = [trained_head(inputs.source_features, labels, 5, scaling, stream) for _ in range(RUNS)]
    error, gradient = np.zeros(120), np.zeros(120)
    for image in range(120):
        x = torch.from_numpy(scaling(np.asarray(inputs.source_features)[image : image + 1])[:, :-1])
        for head in heads:
            layer = torch.nn.Linear(12, 5)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(head[:-1].T))
                layer.bias.copy_(torch.from_numpy(head[-1]))
            logits = layer(x)
            one_hot = torch.nn.functional.one_hot(torch.tensor([labels[image]]), 5)
            error[image] += float((logits.detach().softmax(dim=1) - one_hot).norm()) / RUNS
            torch.nn.functional.cross_entropy(logits, torch.tensor([labels[image]])).backward()
            gradient[image] += float(torch.cat([layer.weight.grad.flatten(), layer.bias.grad]).norm()) / RUNS
    np.testing.assert_allclose(PRUNERS["el2n"](replace(inputs, generator=np.random.default_rng(0))).scores, error, rtol=1e-4)
    made = PRUNERS["grand"](replace(inputs, generator=np.random.default_rng(0)))
    np.testing.assert_allclose(made.scores, gradient, rtol=1e-4)
    for method, of_images in (("el2n_classes", error), ("grand_classes", gradient)):
        scores = PRUNERS[method](replace(inputs, generator=np.random.default_rng(0))).scores
        np.testing.assert_allclose(scores, [of_images[labels == group].mean() for group in range(5)], rtol=1e-4)


def test_wrong_labels_have_the_largest_el2n() -> None:
    stream = np.random.default_rng(5)
    truth = stream.integers(0, 4, 500)
    features = 4 * np.eye(4, 10)[truth] + stream.normal(size=(500, 10))
    wrong = stream.choice(500, 25, replace=False)
    labels = truth.copy()
    labels[wrong] = (labels[wrong] + 1) % 4
    inputs = replace(source(500, 10, 4), source_features=features.astype(np.float32), source_groups=labels.astype(np.int64))
    found = set(keep(PRUNERS["el2n"](inputs), 0.05).tolist())
    assert len(found & set(wrong.tolist())) >= 23


@settings(deadline=None)
@given(POINTS)
def test_largest_cosines_equal_the_loop(shape: tuple[int, int, bool, int]) -> None:
    rows = points(shape) - 50.3
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines, nearest, to_centroid = largest_cosines(units)
    centroid = units.mean(axis=0) / (np.linalg.norm(units.mean(axis=0)) or 1)
    np.testing.assert_allclose(to_centroid, units @ centroid, atol=1e-8)
    for image in range(len(units)):
        earlier = [
            other for other in range(len(units)) if (to_centroid[other], other) < (to_centroid[image], image)
        ]  # fmt: skip
        if not earlier:
            assert (cosines[image], nearest[image]) == (-1, image)
        else:
            assert cosines[image] == pytest.approx(max(float(units[image] @ units[other]) for other in earlier), abs=1e-8)
            assert int(nearest[image]) in earlier
            assert float(units[image] @ units[nearest[image]]) == pytest.approx(cosines[image], abs=1e-8)


def test_blocks_of_cosines_give_what_one_block_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    units = np.random.default_rng(0).normal(size=(50, 6))
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    whole = largest_cosines(units)
    monkeypatch.setattr("stages.prune.near_duplicates._PAIRS", 150)
    for one, other in zip(whole, largest_cosines(units), strict=True):
        np.testing.assert_array_equal(one, other)


def test_planted_copies_go_first_and_say_of_which_image() -> None:
    stream = np.random.default_rng(6)
    features = stream.normal(size=(200, 30)).astype(np.float32)
    features[100:140] = 3 * features[:40] + 1e-4 * stream.normal(size=(40, 30))  # the length does not matter
    inputs = replace(source(200, 30), source_features=features)
    made = PRUNERS["near_duplicates_in_clusters"](replace(inputs, n_clusters=4))
    dropped = set(range(200)) - set(keep(made, 0.8).tolist())
    assert len(dropped) == 40
    pairs = {min(image, image + 100 if image < 40 else image - 100) for image in dropped}
    assert pairs == set(range(40))  # one image of each pair
    for image in dropped:
        other = image + 100 if image < 40 else image - 100
        assert made.reasons is not None
        assert made.reasons[image] == f"cosine 1.0000 to {other:04d}"


@pytest.mark.parametrize("method", IN_DOMAIN)
def test_classes_are_scored_by_their_means_and_empty_ones_come_last(method: str) -> None:
    inputs = source()
    with_empty = replace(inputs, group_names=[*inputs.group_names, "empty"])
    made = PRUNERS[f"{method}_classes"](with_empty)
    assert made.level == "class"
    assert int(keep(made, 1.0)[-1]) == 5
    if method in ("herding", "k_center"):
        means = np.stack([np.asarray(inputs.source_features)[inputs.source_groups == group].mean(axis=0) for group in range(5)])
        order = {"herding": herding_order, "k_center": k_center_order}[method](means.astype(np.float64))
        assert keep(made, 1.0)[:5].tolist() == order.tolist()


@pytest.mark.parametrize("method", ["herding", "k_center"])
def test_classes_of_any_size_shrink_alike(method: str) -> None:
    inputs = source()
    kept = keep(PRUNERS[method](inputs), 0.3)
    share = np.bincount(inputs.source_groups[kept], minlength=5) / np.bincount(inputs.source_groups, minlength=5)
    sizes = np.bincount(inputs.source_groups, minlength=5)
    assert (np.abs(share - 0.3) <= 1 / sizes).all()


@pytest.mark.parametrize("method", [*IN_DOMAIN, "near_duplicates_in_clusters"])
@pytest.mark.parametrize("case", ["one a class", "constant", "more dimensions than images", "far from the origin"])
def test_degenerate_sources_still_have_an_order(method: str, case: str) -> None:
    inputs = source(30, 6, 5)
    if case == "one a class":
        inputs = replace(source(30, 6, 30), source_groups=np.arange(30), group_names=[str(n) for n in range(30)])
    elif case == "constant":
        inputs = replace(inputs, source_features=np.zeros((30, 6), dtype=np.float32))
    elif case == "more dimensions than images":
        inputs = source(30, 200, 5)
    else:
        inputs = source(30, 6, 5, offset=1e6)
    scores = PRUNERS[method](inputs)
    assert sorted(keep(scores, 1.0).tolist()) == list(range(30))


@pytest.mark.parametrize("method", [*IN_DOMAIN, *(f"{method}_classes" for method in IN_DOMAIN), "near_duplicates_in_clusters"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(method: str, bad: float) -> None:
    inputs = source(40)
    broken = np.array(inputs.source_features)
    broken[7, 3] = bad
    with pytest.raises(InputProblem, match="not finite"):
        PRUNERS[method](replace(inputs, source_features=broken))


@pytest.mark.parametrize("method", NEED_LABELS)
def test_methods_that_need_labels_name_one_that_does_not(method: str) -> None:
    with pytest.raises(InputProblem, match="feature_mapping_clusters"):
        PRUNERS[method](replace(source(), source_groups=None, group_names=[]))


@pytest.mark.parametrize("method", sorted(set(PRUNERS) - set(NEED_LABELS)))
def test_the_others_do_without_labels(method: str) -> None:
    labelled = PRUNERS[method](source())
    without = PRUNERS[method](replace(source(), source_groups=None, group_names=[]))
    np.testing.assert_array_equal(labelled.scores, without.scores)
