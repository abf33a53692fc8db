"""The extract stage: contents against a plain forward pass, bytes that do not depend on workers, and what is computed when."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from stages import extract, extraction, ingest, params, weights
from stages.artifacts import manifest
from stages.artifacts.dataset import Dataset
from stages.artifacts.features import FeatureSet, features_path
from stages.datasets.decoding import decode_image
from stages.encoders import Preprocess, Tapped, build, load
from stages.errors import InputProblem, out_of_memory

VIT = {
    "arch": "test_vit", "arch_args": {"in_chans": 1, "img_size": 32}, "weights": "random", "input_size": 32,
    "layers": ["pooled", "blocks.3"],
}  # fmt: skip
HALF = {"packaged": {"half": {"kind": "sklearn", "name": "digits"}, "digits": {"kind": "sklearn", "name": "digits"}}}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits dataset, ingested once."""
    root = tmp_path_factory.mktemp("digits")
    here = Path.cwd()
    try:
        os.chdir(root)
        settings = params.Params.model_validate({
            "datasets": {"packaged": {"digits": {"kind": "sklearn", "name": "digits"}}}, "targets": ["digits"],
            "encoders": {"vit": VIT}, "rank": {"metrics": ["logme"]},
            "languages": {"tasks": ["entity_type"], "languages": ["en", "es", "pt"]},
        })  # fmt: skip
        ingest.main(settings, "digits")
    finally:
        os.chdir(here)
    return root / "data" / "datasets" / "digits"


@pytest.fixture
def settings(project: Path, digits: Path, write_params: Callable[..., Path]) -> Callable[..., params.Params]:
    """Write params and link the ingested digits in, under one or two names; return the params."""

    def make(**sections: Any) -> params.Params:
        write_params(**{"encoders": {"vit": VIT}, "extract": {"batch_size": 100, "shard_images": 600}, **sections})
        loaded = params.load()
        for name in loaded.all_datasets:
            target = project / "data" / "datasets" / name
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(digits)
        for name in loaded.encoders:
            weights.main(loaded, name)
        return loaded

    return make


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def inodes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in sorted(folder.glob("*.npy"))}


def test_features_are_those_of_a_plain_forward_pass(settings: Callable[..., params.Params]) -> None:
    extract.main(settings(), "vit")
    found = FeatureSet.open("vit", "digits", verify=True)
    dataset = Dataset.open("digits")
    assert found.index.equals(dataset.rows.select("id", "split", "class_index"))
    assert sorted(found.layers) == ["blocks.3", "pooled"]
    assert found.source_classes is None
    assert found.probabilities() is None
    assert sorted(path.name for path in found.path.iterdir()) == [
        "blocks.3.npy",
        "index.parquet",
        "manifest.json",
        "pooled.npy",
    ]
    model, card = load("vit")
    preprocess = Preprocess.of(card)
    rows = {name: preprocess.pixels(decode_image(data, max_pixels=10**6)) for name, data in dataset.images()}
    batch = preprocess.normalise(torch.from_numpy(np.stack([rows[name] for name in found.index["id"]])))
    with torch.inference_mode():
        expected: Tensor = model.forward_head(model.forward_features(batch), pre_logits=True)
    pooled = found.layer("pooled")
    assert isinstance(pooled, np.memmap)
    assert pooled.dtype == np.float32
    assert pooled.shape == (1797, expected.shape[1])
    np.testing.assert_allclose(pooled, expected.numpy(), rtol=1e-3, atol=1e-4)
    assert found.facts["inputs"] == {"weights": card.sha256, "dataset": dataset.identity}


def test_workers_and_earlier_runs_never_change_a_byte(settings: Callable[..., params.Params], project: Path) -> None:
    kept = []
    for workers in (0, 1, 3):
        extract.main(settings(run={"workers": workers}), "vit")
        kept.append(contents(project / "data" / "features"))
        shutil.rmtree(project / "data" / "features")
        shutil.rmtree(project / "data" / "store")
    assert kept[0] == kept[1] == kept[2]


def test_probabilities_of_a_trained_head(settings: Callable[..., params.Params], project: Path) -> None:
    from safetensors.torch import save_file

    state = build("test_vit", {"in_chans": 1, "img_size": 32}, num_classes=7, seed=3).state_dict()
    save_file(state, project / "data" / "raw" / "weights" / "mine.safetensors")
    mine = {**VIT, "weights": {"file": "data/raw/weights/mine.safetensors"}}
    extract.main(settings(encoders={"mine": mine}, extract={"dtype": "float16"}), "mine")
    found = FeatureSet.open("mine", "digits", verify=True)
    assert found.layer("pooled").dtype == np.float16
    assert len(found.source_classes or []) == 7
    probabilities = found.probabilities()
    assert probabilities is not None
    assert np.load(found.path / "probabilities.npy").dtype == np.float16
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=2e-3)
    model, _ = load("mine")
    with torch.inference_mode():  # the head is linear in what is kept as `pooled`
        expected = model.get_classifier()(torch.from_numpy(np.asarray(found.layer("pooled"), np.float32))).softmax(dim=1)
    np.testing.assert_allclose(probabilities, expected.numpy(), atol=2e-3)


def test_a_new_dataset_costs_only_itself(settings: Callable[..., params.Params], project: Path, digits: Path) -> None:
    extract.main(settings(), "vit")
    first = inodes(features_path("vit", "digits"))
    shutil.rmtree(project / "data" / "features")  # as DVC does before it runs a stage
    other = project / "data" / "datasets" / "half"
    shutil.copytree(digits, other)
    rows = pl.read_parquet(other / "manifest.parquet").head(700)
    rows.write_parquet(other / "manifest.parquet")
    facts = manifest.read(digits, kind="dataset", version=1, made_by="")
    (other / "manifest.json").unlink()
    manifest.write(other, kind="dataset", version=1, inputs={}, classes=facts["classes"])
    extract.main(settings(datasets=HALF, targets=["digits", "half"]), "vit")
    assert inodes(features_path("vit", "digits")) == first  # linked, not computed
    whole, half = FeatureSet.open("vit", "digits"), FeatureSet.open("vit", "half")
    np.testing.assert_allclose(half.layer("pooled"), whole.layer("pooled")[:700], rtol=1e-4, atol=1e-5)


def test_two_names_for_one_dataset_and_one_weights_share_the_work(settings: Callable[..., params.Params]) -> None:
    loaded = settings(datasets=HALF, targets=["digits", "half"])
    extract.main(loaded, "vit")
    assert inodes(features_path("vit", "digits")) == inodes(features_path("vit", "half"))


def test_kept_pixels_change_no_byte_and_the_next_encoder_decodes_nothing(
    settings: Callable[..., params.Params], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = {"arch": "test_byobnet", "arch_args": {"in_chans": 1}, "weights": "random", "input_size": 32, "layers": ["pooled"]}
    both = {"vit": VIT, "net": net}
    loaded = settings(encoders=both)
    for name in both:
        extract.main(loaded, name)
    plain = contents(project / "data" / "features")
    shutil.rmtree(project / "data" / "features")
    shutil.rmtree(project / "data" / "store")
    keeping = settings(encoders=both, extract={"batch_size": 100, "shard_images": 600, "predecode": True})
    extract.main(keeping, "vit")
    with monkeypatch.context() as patched:
        patched.delattr("stages.extraction.pixels.decode_image")
        extract.main(keeping, "net")
    assert contents(project / "data" / "features") == plain
    assert len(list((project / "data" / "store" / "pixels").glob("*/*.npy"))) == 3


def test_another_setting_is_another_unit_of_work(settings: Callable[..., params.Params], project: Path) -> None:
    for sections in ({}, {"extract": {"batch_size": 50}}, {"encoders": {"vit": {**VIT, "layers": ["pooled"]}}}):
        extract.main(settings(**sections), "vit")
    assert len(list((project / "data" / "store" / "features").iterdir())) == 3


def test_what_was_damaged_in_the_store_is_computed_again(settings: Callable[..., params.Params]) -> None:
    loaded = settings()
    extract.main(loaded, "vit")
    path = features_path("vit", "digits") / "pooled.npy"
    good = path.read_bytes()
    with path.open("r+b") as handle:  # through the link, the store's file too
        handle.seek(-1, os.SEEK_END)
        handle.write(b"\x7f")
    extract.main(loaded, "vit")
    assert path.read_bytes() == good


def test_the_surrogate_also_sees_its_source() -> None:
    pair = {"source": "digits", "target": "half", "surrogate": "a"}
    loaded = params.Params.model_validate({
        "datasets": HALF, "targets": ["half"],
        "encoders": {"a": {**VIT, "weights": {"pretrain": "digits"}}, "b": VIT}, "prune": {"pairs": [pair]},
        "rank": {"metrics": ["logme"]}, "languages": {"tasks": ["entity_type"], "languages": ["en", "es", "pt"]},
    })  # fmt: skip
    assert loaded.datasets_of("a") == ["half", "digits"]
    assert loaded.datasets_of("b") == ["half"]


@pytest.fixture
def job(settings: Callable[..., params.Params]) -> extraction.Job:
    settings()
    model, card = load("vit")
    return extraction.Job(
        Tapped(model, ["pooled"]), Preprocess.of(card), torch.device("cpu"), "auto", 4, 8, "float32", 0, 10**6,
        keep_probabilities=False, label="vit on digits",
    )  # fmt: skip


def test_values_beyond_float16_are_an_answer(job: extraction.Job) -> None:
    class Large:
        model = torch.nn.Identity()

        def __call__(self, batch: Tensor) -> tuple[dict[str, Tensor], None]:
            return {"pooled": batch.flatten(1) * 0 + 1e5}, None

    narrow = replace(job, tapped=Large(), dtype="float16")
    with pytest.raises(InputProblem, match=r"pooled holds 2048 values that are not finite in float16"):
        list(extraction.run_encoder(narrow, [torch.zeros(2, 1, 32, 32, dtype=torch.uint8)]))


def test_too_large_a_batch_is_seen_as_full_memory(job: extraction.Job) -> None:
    endless = torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(1, 1, 2**30, 2**30)  # takes no memory before it is read
    with pytest.raises(RuntimeError) as caught:
        list(extraction.run_encoder(job, [endless]))
    assert out_of_memory(caught.value)  # which makes the entry exit with 75


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_decoded_any_more(job: extraction.Job, workers: int) -> None:
    def images() -> Iterator[tuple[str, bytes]]:
        yield from list(Dataset.open("digits").images())[:5]
        yield "broken", b"no image"

    with pytest.raises(InputProblem, match="image 'broken' cannot be decoded any more"):
        list(extraction.run_encoder(job, extraction.decoded(replace(job, workers=workers), [list(images())])))


def test_every_batch_comes_out_once_and_in_order(job: extraction.Job) -> None:
    batches = [torch.full((value + 1, 1, 32, 32), 60 * value, dtype=torch.uint8) for value in range(4)]
    arrays = [kept["pooled"] for kept in extraction.run_encoder(job, batches)]
    assert [len(array) for array in arrays] == [1, 2, 3, 4]
    for array, batch in zip(arrays, batches, strict=True):
        filled = torch.cat([batch, torch.zeros(4 - len(batch), 1, 32, 32, dtype=torch.uint8)])
        with torch.inference_mode():
            expected, _ = job.tapped(job.preprocess.normalise(filled))
        np.testing.assert_array_equal(array, expected["pooled"][: len(batch)].numpy())
    assert list(extraction.run_encoder(job, [])) == []


def test_bfloat16_is_near_float32(settings: Callable[..., params.Params]) -> None:
    extract.main(settings(), "vit")
    exact = np.array(FeatureSet.open("vit", "digits").layer("pooled"))
    extract.main(settings(run={"precision": "bfloat16"}), "vit")
    coarse = np.array(FeatureSet.open("vit", "digits").layer("pooled"))
    assert not np.array_equal(exact, coarse)
    assert np.linalg.norm(exact - coarse) / np.linalg.norm(exact) < 0.03  # 8 bits of mantissa


@pytest.mark.parametrize("changed", [{"channels_last": True}, {"batch_size": "auto"}, {"batch_size": 7}])
def test_the_order_of_sums_is_all_that_a_layout_or_batch_size_changes(
    settings: Callable[..., params.Params], changed: dict[str, Any]
) -> None:
    net = {"arch": "test_resnet", "arch_args": {"in_chans": 1}, "weights": "random", "input_size": 32, "layers": ["pooled"]}
    extract.main(settings(encoders={"net": net}), "net")
    expected = np.array(FeatureSet.open("net", "digits").layer("pooled"))
    extract.main(settings(encoders={"net": net}, extract={"shard_images": 600, **changed}), "net")
    np.testing.assert_allclose(FeatureSet.open("net", "digits").layer("pooled"), expected, rtol=1e-4, atol=1e-5)


def test_an_unknown_encoder_and_a_missing_dataset(
    settings: Callable[..., params.Params], project: Path, run_stage: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    loaded = settings()
    with pytest.raises(InputProblem, match="no encoder 'vitt'; nearest valid: vit"):
        extract.main(loaded, "vitt")
    (project / "data" / "datasets" / "digits").unlink()
    ended = run_stage("extract", "--encoder", "vit")
    assert ended.returncode == 2
    assert "data/datasets/digits: does not exist" in ended.stderr
    assert not (project / "data" / "features").exists()
