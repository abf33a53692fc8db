"""Label and feature mapping against their definitions, written out naively, and against planted relevance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stages.errors import InputProblem
from stages.prune import PRUNERS, PruneInputs, feature_mapping, keep, label_mapping
from stages.prune.by_feature import group_means, nearest_mean


def naive_feature_votes(source: NDArray, groups: NDArray, target: NDArray, n_groups: int) -> list[int]:
    """The definition as two loops: distances to group means, one image at a time."""
    means = [source[groups == group].astype(np.float64).mean(axis=0) for group in range(n_groups)]
    votes = [0] * n_groups
    for image in target.astype(np.float64):
        distances = [float(((image - mean) ** 2).sum()) for mean in means]
        votes[distances.index(min(distances))] += 1
    return votes


def planted(spread: float = 0.3) -> PruneInputs:
    """Ten classes around ten distant centres; the target lies around those of classes 3, 5 and 8 alone."""
    stream = np.random.default_rng(1)
    centres = 5 * stream.normal(size=(10, 16))
    groups = np.repeat(np.arange(10), 30)
    source = centres[groups] + spread * stream.normal(size=(300, 16))
    target = centres[np.repeat([3, 5, 8], 20)] + spread * stream.normal(size=(60, 16))
    closeness = -((target[:, None] - centres) ** 2).sum(axis=2) / 50
    probabilities = np.exp(closeness - closeness.max(axis=1, keepdims=True))
    return PruneInputs(
        target_probabilities=(probabilities / probabilities.sum(axis=1, keepdims=True)).astype(np.float32),
        target_features=target.astype(np.float32),
        source_features=source.astype(np.float32),
        source_groups=groups,
        group_names=list("abcdefghij"),
        source_ids=[str(number) for number in range(300)],
        n_clusters=10,
        generator=np.random.default_rng(0),
    )


@pytest.mark.parametrize("method", ["label_mapping", "feature_mapping"])
def test_relevant_classes_come_first(method: str) -> None:
    scores = PRUNERS[method](planted())
    assert set(keep(scores, 0.3).tolist()) == {3, 5, 8}
    assert scores.scores[[3, 5, 8]].tolist() == [20, 20, 20]


def test_reversed_puts_the_relevant_classes_last() -> None:
    assert set(keep(PRUNERS["reversed"](planted()), 1.0)[-3:].tolist()) == {3, 5, 8}
    assert not set(keep(PRUNERS["reversed"](planted()), 0.7).tolist()) & {3, 5, 8}


def test_clusters_find_the_relevant_images_without_labels() -> None:
    made = planted()
    scores = PRUNERS["feature_mapping_clusters"](replace(made, n_clusters=30, source_groups=np.zeros(300, dtype=np.int64)))
    assert scores.membership is not None
    voted = np.isin(scores.membership, np.flatnonzero(scores.scores))
    assert set(made.source_groups[voted].tolist()) == {3, 5, 8}


def test_random_draws_every_class_equally_often() -> None:
    made = planted()
    first = [int(keep(PRUNERS["random"](replace(made, generator=np.random.default_rng(s))), 0.1)[0]) for s in range(2000)]
    counts = np.bincount(first, minlength=10)
    assert ((counts - 200) ** 2 / 200).sum() < 27.9  # chi-squared with 9 degrees of freedom, p = 0.001


@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_label_votes_sum_to_the_target_images_and_match_a_loop(n_images: int, n_groups: int, seed: int) -> None:
    probabilities = np.random.default_rng(seed).integers(0, 3, (n_images, n_groups)) / 4  # many ties, exact in binary
    made = label_mapping(probabilities, n_groups)
    votes = [0] * n_groups
    for row in probabilities.tolist():
        votes[row.index(max(row))] += 1
    assert made.scores.tolist() == votes
    assert made.scores.sum() == n_images
    np.testing.assert_allclose(made.soft_mass, [sum(column) / n_images for column in probabilities.T.tolist()])


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 40), st.booleans(), st.integers(0, 2**32 - 1))
def test_feature_mapping_equals_the_loop(n_images: int, n_groups: int, d: int, whole: bool, seed: int) -> None:
    stream = np.random.default_rng(seed)
    groups = np.concatenate([np.arange(n_groups), stream.integers(0, n_groups, 50)])
    # Small whole numbers make groups of equal mean and images half way between means: real ties.
    source, target = (
        (stream.integers(-1, 2, (rows, d)) if whole else 3 + stream.normal(size=(rows, d))).astype(np.float32)
        for rows in (len(groups), n_images)
    )
    made = feature_mapping(source, groups, target)
    assert made.scores.tolist() == naive_feature_votes(source, groups, target, n_groups)
    assert made.scores.sum() == n_images


def test_equal_means_vote_for_the_lower_id_far_from_the_origin_too() -> None:
    stream = np.random.default_rng(0)
    means = 1e4 + stream.normal(size=(40, 64))
    doubled = np.concatenate([means, means, means[:7]])
    rows = (means[stream.integers(0, 40, 500)] + 0.1 * stream.normal(size=(500, 64))).astype(np.float32)
    found = nearest_mean(rows, doubled)
    assert found.max() < 40
    brute = ((rows.astype(np.float64)[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(found, brute)


def test_means_are_summed_in_double_precision_over_many_blocks() -> None:
    stream = np.random.default_rng(0)
    rows = (1000 + stream.normal(size=(20_000, 3))).astype(np.float32)  # three blocks
    groups = stream.integers(0, 4, 20_000)
    means, counts = group_means(rows, groups, 6)
    for group in range(4):
        np.testing.assert_allclose(means[group], rows[groups == group].astype(np.float64).mean(axis=0), rtol=1e-13)
    assert counts.tolist() == [*np.bincount(groups).tolist(), 0, 0]
    assert not means[4:].any()


def test_a_class_without_images_gets_no_vote_and_comes_last() -> None:
    source = np.array([[5.0, 5], [6, 6]], dtype=np.float32)
    made = feature_mapping(source, np.array([0, 2]), np.zeros((3, 2), dtype=np.float32))  # the origin is no group's mean
    assert made.scores.tolist() == [3, 0, 0]
    assert keep(made, 1.0).tolist() == [0, 2, 1]


def test_label_mapping_without_a_head_says_what_to_do() -> None:
    with pytest.raises(InputProblem, match="feature_mapping"):
        PRUNERS["label_mapping"](replace(planted(), target_probabilities=None))


@pytest.mark.parametrize("method", ["label_mapping", "feature_mapping", "feature_mapping_clusters"])
def test_features_of_a_broken_surrogate_are_refused(method: str) -> None:
    broken = np.full((60, 16), np.nan, dtype=np.float32)
    made = replace(
        planted(), target_features=broken, target_probabilities=broken[:, :10], source_features=np.full((300, 16), np.inf)
    )
    with pytest.raises(InputProblem, match="not finite"):
        PRUNERS[method](made)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="groups"):
        label_mapping(np.ones((4, 3)), 5)
    with pytest.raises(ValueError, match="do not fit"):
        feature_mapping(np.ones((4, 3)), np.zeros(4, dtype=int), np.ones((2, 5)))
    with pytest.raises(ValueError, match="do not fit"):
        feature_mapping(np.ones((0, 3)), np.zeros(0, dtype=int), np.ones((2, 3)))


@pytest.mark.parametrize("method", ["label_mapping", "feature_mapping", "reversed"])
def test_a_target_that_looks_all_alike_is_warned_of(method: str) -> None:
    made = planted()
    assert PRUNERS[method](made).warning is None
    assert made.target_probabilities is not None
    alike = replace(made, target_probabilities=made.target_probabilities[:20], target_features=made.target_features[:20])
    assert str(PRUNERS[method](alike).warning).startswith("100% of the target's images vote for one group")
