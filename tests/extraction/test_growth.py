"""A dataset that has grown costs its new images, and its features are those of a run from nothing, to the bit."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stages import extract, ingest, params, weights
from stages.artifacts import manifest
from stages.artifacts.dataset import Dataset, dataset_path
from stages.artifacts.features import features_path
from stages.encoders import Preprocess, Tapped, data_config
from stages.extraction import Clock, Job, job_for, on_devices, run_encoder
from stages.extraction import extract as extract_to
from stages.extraction.growth import Known, merged
from stages.params import Encoder

IMAGES, FIRST, SHARD, BATCH = 420, 380, 50, 32
NET = {"arch": "test_efficientnet", "arch_args": {"in_chans": 1}, "weights": "random", "input_size": 32,
       "layers": ["pooled", "blocks.1"], "grids": ["blocks.1"]}  # fmt: skip


@pytest.fixture
def settings(project: Path, write_params: Callable[..., Path]) -> params.Params:
    """Params of a small encoder, and the dataset `few` of `FIRST` images spread over `IMAGES`."""
    write_params(
        run={"threads": 1, "workers": 2}, encoders={"net": NET}, extract={"batch_size": BATCH, "shard_images": SHARD},
        datasets={"packaged": {name: {"kind": "sklearn", "name": "digits"} for name in ("digits", "few")}, "files": {}},
        targets=["few"],
    )  # fmt: skip
    loaded = params.load()
    ingest.main(loaded, "digits")
    weights.main(loaded, "net")
    write_few(np.sort(np.random.default_rng(0).choice(IMAGES, FIRST, replace=False)))
    return loaded


def write_few(chosen: np.ndarray, labels: int = 0, copies: bool = False) -> None:
    """Make `few` of some of the digits; `labels` moves the classes; copies of a row get ids of their own."""
    whole, folder = Dataset.open("digits"), dataset_path("few")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    rows = whole.rows[chosen].with_columns(class_index=(pl.col("class_index") + labels) % 10)
    content = pl.DataFrame(list(whole.chosen(rows["id"]).items()), schema=["id", "bytes"], orient="row")
    if copies:
        names = rows["id"] + pl.Series([f"-{number % 2}" for number in range(len(rows))])
        content = rows.select("id").join(content, on="id", how="left", maintain_order="left").with_columns(id=names)
        rows = rows.with_columns(id=names)
    rows.write_parquet(folder / "manifest.parquet")
    content.write_parquet(folder / "images-00000.parquet")
    manifest.write(folder, kind="dataset", version=1, inputs={}, classes=whole.classes, moved=labels)


def run(loaded: params.Params, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, bytes], str]:
    """Extract and return the files and what was said."""
    shutil.rmtree("data/features", ignore_errors=True)  # as DVC does before it runs a stage
    capsys.readouterr()
    extract.main(loaded, "net")
    return {path.name: path.read_bytes() for path in features_path("net", "few").iterdir()}, capsys.readouterr().err


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The images of every batch that goes through the encoder."""
    sizes: list[int] = []

    def counted(job: Job, batches: Iterator[Tensor], clock: Clock | None = None) -> Iterator[Any]:
        def count() -> Iterator[Tensor]:
            for batch in batches:
                sizes.append(len(batch))
                yield batch

        return run_encoder(job, count(), clock)

    for module in ("growth", "shards"):
        monkeypatch.setattr(f"stages.extraction.{module}.run_encoder", counted)
    return sizes


def test_a_grown_dataset_costs_its_new_images_and_has_the_same_bytes(
    settings: params.Params, capsys: pytest.CaptureFixture[str], seen: list[int]
) -> None:
    _, said = run(settings, capsys)
    assert sum(seen) == FIRST
    assert "known" not in said
    write_few(np.arange(IMAGES))
    seen.clear()
    grown, said = run(settings, capsys)
    assert f"net on few: {FIRST} of {IMAGES} images are known from an earlier run" in said
    assert sum(seen) == BATCH + IMAGES - FIRST  # a batch of known ones is the proof
    shutil.rmtree("data/store")
    afresh, said = run(settings, capsys)
    assert "known" not in said
    assert grown == afresh
    assert {"pooled.npy", "blocks.1.npy", "blocks.1@grid.npy"} <= set(grown)


def test_other_labels_and_fewer_images_cost_the_proof_alone(
    settings: params.Params, capsys: pytest.CaptureFixture[str], seen: list[int]
) -> None:
    first, _ = run(settings, capsys)
    chosen = np.sort(np.random.default_rng(0).choice(IMAGES, FIRST, replace=False))
    seen.clear()
    write_few(chosen, labels=1)
    relabelled, _ = run(settings, capsys)
    assert relabelled["pooled.npy"] == first["pooled.npy"]
    assert relabelled["index.parquet"] != first["index.parquet"]
    write_few(chosen[::3])
    fewer, _ = run(settings, capsys)
    assert sum(seen) == 2 * BATCH
    shutil.rmtree("data/store")
    assert fewer == run(settings, capsys)[0]


def test_an_encoder_that_looks_at_the_other_images_is_found_out(
    settings: params.Params, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seen: list[int]
) -> None:
    whole = Tapped.__call__

    def beside(self: Tapped, images: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        kept, logits = whole(self, images)
        return {name: value + 1e-6 * images.std() for name, value in kept.items()}, logits

    monkeypatch.setattr(Tapped, "__call__", beside)
    run(settings, capsys)
    write_few(np.arange(IMAGES))
    seen.clear()
    grown, said = run(settings, capsys)
    assert f"net on few: {FIRST} of {IMAGES} images are known from an earlier run, but come out differently here" in said
    assert sum(seen) == BATCH + IMAGES
    shutil.rmtree("data/store")
    assert grown == run(settings, capsys)[0]


def test_a_damaged_earlier_run_is_not_taken_over(settings: params.Params, capsys: pytest.CaptureFixture[str]) -> None:
    run(settings, capsys)
    (path,) = Path("data/store/features").glob("*/*/joined/pooled.npy")
    with path.open("r+b") as handle:
        handle.seek(-4, 2)
        handle.write(b"\x7f")
    write_few(np.arange(IMAGES))
    grown, said = run(settings, capsys)
    assert "known" not in said
    shutil.rmtree("data/store")
    assert grown == run(settings, capsys)[0]


@pytest.mark.parametrize("name", ["pooled.npy", "contents.parquet", "manifest.json"])
def test_a_good_run_serves_where_a_better_one_is_damaged(
    settings: params.Params, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    run(settings, capsys)
    write_few(np.arange(200))
    run(settings, capsys)
    for path in Path("data/store/features").glob(f"*/*/joined/{name}"):
        if len(pl.read_parquet(path.with_name("contents.parquet"))) == FIRST:
            path.write_bytes(path.read_bytes()[:-40])
    write_few(np.arange(IMAGES))
    grown, said = run(settings, capsys)
    assert f"net on few: 200 of {IMAGES} images are known" in said
    shutil.rmtree("data/store")
    assert grown == run(settings, capsys)[0]


def test_copies_of_an_image_share_what_is_known(settings: params.Params, capsys: pytest.CaptureFixture[str]) -> None:
    run(settings, capsys)
    write_few(np.repeat(np.arange(IMAGES // 2), 2), copies=True)
    grown, said = run(settings, capsys)
    assert "known" in said
    shutil.rmtree("data/store")
    assert grown == run(settings, capsys)[0]


def test_rounding_does_not_hide_a_difference(
    settings: params.Params, write_params: Callable[..., Path], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    whole = Tapped.__call__

    def by_place(self: Tapped, images: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        kept, logits = whole(self, images)
        place = torch.arange(len(images)) % 2 * 2**-22 + 1  # less than half precision resolves
        return {name: value * place.view(-1, *[1] * (value.ndim - 1)) for name, value in kept.items()}, logits

    sections = settings.model_dump(mode="json", exclude_unset=True)
    write_params(**{**sections, "extract": {"batch_size": BATCH, "shard_images": SHARD, "dtype": "float16"}})
    loaded = params.load()
    run(loaded, capsys)
    write_few(np.arange(IMAGES))
    _, said = run(loaded, capsys)
    assert "are known from an earlier run\n" in said
    shutil.rmtree("data/store")
    write_few(np.arange(FIRST))
    monkeypatch.setattr(Tapped, "__call__", by_place)
    run(loaded, capsys)
    write_few(np.arange(IMAGES))
    assert "but come out differently here" in run(loaded, capsys)[1]


def test_what_was_taken_over_and_then_edited_is_planned_again(
    settings: params.Params, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(settings, capsys)
    write_few(np.arange(IMAGES))
    job, dataset = job_for(settings, "net", "few", "cpu"), Dataset.open("few")
    (first,) = Path("data/store/features").glob("*/*")
    work = first.parent / "grown"

    def killed(shards: list[tuple[int, int]], advance: Callable[[int], None], clock: Clock) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_to(job, dataset, work, write=killed)
    with (features_path("net", "few") / "pooled.npy").open("r+b") as handle:  # the output of the earlier dataset
        handle.seek(-4, 2)
        handle.write(b"\x7f")
    joined = extract_to(job, dataset, work)
    assert sorted(path.name for path in work.iterdir()) == ["joined"]
    alone = extract_to(job, dataset, project / "data" / "alone" / "whole")
    assert (joined / "pooled.npy").read_bytes() == (alone / "pooled.npy").read_bytes()


def test_a_killed_run_goes_on_as_planned_on_any_number_of_devices(
    settings: params.Params, project: Path, capsys: pytest.CaptureFixture[str], seen: list[int]
) -> None:
    first, second, afresh = (project / "data" / "work" / name for name in ("first", "second", "other/afresh"))
    for folder in (first, second, afresh):
        folder.mkdir(parents=True)
    small = settings.model_copy(update={"extract": settings.extract.model_copy(update={"shard_images": 10})})
    extract_to(job_for(small, "net", "few", "cpu"), Dataset.open("few"), first)
    write_few(np.arange(IMAGES)[::-1].copy()[: IMAGES - 5])
    job, dataset = job_for(small, "net", "few", "cpu"), Dataset.open("few")

    class Killed(Exception):
        pass

    def killed(shards: list[tuple[int, int]], advance: Callable[[int], None], clock: Clock) -> None:
        from stages.extraction import write_shards

        write_shards(job, dataset, second, shards[:2], advance, clock)
        raise Killed

    with pytest.raises(Killed):
        extract_to(job, dataset, second, write=killed)
    assert len(list(second.glob("0*"))) == 2
    known = np.count_nonzero(pl.read_parquet(second / "known" / "rows.parquet")["row"].to_numpy() >= 0)
    shutil.rmtree(first)  # what was planned does not need it any more
    seen.clear()
    write = partial(on_devices, partial(job_for, small, "net", "few"), ["cpu", "cpu"], "few", second.relative_to(project), 1)
    clock = Clock()
    joined = extract_to(job, dataset, second, clock, write)
    assert not seen  # no second proof
    assert clock.images == IMAGES - 5 - known - 2 * 10  # of the new ones, those that the killed run had not written
    alone = extract_to(job, dataset, afresh)
    assert {path.name: path.read_bytes() for path in joined.glob("*.npy")} == {
        path.name: path.read_bytes() for path in alone.glob("*.npy")
    }
    assert sorted(path.name for path in second.iterdir()) == ["joined"]


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 20), st.integers(1, 20))
def test_known_and_new_rows_come_out_in_order(fresh: list[bool], size: int, shard: int) -> None:
    rows, new = np.arange(len(fresh)) * 3 % 64, np.array(fresh)
    known = Known(Path("nowhere"))
    known.__dict__["rows"] = np.where(new, -1, rows)
    values = np.arange(len(fresh), dtype=np.float32)[new][:, None] + 1000
    shards = (values[start : start + shard] for start in range(0, len(values), shard))
    earlier = np.arange(64, dtype=np.float32)[:, None]
    expected = np.where(new, np.arange(len(fresh)) + 1000, rows)
    found = np.concatenate(list(merged(earlier, known, shards, size)))
    np.testing.assert_array_equal(found[:, 0], expected)


@pytest.mark.parametrize("arch", sorted(timm.list_models("test_*")))
def test_an_image_has_the_same_features_beside_any_others(arch: str) -> None:
    model = timm.create_model(arch).eval()
    config = data_config(Encoder(arch=arch, weights="random"), model)
    job = Job(
        Tapped(model, ["pooled"]), Preprocess.of(config), torch.device("cpu"), "auto", 8, 64, "float32", 0, 10**6,
        keep_probabilities=False, label=arch,
    )  # fmt: skip
    stream = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (21, *config.input_size), dtype=torch.uint8, generator=stream)
    order = torch.randperm(21, generator=stream)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        plain = np.concatenate([kept["pooled"] for kept in run_encoder(job, images.split(8))])
        moved = np.concatenate([kept["pooled"] for kept in run_encoder(job, images[order].split(5))])
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(moved, plain[order.numpy()])


@pytest.mark.parametrize("arch", ["test_vit", "test_vit3", "test_convnext", "test_resnet"])
def test_bytes_are_those_of_a_run_from_nothing_on_several_threads_too(
    settings: params.Params, write_params: Callable[..., Path], capsys: pytest.CaptureFixture[str], arch: str
) -> None:
    size = {"img_size": 32} if "vit" in arch else {}
    net = {"arch": arch, "arch_args": {"in_chans": 1, **size}, "weights": "random", "input_size": 32, "layers": ["pooled"]}
    sections = settings.model_dump(mode="json", exclude_unset=True)
    write_params(**{**sections, "encoders": {"net": net}, "run": {"threads": 2}, "extract": {"batch_size": 8}})
    loaded = params.load()
    weights.main(loaded, "net")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(loaded, capsys)
        write_few(np.arange(IMAGES))
        grown, said = run(loaded, capsys)
        refused = arch == "test_vit3" and "come out differently" in said  # it sums by the place in a batch
        assert refused or ("are known from an earlier run" in said and "differently" not in said)
        shutil.rmtree("data/store")
        assert grown == run(loaded, capsys)[0]
    finally:
        torch.set_num_threads(before)
