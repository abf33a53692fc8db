"""Photographs of several megapixels, rotated, grey and transparent, against Pillow and timm alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from timm.data import create_transform

from stages import extract, ingest, params, weights
from stages.artifacts.features import FeatureSet
from stages.encoders import load

SIDE = (3000, 2000)


@pytest.mark.parametrize("size", [128, 224])
def test_large_photographs(project: Path, write_params: Callable[..., Path], size: int) -> None:
    folder = project / "data" / "raw" / "photos"
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
    write_photographs(folder)
    net = {"arch": "mobilenetv1_100", "weights": "random", "input_size": size, "layers": ["pooled", "blocks.3@gem"]}
    write_params(
        datasets={"files": {"photos": {"kind": "imagefolder", "path": "data/raw/photos"}}}, targets=["photos"],
        encoders={"net": net}, extract={"batch_size": 2}, probe={"layer": "pooled"},
    )  # fmt: skip
    settings = params.load()
    ingest.main(settings, "photos")
    weights.main(settings, "net")
    extract.main(settings, "net")
    found = FeatureSet.open("net", "photos", verify=True)
    assert len(found.index) == 5

    model, card = load("net")
    transform = create_transform(
        card.input_size, interpolation=card.interpolation, crop_pct=card.crop_pct, mean=card.mean, std=card.std
    )
    for name, ours in zip(found.index["id"], found.layer("pooled"), strict=True):
        image = ImageOps.exif_transpose(Image.open(next(folder.rglob(Path(name).name))))
        if image.mode == "RGBA":
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        with torch.inference_mode():
            expected = model(transform(image.convert("RGB"))[None])[0].numpy()
        cosine = ours @ expected / np.linalg.norm(ours) / np.linalg.norm(expected)
        assert cosine > 0.9999, name
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4)


def write_photographs(folder: Path) -> None:
    """Write five images of 6 megapixels: plain, turned by EXIF in two ways, grey, and half transparent."""
    random = np.random.default_rng(0)
    small = Image.fromarray(random.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    large = small.resize(SIDE, Image.Resampling.BICUBIC)
    large.save(folder / "a" / "plain.jpg")
    for orientation in (6, 3):
        exif = Image.Exif()
        exif[0x0112] = orientation
        large.save(folder / "a" / f"turned{orientation}.jpg", exif=exif)
    large.convert("L").save(folder / "b" / "grey.jpg")
    alpha = Image.linear_gradient("L").resize(SIDE)
    Image.merge("RGBA", [*large.split(), alpha]).save(folder / "b" / "alpha.png", compress_level=1)
