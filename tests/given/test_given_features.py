"""Features computed elsewhere: files in any order become features in the dataset's; mistakes are named by file and row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from stages import ingest, params
from stages.artifacts.dataset import Dataset
from stages.artifacts.features import FeatureSet
from stages.check import check
from stages.errors import InputProblem
from stages.given.__main__ import main
from stages.given.files import BLOCK

N, D = 60, 5
REVIEWS = {"packaged": {}, "files": {"reviews": {"kind": "table", "path": "data/raw/reviews.csv"}}}
Write = Callable[..., params.Params]


def ids(total: int = N) -> list[str]:
    return [f"text {number:03d}" for number in range(total)]


def labels(total: int = N) -> list[str]:
    return ["good" if number % 3 else "bad" for number in range(total)]


def matrix(total: int = N) -> NDArray[np.float32]:
    return np.random.default_rng(3).normal(size=(total, D)).astype(np.float32)


@pytest.fixture
def write(project: Path, write_params: Callable[..., Path]) -> Write:
    """Write a table of labels and params with features at data/raw/f, ingest the table, and return the params."""

    def write(entry: dict[str, Any] | None = None, **sections: Any) -> params.Params:
        pl.DataFrame({"id": ids(), "label": labels(), "text": "never read"}).write_csv(project / "data" / "raw" / "reviews.csv")
        given = {"mine": {"path": "data/raw/f", **(entry or {})}}
        write_params(**{"datasets": REVIEWS, "targets": ["reviews"], "encoders": {}, "features": given, **sections})
        loaded = params.load()
        ingest.main(loaded, "reviews")
        return loaded

    return write


@pytest.fixture
def folder(project: Path) -> Path:
    folder = project / "data" / "raw" / "f"
    folder.mkdir(parents=True)
    return folder


def expected(rows: pl.DataFrame, total: int = N) -> NDArray[np.float32]:
    """Return what a dataset's rows should have, from the ids alone."""
    return matrix(total)[[int(identity.removeprefix("text ")) for identity in rows["id"]]]


def table(order: list[int], kind: str = "array", **columns: Any) -> pl.DataFrame:
    chosen = matrix()[order]
    embedding = {
        "array": pl.Series(chosen, dtype=pl.Array(pl.Float32, D)),
        "list": pl.Series(chosen.tolist(), dtype=pl.List(pl.Float64)),
    }[kind]
    return pl.DataFrame({"id": [ids()[row] for row in order], "embedding": embedding, **columns})


SHUFFLED = np.random.default_rng(1).permutation(N).tolist()


@pytest.mark.parametrize("kind", ["array", "list"])
def test_a_table_in_any_order(write: Write, folder: Path, kind: str) -> None:
    table(SHUFFLED, kind, label=[labels()[row] for row in SHUFFLED]).write_parquet(folder / "reviews.parquet")
    main(write(), "mine")
    found, dataset = FeatureSet.open("mine", "reviews", verify=True), Dataset.open("reviews")
    assert found.index.equals(dataset.rows.select("id", "split", "class_index"))
    assert found.layers == ["pooled"]
    assert found.source_classes is None
    assert found.layer("pooled").dtype == np.float32
    np.testing.assert_array_equal(found.layer("pooled"), expected(dataset.rows))
    assert sorted(set(dataset.rows["split"])) == ["test", "train", "val"]
    assert not dataset.has_images


def test_arrays_in_a_folder_with_ids_beside_it_in_float16(write: Write, folder: Path) -> None:
    (folder / "reviews").mkdir()
    np.save(folder / "reviews" / "last.npy", matrix()[SHUFFLED])
    np.save(folder / "reviews" / "middle.npy", matrix()[SHUFFLED, :2].astype(np.float64))
    (folder / "reviews.ids.txt").write_text("\n".join(ids()[row] for row in SHUFFLED) + "\n", encoding="utf-8")
    main(write({"columns": {"pooled": "last", "early": "middle"}}, extract={"dtype": "float16"}), "mine")
    found = FeatureSet.open("mine", "reviews", verify=True)
    wanted = expected(Dataset.open("reviews").rows).astype(np.float16)
    assert sorted(found.layers) == ["early", "pooled"]
    np.testing.assert_array_equal(found.layer("pooled"), wanted)
    np.testing.assert_array_equal(found.layer("early"), wanted[:, :2])


def test_rows_that_have_numbers_for_ids(write: Write, folder: Path) -> None:
    np.save(folder / "reviews.npy", matrix())
    files = {"reviews": {**REVIEWS["files"]["reviews"], "id_column": None}}
    main(write(datasets={"packaged": {}, "files": files}), "mine")
    rows = Dataset.open("reviews").rows
    assert rows["id"][0] == "00000000"
    wanted = matrix()[rows["id"].cast(pl.Int64).to_numpy()]
    np.testing.assert_array_equal(FeatureSet.open("mine", "reviews").layer("pooled"), wanted)


def test_more_rows_than_a_block_and_rows_of_other_ids(project: Path, write: Write, folder: Path) -> None:
    total = 2 * BLOCK + 17
    loaded = write()
    order = np.random.default_rng(2).permutation(total)
    pl.DataFrame({"id": ids(BLOCK + 900), "label": labels(BLOCK + 900)}).write_csv(project / "data" / "raw" / "reviews.csv")
    ingest.main(loaded, "reviews")
    embedding = pl.Series(matrix(total)[order], dtype=pl.Array(pl.Float32, D))
    found = pl.DataFrame({"id": [ids(total)[row] for row in order], "vector": embedding})
    found.write_parquet(folder / "reviews.parquet", row_group_size=1000)
    main(loaded, "mine")
    got = FeatureSet.open("mine", "reviews").layer("pooled")
    np.testing.assert_array_equal(got, expected(Dataset.open("reviews").rows, total))


def spoilt(column: str, row: int, value: Any) -> pl.DataFrame:
    whole = table(list(range(N)), "list")
    values = whole[column].to_list()
    values[row] = value
    return whole.with_columns(pl.Series(column, values, dtype=whole.schema[column]))


def test_mistakes_are_named_by_file_and_row(write: Write, folder: Path) -> None:
    path, loaded = folder / "reviews.parquet", write()
    nan, short = [0.0, float("nan"), 0, 0, 0], [1.0] * 4
    whole = table(list(range(N)))
    wrong = [*labels()[:7], "excellent", *labels()[8:]]
    for content, said in (
        (
            spoilt("embedding", 41, nan),
            "'embedding': holds a number that is not finite in float32 in row 41, of 'text 041'",
        ),
        (spoilt("embedding", 8, short), "column 'embedding': holds 4 numbers in row 8, and 5 in row 0"),
        (spoilt("embedding", 9, None), "column 'embedding': holds no features in row 9"),
        (spoilt("embedding", 9, [1.0, None, 1, 1, 1]), "holds a missing number in row 9"),
        (spoilt("id", 30, "text 004"), "2 rows share their id with another; 'text 004' is in rows 4 and 30"),
        (spoilt("id", 30, None), "1 rows have no id, the first is row 30"),
        (whole.head(50), "has no features for 10 of 60 rows of dataset 'reviews', the first is 'text 050'"),
        (whole.with_columns(label=pl.Series(wrong)), "the first is row 7: 'text 007' is 'excellent' here and 'good' there"),
        (whole.with_columns(other=pl.col("embedding")), "has several columns of features: embedding, other"),
        (whole.select("id"), "has no column of lists of numbers"),
        (whole.rename({"id": "key"}), "has no column 'id' for `id_column`; nearest valid: "),
    ):
        content.write_parquet(path)
        with pytest.raises(InputProblem) as caught:
            main(loaded, "mine")
        assert said in str(caught.value)
        assert str(caught.value).startswith(str(path.relative_to(Path.cwd())))
        assert not Path("data/features").exists()


def test_arrays_of_a_wrong_kind_are_named(write: Write, folder: Path) -> None:
    path, loaded = folder / "reviews.npy", write()
    infinite = matrix()
    infinite[12, 1] = 1e30
    for content, said in (
        (matrix()[0], "has shape (5,)"),
        (matrix().astype(str), "floats or integers are needed"),
        (matrix(), "has no features for 60 of 60 rows of dataset 'reviews'"),  # its rows have numbers, the dataset's have ids
    ):
        np.save(path, content)
        with pytest.raises(InputProblem, match=r"reviews\.npy") as caught:
            main(loaded, "mine")
        assert said in str(caught.value)
    assert "reviews.ids.txt" not in caught.value.what
    assert "<dataset>.ids.txt" in (caught.value.next_step or "")
    (folder / "reviews.ids.txt").write_text("\n".join(ids()[:59]), encoding="utf-8")
    with pytest.raises(InputProblem, match=r"has 60 rows for 59 ids"):
        main(loaded, "mine")
    (folder / "reviews.ids.txt").write_text("\n".join(ids()), encoding="utf-8")
    np.save(path, infinite)
    with pytest.raises(InputProblem, match=r"not finite in float16 in row 12, of 'text 012'"):
        main(write(extract={"dtype": "float16"}), "mine")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputProblem, match=r"reviews\.npy: cannot be read as \.npy"):
        main(loaded, "mine")


TINY = {"arch": "test_byobnet", "arch_args": {"in_chans": 1}, "weights": "random", "input_size": 32}


def test_check_refuses_what_needs_images(write: Write, folder: Path) -> None:
    table(list(range(N))).write_parquet(folder / "reviews.parquet")
    check(write())
    pair = {"source": "reviews", "target": "reviews", "surrogate": "mine"}
    both = {"packaged": {"digits": {"kind": "sklearn", "name": "digits"}}, "files": REVIEWS["files"]}
    for sections, said in (
        ({"encoders": {"tiny": TINY}}, "targets: dataset 'reviews' holds ids and labels, no images, and encoder 'tiny'"),
        (
            {"encoders": {"tiny": {**TINY, "weights": {"pretrain": "reviews"}}}},
            "encoders.tiny.weights.pretrain: dataset 'reviews' holds ids and labels, no images",
        ),
        ({"prune": {"pairs": [pair]}}, "prune.pairs.0.surrogate: mine: label_mapping"),
        ({"datasets": both, "targets": ["reviews", "digits"]}, "data/raw/f: holds none of digits.parquet, digits.npy, digits/"),
        ({"features": {"mine": {"path": "data/raw/g"}}}, "features.mine.path: data/raw/g does not exist"),
    ):
        with pytest.raises(InputProblem) as caught:
            check(write(**sections))
        assert said in str(caught.value)
    for sections, said in (
        ({"features": {}}, "encoders: is empty, and so is features"),
        ({"encoders": {"mine": TINY}}, "features.mine: is an encoder's name already"),
        ({"probe": {"layer": "middle"}}, "probe.layer: encoder 'mine' keeps no 'middle'"),
        ({"features": {"mine": {"path": "data/raw/f", "columns": {"a/b": "x"}}}}, "'a/b' is no name of a layer"),
    ):
        with pytest.raises(InputProblem) as caught:
            write(**sections)
        assert said in str(caught.value)


def test_a_table_of_labels_names_its_own_mistakes(project: Path, write: Write) -> None:
    loaded, path = write(), project / "data" / "raw" / "reviews.csv"
    for content, said in (
        ("id,label\na,x\nb,y\na,x\n", "'a' is in rows 0 and 2"),
        ("id,label,split\na,x,train\nb,y,tset\n", "column 'split' says 'tset' in row 1"),
        ("key,label\na,x\n", "has no column 'id' for `id_column`; nearest valid"),
    ):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(InputProblem, match=r"reviews\.csv") as caught:
            ingest.main(loaded, "reviews")
        assert said in str(caught.value)
    path.write_text("id,label,split\n" + "".join(f"t{i},{'xy'[i % 2]},{'train' if i < 30 else 'dev'}\n" for i in range(40)))
    with pytest.raises(
        InputProblem, match="has no test"
    ):  # what there is of splits is kept, and a test split is cut from train
        ingest.main(loaded.model_copy(update={"ingest": params.Ingest(test_fraction=1e-9)}), "reviews")
    path.write_text("id,label\n" + "".join(f"t{i},{'xy'[i % 2] if i else ''}\n" for i in range(40)))
    ingest.main(loaded, "reviews")
    dataset = Dataset.open("reviews", verify=True)
    assert dataset.quarantine.rows() == [("t0", "no label: the source gives none")]
    assert len(dataset.rows) == 39
    with pytest.raises(InputProblem, match="holds ids and labels, no images"):
        next(iter(dataset.images()))
