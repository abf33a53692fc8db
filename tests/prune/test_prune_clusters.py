"""k-means clusters: the same for a seed whatever the threads, without gaps, and near a good optimum."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
import threadpoolctl
from sklearn.cluster import KMeans

from stages.prune.by_cluster import SAMPLE, kmeans_clusters


def cloud(n: int = 4000, d: int = 24) -> np.ndarray:
    """Points around 40 centres that overlap."""
    stream = np.random.default_rng(3)
    return (stream.normal(size=(40, d))[stream.integers(0, 40, n)] + 0.7 * stream.normal(size=(n, d))).astype(np.float32)


def test_same_clusters_for_a_seed_over_thread_counts() -> None:
    rows = cloud()
    made = []
    for threads in (1, 2):
        faiss.omp_set_num_threads(threads)
        with threadpoolctl.threadpool_limits(threads):
            made.append(kmeans_clusters(rows, 50, seed=5))
    np.testing.assert_array_equal(*made)
    assert (kmeans_clusters(rows, 50, seed=6) != made[0]).any()


def test_inertia_is_that_of_another_implementation() -> None:
    rows = cloud()

    def inertia(clusters: np.ndarray) -> float:
        return sum(float(np.square(rows[clusters == c] - rows[clusters == c].mean(axis=0)).sum()) for c in np.unique(clusters))

    theirs = KMeans(40, n_init=1, init="random", random_state=0).fit(rows).labels_
    assert inertia(kmeans_clusters(rows, 40, seed=0)) < 1.05 * inertia(theirs)


@pytest.mark.parametrize(("rows", "asked", "made"), [(3, 10, 3), (6, 1, 1)])
def test_no_more_clusters_than_rows(rows: int, asked: int, made: int) -> None:
    assert np.unique(kmeans_clusters(cloud()[:rows], asked, seed=0)).tolist() == list(range(made))


def test_equal_rows_leave_no_gap_in_the_numbers() -> None:
    rows = np.repeat(np.eye(3, 8, dtype=np.float32), 20, axis=0)
    clusters = kmeans_clusters(rows, 9, seed=0)
    assert np.unique(clusters).tolist() == list(range(clusters.max() + 1))
    assert all(len(set(clusters[start : start + 20])) == 1 for start in (0, 20, 40))


def test_rows_beyond_the_sample_are_assigned_too() -> None:
    noise = 0.1 * np.random.default_rng(0).normal(size=(SAMPLE * 6, 4))
    rows = (np.repeat([[0.0], [1.0]], SAMPLE * 3, axis=0) + noise).astype(np.float32)
    clusters = kmeans_clusters(rows, 2, seed=0)
    assert len(set(clusters[: SAMPLE * 3])) == len(set(clusters[SAMPLE * 3 :])) == 1
    assert clusters[0] != clusters[-1]


def test_clusters_do_not_change_far_from_the_origin() -> None:
    rows = cloud().astype(np.float64)
    near = kmeans_clusters(rows.astype(np.float32), 40, seed=1)
    far = kmeans_clusters((rows + 1000).astype(np.float32), 40, seed=1)  # float32 keeps four digits of the rows
    assert (near == far).mean() > 0.97
