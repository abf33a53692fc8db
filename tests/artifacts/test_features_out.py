"""Features as torch, polars and faiss see them: the same numbers, and the same memory where that is possible."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import polars as pl
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from stages.artifacts import features, manifest
from stages.artifacts.features import FeatureSet, features_path
from stages.errors import InputProblem

N, D = 300, 7


@pytest.fixture(params=["float32", "float16"])
def found(request: pytest.FixtureRequest, project: Path) -> FeatureSet:
    folder = features_path("mine", "letters")
    folder.mkdir(parents=True)
    values = np.random.default_rng(0).normal(size=(N, D)).astype(request.param)
    np.save(folder / "pooled.npy", values)
    np.save(folder / "early.npy", values[:, :2])
    index = {
        "id": [f"{i:03d}" for i in range(N)],
        "split": ["train", "test", "test"] * (N // 3),
        "class_index": [0, 1] * (N // 2),
    }
    pl.DataFrame(index, schema=features.INDEX_SCHEMA).write_parquet(folder / "index.parquet")
    layers = {"pooled": "pooled.npy", "early": "early.npy"}
    manifest.write(folder, kind="features", version=1, inputs={}, layers=layers, source_classes=None, dtype=request.param)
    return FeatureSet.open("mine", "letters")


def in_map(address: int) -> bool:
    """Say whether an address lies in a map of the file; true where the system tells no maps."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else None
    spans = [line.split()[0].split("-") for line in lines or [] if line.endswith("mine/letters/pooled.npy")]
    return lines is None or any(int(low, 16) <= address < int(high, 16) for low, high in spans)


def test_torch_maps_the_file_and_never_writes_it(found: FeatureSet) -> None:
    tensor, before = found.to_torch("pooled"), (found.path / "pooled.npy").read_bytes()
    np.testing.assert_array_equal(tensor.numpy(), found.layer("pooled"))
    assert tensor.dtype == {"float32": torch.float32, "float16": torch.float16}[found.facts["dtype"]]
    tensor += 1
    np.testing.assert_array_equal(tensor.numpy(), np.array(found.layer("pooled")) + 1)
    assert (found.path / "pooled.npy").read_bytes() == before
    maps = Path("/proc/self/maps")
    if maps.exists():  # its address lies in a map of the file
        spans = [
            line.split()[0].split("-") for line in maps.read_text().splitlines() if line.endswith("mine/letters/pooled.npy")
        ]
        assert any(int(low, 16) <= tensor.data_ptr() < int(high, 16) for low, high in spans)


def test_polars_has_the_ids_beside_arrays_that_are_the_map(found: FeatureSet) -> None:
    frame = found.to_polars()
    assert set(frame.columns) == {"id", "split", "class_index", "pooled", "early"}
    assert frame["pooled"].dtype.is_nested()
    np.testing.assert_array_equal(frame["pooled"].to_numpy(), found.layer("pooled"))
    tests = found.to_polars("early").filter(pl.col("split") == "test")
    np.testing.assert_array_equal(tests["early"].to_numpy(), found.features("early", "test").astype(found.facts["dtype"]))
    maps = Path("/proc/self/maps")
    if maps.exists() and found.facts["dtype"] == "float32":
        address = frame["pooled"].to_arrow().values.buffers()[1].address
        spans = [
            line.split()[0].split("-") for line in maps.read_text().splitlines() if line.endswith("mine/letters/pooled.npy")
        ]
        assert any(int(low, 16) <= address < int(high, 16) for low, high in spans)


@pytest.mark.parametrize("cosine", [True, False])
def test_faiss_finds_what_scikit_learn_finds(found: FeatureSet, cosine: bool) -> None:
    index = found.to_faiss("pooled", "train", cosine=cosine)
    assert index.ntotal == N // 3
    queries, rows = found.features("pooled", "test")[:20].copy(), found.features("pooled", "train")
    expected = NearestNeighbors(n_neighbors=4, metric="cosine" if cosine else "sqeuclidean", algorithm="brute").fit(rows)
    far, near = expected.kneighbors(queries)
    if cosine:
        faiss.normalize_L2(queries)
    distances, numbers = index.search(queries, 4)
    np.testing.assert_array_equal(numbers, near)
    np.testing.assert_allclose(1 - distances if cosine else distances, far, atol=1e-5)
    assert found.to_faiss("pooled").ntotal == N


def test_an_unknown_layer_is_named(found: FeatureSet) -> None:
    for read in (found.to_torch, found.to_polars, found.to_faiss):
        with pytest.raises(InputProblem, match="keeps no layer 'poold'; nearest valid: pooled"):
            read("poold")
