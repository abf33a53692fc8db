"""Ingest through its own entry: splits that stay, bytes that do not depend on workers, answers to wrong input."""

from __future__ import annotations

import hashlib
import io
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages import ingest, params
from stages.artifacts import manifest
from stages.artifacts.dataset import MANIFEST_SCHEMA, Dataset
from stages.datasets.decoding import decode_image
from stages.datasets.splitting import assign, class_order
from stages.errors import InputProblem

RunStage = Callable[..., subprocess.CompletedProcess[str]]
FILES = {"photos": {"kind": "imagefolder", "path": "data/raw/photos"}}


def png(value: int, shade: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.array([[value % 256, value // 256], [shade, 0]], dtype=np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def put(project: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = project / "data" / "raw" / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def run(name: str = "photos") -> Dataset:
    ingest.main(params.load(), name)
    return Dataset.open(name, verify=True)


def splits(dataset: Dataset) -> dict[str, str]:
    return dict(dataset.rows.select("id", "split").iter_rows())


def test_the_packaged_digits_as_dvc_runs_them(write_params: Callable[..., Path], run_stage: RunStage) -> None:
    write_params()
    done = run_stage("ingest", "--dataset", "digits")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("digits: 1,797 images, 10 classes, 0 quarantined")
    dataset = Dataset.open("digits", verify=True)
    assert dataset.classes == [str(digit) for digit in range(10)]
    assert dataset.rows.schema == MANIFEST_SCHEMA
    assert dataset.rows.equals(dataset.rows.sort("shard", "id"))
    shares = dataset.rows["split"].value_counts(normalize=True).sort("split")["proportion"].to_list()
    assert shares == pytest.approx([0.2, 0.7, 0.1], abs=0.03)  # test, train, val
    for name, data in dataset.images(["val"]):
        row = dataset.rows.row(by_predicate=pl.col("id") == name, named=True)
        assert row["split"] == "val"
        assert hashlib.sha256(data).hexdigest() == row["sha256"]
        assert decode_image(data, max_pixels=100).size == (row["width"], row["height"]) == (8, 8)
    assert sum(1 for _ in dataset.images()) == 1797


def test_an_unknown_dataset_or_option_is_answered(write_params: Callable[..., Path], run_stage: RunStage) -> None:
    write_params()
    done = run_stage("ingest", "--dataset", "digit")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "ingest@digit: params.yaml: datasets: there is no dataset 'digit'; nearest valid: digits",
        "Next: edit params.yaml, then `transferscope check`",
    ]
    write_params(datasets={"packaged": {"digits": {"kind": "sklearn", "name": "digitz"}}})
    done = run_stage("ingest", "--dataset", "digits")
    assert done.returncode == 2
    assert "params.yaml: datasets.digits: name: " in done.stderr
    assert "'digits'" in done.stderr


def test_workers_and_shards_do_not_change_a_byte(project: Path, write_params: Callable[..., Path]) -> None:
    put(project, {f"{'abc'[i % 3]}/{i:03d}.png": png(i) for i in range(150)} | {"a/bad.png": b"no image"})
    found = set()
    for workers in (0, 1, 2, 5, "auto"):
        write_params(datasets={"files": FILES}, targets=["photos"], run={"workers": workers})
        found.add(run().identity)
    assert len(found) == 1


def test_small_shards_hold_the_same_images_in_order(
    project: Path, write_params: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs = {}
    for index in range(60):
        pixels = np.random.default_rng(index).integers(0, 255, (150, 150, 3), dtype=np.uint8)  # 67 kB each, incompressible
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG")
        photographs[f"{'ba'[index % 2]}/{index}.png"] = buffer.getvalue()
    put(project, photographs)
    write_params(datasets={"files": FILES}, targets=["photos"], ingest={"shard_megabytes": 1})
    dataset = run()
    sizes = [path.stat().st_size for path in sorted(dataset.path.glob("images-*.parquet"))]
    assert len(sizes) == 5  # 60 x 67.7 kB in shards of at most a million bytes
    assert max(sizes) < 1_050_000
    assert dict(dataset.images()) == photographs
    assert [name for name, _ in dataset.images()] == dataset.rows["id"].to_list()


def test_added_images_leave_the_others_where_they_were(project: Path, write_params: Callable[..., Path]) -> None:
    write_params(datasets={"files": FILES}, targets=["photos"])
    put(project, {f"{'ab'[i % 2]}/m{i:03d}.png": png(i) for i in range(100)})
    before = splits(run())
    put(project, {f"{'abc'[i % 3]}/{'az'[i % 2]}{i:03d}.png": png(i) for i in range(1000, 1060)})
    after = splits(run())
    assert len(after) == 160
    assert before.items() <= after.items()
    assert set(before.values()) == {"train", "val", "test"}


def test_copies_of_an_image_share_a_split(project: Path, write_params: Callable[..., Path]) -> None:
    write_params(datasets={"files": FILES}, targets=["photos"])
    put(project, {f"{'ab'[i % 2]}/{copy}-{i:03d}.png": png(i) for i in range(80) for copy in range(3)})
    dataset = run()
    assert dataset.rows.group_by("sha256").agg(pl.col("split").n_unique(), pl.len())["split"].unique().to_list() == [1]
    assert dataset.facts["contents_in_several_splits"] == 0
    assert dataset.facts["contents_with_several_labels"] == 0


def test_own_splits_are_kept_val_is_carved_and_copies_are_counted(project: Path, write_params: Callable[..., Path]) -> None:
    write_params(datasets={"files": FILES}, targets=["photos"])
    files = {f"train/{'ab'[i % 2]}/{i:03d}.png": png(i) for i in range(200)}
    files |= {f"test/{'ab'[i % 2]}/{i:03d}.png": png(i, shade=1) for i in range(50)}
    files |= {"test/a/copy.png": png(3), "train/a/copy.png": png(5), "train/b/twin.png": png(5)}
    put(project, files)
    dataset = run()
    found = dataset.rows
    assert set(found.filter(pl.col("id").str.starts_with("test/"))["split"]) == {"test"}
    carved = found.filter(pl.col("id").str.starts_with("train/"))["split"].value_counts(normalize=True)
    assert dict(carved.iter_rows())["val"] == pytest.approx(0.1, abs=0.06)
    assert set(carved["split"]) == {"train", "val"}
    assert dataset.facts["contents_in_several_splits"] == 1  # png(3), in train and test: left, and counted
    assert dataset.facts["contents_with_several_labels"] == 2  # png(3) is b in train; png(5) is both
    assert dataset.facts["test"] == 51
    assert dataset.facts["train"] + dataset.facts["val"] == 202


def test_facts_say_what_is_there_and_nothing_about_where_or_when(project: Path, write_params: Callable[..., Path]) -> None:
    write_params(
        datasets={"files": {"photos": {"kind": "imagefolder", "path": str(project / "data" / "raw" / "photos")}}},
        targets=["photos"],
    )
    put(
        project,
        {f"{label}/{i:03d}.png": png(i + 100 * int(label)) for label in ("10", "9", "2") for i in range(40)} | {"9/x": b""},
    )
    dataset = run()
    text = (dataset.path / manifest.MANIFEST).read_text()
    assert str(project) not in text
    assert dataset.classes == ["2", "9", "10"]
    assert dataset.facts["source_kind"] == "imagefolder"
    assert (dataset.facts["images"], dataset.facts["quarantined"]) == (120, 1)
    first = dataset.identity
    assert run().identity == first
    put(project, {"9/x": b"\0"})
    assert run().identity != first


EARLY = [png(i) for i in range(99) if hashlib.sha256(png(i)).hexdigest() < "2"]  # the first eighth: test
LATE = [png(i) for i in range(99) if hashlib.sha256(png(i)).hexdigest() > "8"]  # the second half: train


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({f"a/{i}.png": png(i) for i in range(40)}, "has one class, 'a'"),
        ({f"test/{c}/{i}.png": png(i) for c in "ab" for i in range(9)}, "has test images and none for training"),
        ({f"{label}/x.png": image for label, image in zip("ab", LATE, strict=False)}, "has no test images"),
        ({f"{label}/x.png": image for label, image in zip("ab", EARLY, strict=False)}, "has no train images"),
        ({"a/1.png": b"", "b/2.png": b""}, r"2 of 2 images cannot be used \(2 empty\)"),
        ({"a/.hidden": b"", "b/.hidden": b""}, "holds no image"),
    ],
)
def test_what_nothing_can_be_learned_from_is_refused(
    project: Path, write_params: Callable[..., Path], files: dict[str, bytes], message: str
) -> None:
    write_params(datasets={"files": FILES}, targets=["photos"])
    put(project, files)
    with pytest.raises(InputProblem, match=message) as caught:
        run()
    assert caught.value.where == "dataset photos"
    assert caught.value.next_step
    assert not Path("data/datasets/photos").exists()


HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)
ROWS = st.lists(st.tuples(HASHES, st.sampled_from(["train", "test"])), min_size=1, max_size=60)


def frame(rows: list[tuple[str, str | None]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"sha256": pl.String, "split": pl.String}, orient="row")


@given(ROWS, ROWS, st.floats(0.05, 0.45), st.floats(0.05, 0.45))
@settings(max_examples=60)
def test_a_split_depends_on_the_content_alone(
    old: list[tuple[str, str]], new: list[tuple[str, str]], val: float, test: float
) -> None:
    blank = [(content, None) for content, _ in old], [(content, None) for content, _ in new]
    alone = assign(frame(blank[0]), val_fraction=val, test_fraction=test)["split"].to_list()
    together = assign(frame(blank[1] + blank[0]), val_fraction=val, test_fraction=test)["split"].to_list()
    assert together[len(new) :] == alone
    expected = []
    for content, _ in old:
        u = int(content[:13], 16) / 16**13
        expected.append("test" if u < test else "val" if u < test + val else "train")
    assert alone == expected


@given(ROWS, st.floats(0.05, 0.9))
@settings(max_examples=60)
def test_own_splits_lose_nothing_but_val(rows: list[tuple[str, str]], val: float) -> None:
    rows = [("f" * 64, "train"), ("0" * 64, "test"), *rows]
    made = assign(frame(rows), val_fraction=val, test_fraction=0.3)["split"].to_list()
    for (content, own), split in zip(rows, made, strict=True):
        assert split == ("test" if own == "test" else "val" if int(content[:13], 16) / 16**13 < val else "train")


def test_train_and_val_alone_get_a_test_split_out_of_train() -> None:
    rows = [(hashlib.sha256(bytes([i])).hexdigest(), "val" if i < 30 else "train") for i in range(200)]
    made = assign(frame(rows), val_fraction=0.1, test_fraction=0.2)["split"].to_list()
    assert made[:30] == ["val"] * 30
    assert set(made[30:]) == {"train", "test"}
    assert made[30:].count("test") / 170 == pytest.approx(0.2, abs=0.08)


def test_a_split_for_some_images_only_is_refused() -> None:
    with pytest.raises(InputProblem, match="names a split for 1 images and none for 2"):
        assign(frame([("00" * 32, "train"), ("11" * 32, None), ("22" * 32, None)]), val_fraction=0.1, test_fraction=0.2)


def test_class_order() -> None:
    assert class_order(["10", "9", "1", "9"], None) == ["1", "9", "10"]
    assert class_order(["b", "a", "10"], None) == ["10", "a", "b"]
    assert class_order(["b", "a"], ["z", "b", "a"]) == ["b", "a"]
    assert class_order(["b", "c"], ["b", "a"]) == ["b", "c"]


@pytest.mark.real
def test_real_photographs(real_inputs: Path, write_params: Callable[..., Path], run_stage: RunStage) -> None:
    photographs = real_inputs / "images" / "sign_digits"
    write_params(datasets={"files": {"signs": {"kind": "imagefolder", "path": str(photographs)}}}, targets=["signs"])
    done = run_stage("ingest", "--dataset", "signs")
    assert done.returncode == 0, done.stderr
    dataset = Dataset.open("signs", verify=True)
    assert dataset.classes == [str(digit) for digit in range(10)]
    assert dataset.quarantine.is_empty()
    files = {path.relative_to(photographs).as_posix(): path for path in photographs.rglob("*.JPG")}
    assert dataset.rows.height == len(files) == 1200
    assert dataset.facts["test"] == 400
    assert {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()} == dict(
        dataset.rows.select("id", "sha256").iter_rows()
    )
    assert dataset.rows.filter(pl.col("width") == 100, pl.col("height") == 100).height == 1197
