"""Pixels against timm's own evaluation transform."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from stages.encoders import Preprocess
from stages.encoders.build import DataConfig

CONFIGS = [
    DataConfig((3, 32, 32), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bicubic", 1.0),
    DataConfig((3, 224, 224), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", 0.875),
    DataConfig((1, 48, 48), (0.4,), (0.2,), "nearest", 0.9),
    DataConfig((3, 40, 56), (0.1, 0.2, 0.3), (1.0, 1.0, 1.0), "bicubic", 0.95),
]


def picture(width: int, height: int, mode: str) -> Image.Image:
    random = np.random.default_rng([width, height])
    small = Image.fromarray(random.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BILINEAR).convert(mode)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize(("width", "height"), [(8, 8), (100, 100), (301, 47), (50, 333)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_it_is_timms_transform(config: DataConfig, width: int, height: int, mode: str) -> None:
    image = picture(width, height, mode)
    preprocess = Preprocess.of(config)
    pixels = preprocess.pixels(image)
    assert pixels.dtype == np.uint8
    assert pixels.shape == config.input_size
    ours = preprocess.normalise(torch.from_numpy(pixels)[None])[0]
    timms = create_transform(
        config.input_size, is_training=False, mean=config.mean, std=config.std, interpolation=config.interpolation,
        crop_pct=config.crop_pct,
    )(image.convert("L" if config.input_size[0] == 1 else "RGB"))  # fmt: skip
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, timms, rtol=1e-5, atol=1e-5)


def test_normalising_is_the_definition() -> None:
    config = CONFIGS[0]
    batch = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    expected = np.stack([(np.arange(256) / 255 - mean) / std for mean, std in zip(config.mean, config.std, strict=True)])
    ours = Preprocess(config).normalise(batch)[1].reshape(3, 256).numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_the_image_is_left_as_it_was() -> None:
    image = picture(60, 40, "RGB")
    before = image.tobytes()
    Preprocess(CONFIGS[2]).pixels(image)
    assert (image.tobytes(), image.size, image.mode) == (before, (60, 40), "RGB")
