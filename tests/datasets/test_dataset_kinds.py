"""One contract for every dataset kind, and what each kind makes of its own on-disk format."""

from __future__ import annotations

import io
import json
import os
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import Field

from stages.artifacts import store
from stages.datasets import KINDS, DatasetKind, Raw, Source, from_torchvision, validate_entry
from stages.datasets.contract import split_named
from stages.datasets.decoding import decode_image
from stages.errors import InputProblem
from stages.params import DatasetEntry, Section


def png(value: int, size: tuple[int, int] = (4, 4)) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size, value).save(buffer, format="PNG")
    return buffer.getvalue()


def write_folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def write_hugging_face(path: Path, labels: list[int], names: list[str] | None, start: int = 0) -> None:
    """One table as `datasets.Dataset.to_parquet` writes it: a struct of bytes and path, ClassLabel in the metadata."""
    images = [{"bytes": png(start + index), "path": f"{index}.png"} for index in range(len(labels))]
    table = pa.table({"image": pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])), "label": labels})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=3)


def write_mnist(root: Path, name: str = "MNIST", train: int = 20, test: int = 10) -> None:
    """The IDX files of MNIST (yann.lecun.com/exdb/mnist): big-endian magic, sizes, then bytes."""
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for part, number in (("train", train), ("t10k", test)):
        pixels = (np.arange(number * 784) * 37 % 251).astype(np.uint8).tobytes()
        labels = bytes(index % 10 for index in range(number))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, number, 28, 28) + pixels)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, number) + labels)


@pytest.fixture
def entries(tmp_path: Path) -> dict[str, DatasetEntry]:
    """A small dataset of every kind."""
    write_folder(tmp_path / "folder", {f"{label}/{i}.png": png(i) for label in "ab" for i in range(5)})
    write_hugging_face(tmp_path / "tables" / "train-00000-of-00001.parquet", [0, 1, 0, 1, 1], ["cat", "dog"])
    write_mnist(tmp_path / "tv")
    return {
        "imagefolder": DatasetEntry(kind="imagefolder", path=str(tmp_path / "folder")),
        "parquet": DatasetEntry(kind="parquet", path=str(tmp_path / "tables")),
        "torchvision": DatasetEntry(kind="torchvision", name="MNIST", path=str(tmp_path / "tv")),
        "sklearn": DatasetEntry(kind="sklearn", name="digits"),
        "glyphs": DatasetEntry(kind="glyphs", scripts=["hebrew"], classes=3, images_per_class=4),
    }


def opened(entry: DatasetEntry) -> Source:
    return KINDS[entry.kind].read(validate_entry("mine", entry))


def contents(rows: Iterator[Raw]) -> list[tuple[str, str | None, str | None, bytes]]:
    return [
        (raw.id, raw.label, raw.split, raw.content if isinstance(raw.content, bytes) else raw.content.read_bytes())
        for raw in rows
    ]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].images])
def test_every_kind_keeps_the_contract(kind: str, entries: dict[str, DatasetEntry], tmp_path: Path) -> None:
    source = opened(entries[kind])
    assert iter(source.rows) is iter(source.rows), "a stream, not a list"
    first, again = contents(source.rows), contents(opened(entries[kind]).rows)
    assert first == again
    assert len(first) == source.total
    ids = [row[0] for row in first]
    assert len(set(ids)) == len(ids)
    assert not any(str(tmp_path) in name or name.startswith("/") for name in ids)
    assert all(label is None or isinstance(label, str) for _, label, _, _ in first)
    assert {split for _, _, split, _ in first} <= {"train", "val", "test", None}
    if source.class_names is not None:
        assert {label for _, label, _, _ in first} <= set(source.class_names)
    for *_, data in first[:20]:
        decode_image(data, max_pixels=10_000)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].images])
def test_every_kind_refuses_unknown_options(kind: str, entries: dict[str, DatasetEntry]) -> None:
    options = entries[kind].options
    known = sorted(KINDS[kind].options.model_fields)[0]
    with pytest.raises(InputProblem, match=f"{known}x: there is no such key; nearest valid: {known}") as caught:
        validate_entry("mine", DatasetEntry(kind=kind, **options, **{f"{known}x": 1}))
    assert caught.value.where == "params.yaml: datasets.mine"


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(InputProblem, match=r"kind: there is no 'image_folder'; nearest valid: imagefolder"):
        validate_entry("mine", DatasetEntry(kind="image_folder"))


def test_a_kind_is_added_with_one_line() -> None:
    class Options(Section):
        shades: Annotated[int, Field(ge=2)]

    def read(options: Options) -> Source:
        return Source((Raw(str(i), f"shade {i}", None, png(i)) for i in range(options.shades)), options.shades)

    KINDS.add("shades", DatasetKind(Options, read))
    try:
        rows = contents(opened(DatasetEntry(kind="shades", shades=3)).rows)
        assert [label for _, label, _, _ in rows] == ["shade 0", "shade 1", "shade 2"]
        with pytest.raises(InputProblem, match="shades: Input should be greater"):
            validate_entry("mine", DatasetEntry(kind="shades", shades=1))
    finally:
        KINDS.remove("shades")


def test_split_names() -> None:
    assert [split_named(name) for name in ("train", "Validation", "valid", "val", "TEST", "dev", "other")] == [
        "train", "val", "val", "val", "test", "val", None,
    ]  # fmt: skip


class TestImagefolder:
    def read(self, root: Path) -> Source:
        return opened(DatasetEntry(kind="imagefolder", path=str(root)))

    def test_classes_are_the_top_folders_at_any_depth(self, tmp_path: Path) -> None:
        root = write_folder(tmp_path / "r", {"b/x.png": png(1), "a/deep/er/y.jpg": png(2), "a/notes.txt": b"no"})
        rows = contents(self.read(root).rows)
        assert [(name, label, split) for name, label, split, _ in rows] == [
            ("a/deep/er/y.jpg", "a", None), ("a/notes.txt", "a", None), ("b/x.png", "b", None),
        ]  # fmt: skip

    def test_split_folders_are_splits(self, tmp_path: Path) -> None:
        root = write_folder(
            tmp_path / "r",
            {"train/a/1.png": png(1), "valid/a/2.png": png(2), "test/b/3.png": png(3), "train/loose.png": png(4)},
        )
        rows = {name: (label, split) for name, label, split, _ in contents(self.read(root).rows)}
        assert rows == {
            "test/b/3.png": ("b", "test"), "train/a/1.png": ("a", "train"), "train/loose.png": (None, "train"),
            "valid/a/2.png": ("a", "val"),
        }  # fmt: skip

    def test_a_single_split_name_among_others_is_a_class(self, tmp_path: Path) -> None:
        root = write_folder(tmp_path / "r", {"train/1.png": png(1), "plane/2.png": png(2), "car/3.png": png(3)})
        assert [row[1:3] for row in contents(self.read(root).rows)] == [("car", None), ("plane", None), ("train", None)]

    def test_hidden_files_are_skipped_and_loose_files_have_no_label(self, tmp_path: Path) -> None:
        root = write_folder(
            tmp_path / "r", {".DS_Store": b"", "a/.x.png": b"", ".git/b/y.png": b"", "README": b"", "a/z.png": png(1)}
        )
        assert [row[:3] for row in contents(self.read(root).rows)] == [("README", None, None), ("a/z.png", "a", None)]

    def test_mixed_split_and_other_folders_are_refused(self, tmp_path: Path) -> None:
        root = write_folder(tmp_path / "r", {"train/a/1.png": png(1), "test/a/2.png": png(2), "extra/3.png": png(3)})
        with pytest.raises(InputProblem, match=r"mixes split folders \(test, train\) with others \(extra\)"):
            self.read(root)

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ({}, "does not exist"),
            ({"r/x.png": b""}, "no class folders"),
            ({"r/train/x.png": b""}, "no class folders"),
            ({"r": b""}, "not a folder"),
        ],
    )
    def test_what_is_no_image_folder_is_said(self, tmp_path: Path, files: dict[str, bytes], message: str) -> None:
        write_folder(tmp_path, files)
        with pytest.raises(InputProblem, match=message):
            self.read(tmp_path / "r")

    def test_links_are_followed_and_loops_end(self, tmp_path: Path) -> None:
        elsewhere = write_folder(tmp_path / "elsewhere", {"1.png": png(1)})
        root = write_folder(tmp_path / "r", {"a/2.png": png(2)})
        (root / "b").symlink_to(elsewhere)
        (root / "a" / "again").symlink_to(root)
        (root / "a" / "3.png").symlink_to(elsewhere / "1.png")
        names = [row[0] for row in contents(self.read(root).rows)]
        assert names == ["a/2.png", "a/3.png", "b/1.png"]

    def test_a_name_that_is_no_text_still_has_an_id(self, tmp_path: Path) -> None:
        root = write_folder(tmp_path / "r", {"a/x.png": png(1)})
        with open(os.fsencode(root / "a") + b"/\xff.png", "wb") as handle:
            handle.write(png(2))
        names = [row[0] for row in contents(self.read(root).rows)]
        assert names == ["a/x.png", "a/\\xff.png"]
        pl.DataFrame({"id": names})


class TestParquet:
    def read(self, path: Path, **options: object) -> Source:
        return opened(DatasetEntry(kind="parquet", path=str(path), **options))

    def test_hugging_face_layout(self, tmp_path: Path) -> None:
        names = ["zebra", "ant"]
        write_hugging_face(tmp_path / "data" / "train-00000-of-00002.parquet", [0, 1, 1, 0], names)
        write_hugging_face(tmp_path / "data" / "train-00001-of-00002.parquet", [1], names, start=50)
        write_hugging_face(tmp_path / "data" / "validation-00000-of-00001.parquet", [0], names, start=60)
        write_hugging_face(tmp_path / "data" / "test-00000-of-00001.parquet", [-1, 0], names, start=70)
        source = self.read(tmp_path)
        rows = contents(source.rows)
        assert source.class_names == names
        assert source.total == 8
        assert Counter(row[2] for row in rows) == {"train": 5, "val": 1, "test": 2}
        assert rows[0] == ("data/test-00000-of-00001/00000000", None, "test", png(70))
        assert rows[1][1] == "zebra"
        assert [row[1] for row in rows if row[2] == "train"] == ["zebra", "ant", "ant", "zebra", "ant"]

    def test_plain_binary_text_labels_and_a_split_column(self, tmp_path: Path) -> None:
        frame = pl.DataFrame({"pic": [png(1), png(2), None], "what": ["x", "y", "x"], "part": ["train", "test", "validation"]})
        frame.write_parquet(tmp_path / "one.parquet")
        rows = contents(self.read(tmp_path / "one.parquet", image_column="pic", label_column="what", split_column="part").rows)
        assert rows == [
            ("one/00000000", "x", "train", png(1)), ("one/00000001", "y", "test", png(2)), ("one/00000002", "x", "val", b""),
        ]  # fmt: skip

    def test_splits_from_folders_and_names_given_in_params(self, tmp_path: Path) -> None:
        for split in ("train", "test"):
            write_hugging_face(tmp_path / "default" / split / "0000.parquet", [0, 1], None)
        source = self.read(tmp_path, class_names=["no", "yes"])
        assert [row[1:3] for row in contents(source.rows)] == [
            ("no", "test"),
            ("yes", "test"),
            ("no", "train"),
            ("yes", "train"),
        ]

    def test_integer_labels_without_names_are_numbers(self, tmp_path: Path) -> None:
        write_hugging_face(tmp_path / "all.parquet", [3, 10, -1], None)
        assert [row[1:3] for row in contents(self.read(tmp_path).rows)] == [("3", None), ("10", None), (None, None)]

    def test_rows_are_read_by_group(self, tmp_path: Path) -> None:
        """Only a batch may be in memory: the first row comes although the last row group is damaged."""
        path = tmp_path / "t.parquet"
        pl.DataFrame({"image": [os.urandom(5000) for _ in range(400)], "label": [1] * 400}).write_parquet(
            path, row_group_size=100
        )
        data = bytearray(path.read_bytes())
        middle = len(data) * 9 // 10
        data[middle - 2000 : middle] = b"\0" * 2000
        start = pq.ParquetFile(path).metadata.row_group(3).column(0).data_page_offset
        data[start : start + 60] = b"\xff" * 60
        path.write_bytes(bytes(data))
        rows = self.read(path).rows
        assert next(rows).id == "t/00000000"
        with pytest.raises(InputProblem, match="cannot be read as parquet"):
            list(rows)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"image_column": "imag"}, "no column 'imag' for `image_column`; nearest valid: image"),
            ({"label_column": "lable"}, "no column 'lable' for `label_column`; nearest valid: label"),
            ({"split_column": "image2"}, "no column 'image2' for `split_column`"),
            ({"image_column": "label"}, "column 'label' is int64; encoded bytes"),
            ({"label_column": "image"}, "column 'image' is struct.*; integers or text"),
        ],
    )
    def test_wrong_columns_are_named(self, tmp_path: Path, options: dict[str, str], message: str) -> None:
        write_hugging_face(tmp_path / "t.parquet", [0, 1], None)
        with pytest.raises(InputProblem, match=message):
            self.read(tmp_path, **options)

    def test_absent_empty_and_damaged(self, tmp_path: Path) -> None:
        with pytest.raises(InputProblem, match="does not exist"):
            self.read(tmp_path / "no")
        with pytest.raises(InputProblem, match=r"holds no \*\.parquet"):
            self.read(tmp_path)
        (tmp_path / "t.parquet").write_bytes(b"PAR1 not really PAR1")
        with pytest.raises(InputProblem, match="cannot be read as parquet"):
            self.read(tmp_path)

    def test_a_file_without_a_split_among_files_with_one(self, tmp_path: Path) -> None:
        write_hugging_face(tmp_path / "train-0.parquet", [0], None)
        write_hugging_face(tmp_path / "more.parquet", [0], None)
        with pytest.raises(InputProblem, match=r"its name tells no split, although others do, for instance 'train-0\.parquet'"):
            self.read(tmp_path)

    def test_a_split_that_is_none(self, tmp_path: Path) -> None:
        pl.DataFrame({"image": [png(1)], "label": [0], "s": ["extra"]}).write_parquet(tmp_path / "t.parquet")
        with pytest.raises(InputProblem, match="column 's' says 'extra' in row 0"):
            list(self.read(tmp_path, split_column="s").rows)


class TestTorchvision:
    def read(self, **options: object) -> Source:
        return opened(DatasetEntry(kind="torchvision", **options))

    def test_mnist_from_its_own_files(self, tmp_path: Path) -> None:
        write_mnist(tmp_path)
        source = self.read(name="MNIST", path=str(tmp_path))
        rows = contents(source.rows)
        assert Counter(row[2] for row in rows) == {"train": 20, "test": 10}
        assert source.class_names is not None
        assert source.class_names[3] == rows[3][1] == "3 - three"
        pixels = np.asarray(decode_image(rows[7][3], max_pixels=1000)).ravel()
        assert np.array_equal(pixels, (np.arange(7 * 784, 8 * 784) * 37 % 251).astype(np.uint8))

    def test_a_split_fixed_by_args_is_the_only_one(self, tmp_path: Path) -> None:
        write_mnist(tmp_path)
        rows = contents(self.read(name="MNIST", path=str(tmp_path), args={"train": False}).rows)
        assert {row[2] for row in rows} == {None}
        assert len(rows) == 10

    def test_a_class_with_a_split_argument(self, tmp_path: Path) -> None:
        """Country211's own folders; its validation part is called "valid"."""
        files = {
            f"country211/{split}/{label}/{i}.jpg": png(i)
            for split in ("train", "valid", "test")
            for label in ("AD", "AE")
            for i in range(2)
        }
        source = self.read(name="Country211", path=str(write_folder(tmp_path, files)))
        assert Counter(row[1:3] for row in contents(source.rows)) == {
            (label, split): 2 for label in ("AD", "AE") for split in ("train", "val", "test")
        }

    def test_downloads_are_no_part_of_what_drop_store_deletes(self) -> None:
        options = validate_entry("mine", DatasetEntry(kind="torchvision", name="MNIST"))
        assert isinstance(options, from_torchvision.Options)
        assert not options.path.is_relative_to(store.STORE)

    def test_a_class_without_splits_and_without_a_root(self) -> None:
        rows = contents(self.read(name="FakeData", args={"size": 6, "image_size": [3, 8, 8], "num_classes": 3}).rows)
        assert {row[2] for row in rows} == {None}
        assert len(rows) == 6
        assert {row[1] for row in rows} <= {"0", "1", "2"}

    def test_an_image_folder_class(self, tmp_path: Path) -> None:
        write_folder(
            tmp_path / "eurosat" / "2750", {f"{label}/{i}.png": png(i) for label in ("Forest", "River") for i in range(3)}
        )
        source = self.read(name="EuroSAT", path=str(tmp_path))
        assert source.class_names == ["Forest", "River"]
        assert [row[1] for row in contents(source.rows)] == ["Forest"] * 3 + ["River"] * 3

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"name": "CIFAR11"}, r"name: torchvision has no 'CIFAR11'; nearest valid: CIFAR100?, CIFAR100?"),
            ({"name": "MNIST", "args": {"trains": True}}, r"args: MNIST takes no 'trains' here; nearest valid: train"),
            ({"name": "MNIST", "args": {"transform": 1}}, r"takes no 'transform' here"),
            ({"name": "FakeData", "download": True}, "torchvision cannot download it"),
            ({"name": "CocoDetection", "path": "nowhere"}, "add what is missing to `args`"),
            ({"name": "CIFAR10", "path": "nowhere"}, "set `path` to the files, or `download: true`"),
            ({"name": "SVHN", "path": "nowhere"}, "set `path` to the files, or `download: true`"),
        ],
    )
    def test_mistakes_are_named(self, options: dict[str, object], message: str) -> None:
        with pytest.raises(InputProblem, match=message):
            self.read(**options)


def test_sklearn_digits_are_stretched_exactly() -> None:
    from sklearn.datasets import load_digits

    rows = contents(opened(DatasetEntry(kind="sklearn")).rows)
    stretched = np.stack([np.asarray(Image.open(io.BytesIO(row[3]))) for row in rows]).astype(int)
    original = load_digits()
    levels = {
        0: 0,
        1: 16,
        2: 32,
        3: 48,
        4: 64,
        5: 80,
        6: 96,
        7: 112,
        8: 128,
        9: 143,
        10: 159,
        11: 175,
        12: 191,
        13: 207,
        14: 223,
        15: 239,
        16: 255,
    }
    assert np.array_equal(stretched, np.vectorize(levels.__getitem__)(original.images.astype(int)))
    assert [row[1] for row in rows] == [str(target) for target in original.target]
