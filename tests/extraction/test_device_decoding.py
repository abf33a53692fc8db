"""JPEG by torchvision against Pillow's path: near in every pixel, and everything that is no plain JPEG left to Pillow."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stages import extract, ingest, params, weights
from stages.artifacts.dataset import Dataset
from stages.artifacts.features import FeatureSet
from stages.datasets.decoding import decode_image
from stages.encoders import Preprocess
from stages.errors import InputProblem
from stages.extraction import Job, decoded, job_for, on_device, run_encoder
from stages.extraction.on_device import device_pixels

MOST, MEAN = 1, 0.3  # grey levels between the two paths: anywhere, and on average over an image, noise included
MOST_TALL, MEAN_TALL = 30, 0.5  # of noise that is tall, whose height Pillow 13 resizes first
CPU = torch.device("cpu")
LIMIT = 10**7


def preprocess(channels: int = 3, size: tuple[int, int] = (96, 96), by: str = "bicubic", crop: float = 0.875) -> Preprocess:
    half = (0.5,) * channels
    return Preprocess(SimpleNamespace(input_size=(channels, *size), mean=half, std=half, interpolation=by, crop_pct=crop))


def jpeg(image: Image.Image, **options: Any) -> bytes:
    written = io.BytesIO()
    image.save(written, "JPEG", **options)
    return written.getvalue()


def photograph(seed: int, width: int, height: int, grain: int) -> Image.Image:
    """Return smooth colours where `grain` is large, and noise where it is 1."""
    values = np.random.default_rng(seed).integers(0, 256, (height // grain, width // grain, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC)


def differences(images: list[bytes], ours: Preprocess) -> list[np.ndarray]:
    """Return for each image the absolute differences of its pixels, in grey levels."""
    found = device_pixels(images, ours, CPU, LIMIT)
    assert all(made is not None and made.dtype == torch.uint8 for made in found)
    return [
        np.abs(made.numpy().astype(int) - ours.pixels(decode_image(data, max_pixels=LIMIT)))
        for made, data in zip(found, images, strict=True)
        if made is not None
    ]


def check(images: list[bytes], ours: Preprocess, most: int = MOST, mean: float = MEAN) -> None:
    for found in differences(images, ours):
        assert found.shape == ours.input_size
        assert found.max() <= most
        assert found.mean() <= mean


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "by", "crop"), [
    ((96, 96), "bicubic", 0.875), ((96, 96), "bilinear", 1.0), ((224, 224), "bicubic", 0.9), ((64, 96), "bilinear", 0.95),
])  # fmt: skip
def test_made_photographs(channels: int, size: tuple[int, int], by: str, crop: float) -> None:
    """Large and small, upright and wide, smooth and noise, grey, subsampled and progressive; smaller ones are enlarged."""
    sizes = [(640, 480), (301, 400), (150, 150), (50, 41)]
    images = [jpeg(photograph(seed, *sides, grain=20), quality=75) for seed, sides in enumerate(sizes)]
    images += [jpeg(photograph(seed, *sides, grain=1), quality=95, subsampling=0) for seed, sides in enumerate(sizes)]
    images += [jpeg(photograph(7, 400, 300, 10), progressive=True), jpeg(photograph(8, 400, 300, 10).convert("L"))]
    check(images, preprocess(channels, size, by, crop))
    check([jpeg(photograph(0, 300, 701, grain=1), quality=95)], preprocess(channels, size, by, crop), MOST_TALL, MEAN_TALL)


@pytest.mark.real
def test_real_photographs(real_inputs: Path) -> None:
    images = [path.read_bytes() for path in sorted((real_inputs / "images" / "sign_digits").rglob("*.[jJ][pP][gG]"))[::20]]
    assert len(images) >= 50
    found = differences(images, preprocess(size=(224, 224)))
    assert max(each.max() for each in found) <= 1
    assert np.mean([each.mean() for each in found]) < 0.001


def test_what_is_no_plain_jpeg_is_left_to_pillow() -> None:
    plain = photograph(0, 60, 40, 10)
    turned = Image.Exif()
    turned[0x0112] = 6
    png = io.BytesIO()
    plain.save(png, "PNG")
    whole = jpeg(plain)
    left = [
        png.getvalue(), jpeg(plain, exif=turned), jpeg(plain.convert("CMYK")), jpeg(plain, keep_rgb=True), whole[:-300],
        whole[:200] + b"\xff\xd9", b"none", b"", b"\xff\xd8\xff\xd9", jpeg(photograph(0, 61, 41, 10)),
    ]  # fmt: skip
    found = device_pixels([whole, *left, whole], preprocess(), CPU, max_pixels=60 * 40)
    assert [row for row, made in enumerate(found) if made is not None] == [0, len(left) + 1]
    assert device_pixels([whole], preprocess(by="nearest"), CPU, LIMIT) == [None]


def test_groups_bound_the_memory_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [jpeg(photograph(seed, 60 + seed, 40, 10)) for seed in range(5)]
    whole = [made.numpy().copy() for made in device_pixels(images, preprocess(), CPU, LIMIT) if made is not None]
    sizes: list[int] = []
    decode = on_device.decode_jpeg

    def counted(encoded: list[torch.Tensor], **options: Any) -> list[torch.Tensor]:
        sizes.append(len(encoded))
        return decode(encoded, **options)

    monkeypatch.setattr(on_device, "decode_jpeg", counted)
    monkeypatch.setattr(on_device, "AT_ONCE", 2 * 63 * 40)
    found = device_pixels(images, preprocess(), CPU, LIMIT)
    assert sizes == [2, 2, 1]
    assert all(np.array_equal(made, before) for made, before in zip(found, whole, strict=True))


def test_a_torchvision_that_cannot_decode_on_a_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("decode_jpegs_cuda: torchvision not compiled with nvJPEG support")

    monkeypatch.setattr(on_device, "decode_jpeg", refuse)
    with pytest.raises(InputProblem, match="built without nvJPEG") as caught:
        device_pixels([jpeg(photograph(0, 60, 40, 10))], preprocess(), CPU, LIMIT)
    assert (caught.value.where, caught.value.next_step) == ("params.yaml: extract.decode", "set it to pillow")


@pytest.fixture
def settings(project: Path, write_params: Callable[..., Path]) -> Callable[..., params.Params]:
    """Write params of a small encoder and of twelve photographs with some options of `extract`, and return them."""
    net = {"arch": "test_byobnet", "weights": "random", "input_size": 48, "layers": ["pooled"]}
    for label in ("a", "b"):
        folder = project / "data" / "raw" / "photos" / label
        folder.mkdir(parents=True)
        for seed in range(6):
            kind = "png" if seed == 3 else "jpg"
            photograph(seed + 10 * (label == "a"), 90, 70 + seed, 8).save(folder / f"{seed}.{kind}")

    def make(workers: int = 2, **options: object) -> params.Params:
        write_params(
            run={"workers": workers}, datasets={"files": {"photos": {"kind": "imagefolder", "path": "data/raw/photos"}}},
            targets=["photos"], encoders={"net": net, "again": net}, extract={"batch_size": 5, **options},
        )  # fmt: skip
        loaded = params.load()
        if not (project / "data" / "datasets").exists():
            ingest.main(loaded, "photos")
            for name in loaded.encoders:
                weights.main(loaded, name)
        return loaded

    return make


def test_the_stage_gives_near_features_whatever_the_workers_and_keeps_the_pixels_apart(
    settings: Callable[..., params.Params], project: Path
) -> None:
    def run(workers: int = 2, **options: object) -> np.ndarray:
        extract.main(settings(workers, **options), "net")
        found = np.array(FeatureSet.open("net", "photos", verify=True).layer("pooled"))
        shutil.rmtree(project / "data" / "features")
        return found

    kept = [run(predecode=True), run(predecode=True, decode="device")]
    assert len(list((project / "data" / "store" / "pixels").iterdir())) == 2
    assert len(list((project / "data" / "store" / "features").iterdir())) == 2
    np.testing.assert_allclose(kept[1], kept[0], rtol=0.02, atol=0.02)
    shutil.rmtree(project / "data" / "store")
    for workers in (0, 1, 3):
        assert np.array_equal(run(workers, decode="device"), kept[1])
        shutil.rmtree(project / "data" / "store")


@pytest.fixture
def job(settings: Callable[..., params.Params]) -> Job:
    return job_for(settings(decode="device"), "net", "photos", "cpu")


def test_pixels_in_order_and_one_message(job: Job) -> None:
    images = list(Dataset.open("photos").images())
    (batch,) = decoded(job, [images])
    (expected,) = decoded(replace(job, decode="pillow"), [images])
    assert (batch.int() - expected.int()).abs().max() <= MOST
    assert not np.array_equal(batch[0], batch[1])
    spoilt = [*images[:2], ("broken", images[0][1][:400])]
    with pytest.raises(InputProblem, match="image 'broken' cannot be decoded any more"):
        list(run_encoder(job, decoded(job, [spoilt])))
    with pytest.raises(InputProblem, match=r"cannot be decoded any more \(too large"):
        list(decoded(replace(job, max_pixels=100), [images]))
