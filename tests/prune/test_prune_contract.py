"""The contract of pruners: what they are given, what they answer, what is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.errors import InputProblem
from stages.prune import NEED_HEAD, PRUNERS, GroupScores, PruneInputs, Rows, keep, ranked


def inputs(seed: int = 0, n_groups: int = 12) -> PruneInputs:
    """A source of 12 classes with unequal sizes and a target of 40 images, in 8 dimensions."""
    stream = np.random.default_rng(seed)
    groups = np.sort(stream.integers(0, n_groups, 150))
    probabilities = stream.dirichlet(np.full(n_groups, 0.2), 40).astype(np.float32)
    return PruneInputs(
        target_probabilities=probabilities,
        target_features=stream.normal(size=(40, 8)).astype(np.float32),
        source_features=stream.normal(size=(150, 8)).astype(np.float32),
        source_groups=groups,
        group_names=[f"class {number}" for number in range(n_groups)],
        source_ids=[f"{number:03d}" for number in range(150)],
        n_clusters=6,
        generator=np.random.default_rng(seed),
    )


@pytest.mark.parametrize("method", sorted(PRUNERS))
def test_every_pruner_keeps_the_contract(method: str) -> None:
    given_inputs = inputs()
    before = given_inputs.target_features.copy(), np.array(given_inputs.source_features), given_inputs.source_groups.copy()
    made = PRUNERS[method](given_inputs)
    assert isinstance(made, GroupScores)
    for array, copy in zip(
        (given_inputs.target_features, given_inputs.source_features, given_inputs.source_groups), before, strict=True
    ):
        np.testing.assert_array_equal(array, copy)  # inputs are not written to
    if made.level == "cluster":
        assert made.membership.shape == (150,)
    else:
        assert len(made.scores) == (12 if made.level == "class" else 150)
    assert made.meaning != "score"
    again = PRUNERS[method](inputs())
    np.testing.assert_array_equal(made.scores, again.scores)
    np.testing.assert_array_equal(made.soft_mass, again.soft_mass)
    assert sorted(ranked(made).tolist()) == list(range(len(made.scores)))


@pytest.mark.parametrize("method", sorted(PRUNERS))
def test_those_that_need_a_head_are_those_that_say_so(method: str) -> None:
    headless = replace(inputs(), target_probabilities=None)
    if method in NEED_HEAD:
        with pytest.raises(InputProblem, match="head"):
            PRUNERS[method](headless)
    else:
        np.testing.assert_array_equal(PRUNERS[method](headless).scores, PRUNERS[method](inputs()).scores)


@pytest.mark.parametrize("method", sorted(PRUNERS))
def test_only_pruners_that_say_so_change_with_the_repetition(method: str) -> None:
    first = PRUNERS[method](inputs())
    orders = {
        tuple(ranked(PRUNERS[method](replace(inputs(), generator=np.random.default_rng(seed)))).tolist()) for seed in range(4)
    }
    assert (len(orders) > 1) == first.drawn


@pytest.mark.parametrize("method", sorted(PRUNERS))
def test_a_source_on_disk_gives_what_a_source_in_memory_gives(method: str) -> None:
    loaded = inputs()
    padded = np.full((300, 8), np.nan, dtype=np.float32)  # the rows between are another split's
    padded[::2] = np.asarray(loaded.source_features)
    on_disk = replace(inputs(), source_features=Rows(padded, np.arange(0, 300, 2)))
    np.testing.assert_array_equal(PRUNERS[method](loaded).scores, PRUNERS[method](on_disk).scores)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40),
    st.floats(0, 1, exclude_min=True),
    st.floats(0, 1, exclude_min=True),
)
def test_a_smaller_fraction_keeps_a_part_of_what_a_larger_keeps(votes: list[tuple[int, int]], one: float, other: float) -> None:
    scores = GroupScores(*np.array(votes, dtype=np.float64).T)
    small, large = keep(scores, min(one, other)), keep(scores, max(one, other))
    assert 1 <= len(small) <= len(large) <= len(votes)
    np.testing.assert_array_equal(large[: len(small)], small)
    worst_kept = min(votes[group] for group in large)
    assert all(votes[group] <= worst_kept for group in set(range(len(votes))) - set(large.tolist()))


def test_ties_go_to_the_larger_soft_mass_and_then_to_the_lower_id() -> None:
    scores = GroupScores(np.array([1.0, 2, 1, 1, 0]), np.array([0.1, 0, 0.3, 0.1, 9]))
    assert ranked(scores).tolist() == [1, 2, 0, 3, 4]


@pytest.mark.parametrize(
    ("n_groups", "fraction", "kept"), [(118, 0.2, 24), (5, 0.5, 3), (5, 0.01, 1), (1, 0.5, 1), (7, 1.0, 7)]
)
def test_how_many_groups_a_fraction_keeps(n_groups: int, fraction: float, kept: int) -> None:
    assert len(keep(GroupScores(np.zeros(n_groups), np.zeros(n_groups)), fraction)) == kept


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, float("nan")])
def test_a_fraction_outside_its_range_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction"):
        keep(GroupScores(np.zeros(3), np.zeros(3)), fraction)


@pytest.mark.parametrize(
    "wrong",
    [
        {"scores": np.array([1.0, np.nan])},
        {"scores": np.zeros(3)},
        {"scores": np.zeros(0), "soft_mass": np.zeros(0)},
        {"level": "cluster"},
        {"membership": np.array([0, 1])},
        {"level": "cluster", "membership": np.array([0, 2])},
        {"level": "cluster", "membership": np.array([0, -1])},
        {"reasons": ["one"]},
    ],
)
def test_scores_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"scores|reasons|membership"):
        GroupScores(**{"scores": np.zeros(2), "soft_mass": np.zeros(2), **wrong})  # type: ignore[arg-type]
