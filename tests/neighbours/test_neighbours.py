"""The nearest images: the rows that scikit-learn finds too, and a page that shows them without a network."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from stages import extract, ingest, params, weights
from stages.artifacts.dataset import Dataset
from stages.artifacts.features import FeatureSet
from stages.given.__main__ import main as take
from stages.neighbours import nearest as searching
from stages.neighbours.__main__ import main

VIT = {
    "arch": "test_vit", "arch_args": {"in_chans": 1, "img_size": 32}, "weights": "random", "input_size": 32,
    "layers": ["pooled", "blocks.3"],
}  # fmt: skip


def test_what_scikit_learn_finds_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "BLOCK", 64)
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(500, 9)).astype(np.float32)
    rows = np.flatnonzero(generator.random(500) < 0.7)
    query = generator.normal(size=9)
    expected = NearestNeighbors(n_neighbors=11, metric="cosine", algorithm="brute").fit(matrix[rows].astype(np.float64))
    far, near = expected.kneighbors(query[None])
    found, distances = searching.nearest(matrix, query, rows, 11)
    np.testing.assert_array_equal(found, rows[near[0]])
    np.testing.assert_allclose(distances, far[0], atol=1e-9)


def test_equals_go_by_row_and_zeros_have_no_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "BLOCK", 2)
    matrix = np.array([[1, 1], [0, 2], [3, 3], [0, 0], [0, 5]], dtype=np.float16)
    found, distances = searching.nearest(matrix, np.array([0.0, 1.0]), np.arange(5), 9)
    assert found.tolist() == [1, 4, 0, 2, 3]
    np.testing.assert_allclose(distances, [0, 0, 1 - 2**-0.5, 1 - 2**-0.5, 1], atol=1e-9)


@pytest.fixture
def digits(project: Path, write_params: Callable[..., Path]) -> Dataset:
    write_params(run={"threads": 1}, encoders={"vit": VIT})
    loaded = params.load()
    ingest.main(loaded, "digits")
    weights.main(loaded, "vit")
    extract.main(loaded, "vit")
    return Dataset.open("digits")


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, list[tuple[str, float]]]:
    """Run the command; return the page, and id and distance of what it shows."""
    assert main(list(arguments)) == 0
    page = Path(capsys.readouterr().out.splitlines()[-1]).read_text(encoding="utf-8")
    assert not re.search(r"https?://|<script|<link", page)
    cards = re.findall(r"<li>.*?</span><span>([\d.]+)</span></b>.*?<small>([^<]*)</small></figcaption>", page)
    return page, [(name, float(distance)) for distance, name in cards]


def test_a_sheet_by_id_by_file_and_for_a_new_file(digits: Dataset, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = FeatureSet.open("vit", "digits")
    name, content = next(digits.images(["test"]))
    row = features.index["id"].to_list().index(name)
    others = np.delete(np.arange(len(features.index)), row)
    expected, _ = searching.nearest(features.layer("blocks.3"), features.layer("blocks.3")[row], others, 6)
    page, by_id = shown(capsys, "vit", "digits", name, "--k", "6", "--layer", "blocks.3")
    assert [found for found, _ in by_id] == features.index["id"][expected.tolist()].to_list()
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 7
    assert Image.open(io.BytesIO(base64.b64decode(pictures[0]))).tobytes() == Image.open(io.BytesIO(content)).tobytes()

    (project / "same").write_bytes(content)  # known by what it holds, whatever its name
    assert shown(capsys, "vit", "digits", "same", "--k", "6", "--layer", "blocks.3")[1] == by_id

    Image.open(io.BytesIO(content)).save(project / "new.bmp")  # other bytes, the same pixels: through the encoder
    page, found = shown(capsys, "vit", "digits", "new.bmp", "--k", "3", "--split", "test")
    assert found[0] == (name, 0.0)
    assert "no label" in page
    splits = dict(features.index.select("id", "split").iter_rows())
    assert {splits[each] for each, _ in found} == {"test"}


def test_what_cannot_be_asked_is_named(digits: Dataset, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "broken.png").write_bytes(b"no image")
    for arguments, said in (
        (["vit", "digits", "17xx"], "there is no image '17xx', and no such file"),
        (["vit", "digits", "broken.png"], "broken.png: cannot be decoded"),
        (["vitt", "digits", "0001"], "there is no encoder 'vitt'; nearest valid: vit"),
        (["vit", "digit", "0001"], "there is no dataset 'digit'; nearest valid: digits"),
        (["vit", "digits", "0001", "--layer", "blocks.4"], "keeps no layer 'blocks.4'; nearest valid: blocks.3"),
    ):
        assert main(arguments) == 2
        assert said in capsys.readouterr().err


def test_features_computed_elsewhere_of_rows_without_images(
    project: Path, write_params: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = pl.Series(np.random.default_rng(0).normal(size=(40, 4)), dtype=pl.Array(pl.Float64, 4))
    table = pl.DataFrame({"id": [f"<{n}>" for n in range(40)], "label": ["a", "b"] * 20, "vector": vectors})
    table.write_parquet(project / "data" / "raw" / "texts.parquet")
    texts = {"kind": "table", "path": "data/raw/texts.parquet"}
    write_params(
        datasets={"packaged": {}, "files": {"texts": texts}}, targets=["texts"], encoders={},
        features={"mine": {"path": "data/raw/texts.parquet"}},
    )  # fmt: skip
    loaded = params.load()
    ingest.main(loaded, "texts")
    take(loaded, "mine")
    page, found = shown(capsys, "mine", "texts", "<3>", "--k", "5")
    assert "<img" not in page
    assert "&lt;3&gt;" in page
    assert len(found) == 5
    (project / "new.png").write_bytes(b"anything")
    assert main(["mine", "texts", "new.png"]) == 2
    assert "were computed elsewhere, so a new image has none" in capsys.readouterr().err
