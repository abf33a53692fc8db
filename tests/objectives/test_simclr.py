"""SimCLR: the loss is its definition, views stay images, and what is learned without labels tells the classes apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from stages import encoders, training
from stages.objectives import OBJECTIVES
from stages.objectives.simclr import PROJECTION, Contrast, Options, nt_xent, view

CPU = torch.device("cpu")


def by_definition(first: NDArray[np.float64], second: NDArray[np.float64], temperature: float) -> float:
    """Equation 1, one pair of views at a time."""
    z = [row / math.sqrt(sum(row**2)) for row in np.concatenate([first, second])]
    n = len(first)
    total = 0.0
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        others = sum(math.exp(z[i] @ z[k] / temperature) for k in range(2 * n) if k != i)
        total -= math.log(math.exp(z[i] @ z[j] / temperature) / others)
    return total / (2 * n)


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_the_loss_is_its_definition(n: int, temperature: float) -> None:
    stream = np.random.default_rng(n)
    first, second = stream.normal(size=(2, n, 5)) * 30 + 4  # the scale and the offset count for nothing but direction
    found = nt_xent(torch.from_numpy(first), torch.from_numpy(second), temperature)
    assert float(found) == pytest.approx(by_definition(first, second, temperature), abs=1e-12)


def test_the_loss_of_known_cases() -> None:
    same = torch.ones(4, 3, dtype=torch.float64)
    assert float(nt_xent(same, same, 0.5)) == pytest.approx(math.log(7))  # nothing to tell 8 equal views apart
    apart = torch.eye(4, dtype=torch.float64)  # a view is 1 from its partner, 0 from the six others
    assert float(nt_xent(apart, 5 * apart, 1.0)) == pytest.approx(math.log(math.e + 6) - 1)
    assert float(nt_xent(same[:1], -same[:1], 0.1)) == 0  # one image: its partner is all there is


def test_views_are_images_that_repeat_with_the_generator() -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (16, 3, 24, 20), dtype=np.uint8))

    def made(seed: int, **options: float | bool) -> Tensor:
        return view(pixels, Options(**options), torch.Generator().manual_seed(seed))  # type: ignore[arg-type]

    before = torch.random.get_rng_state()
    one = made(0)
    assert torch.equal(before, torch.random.get_rng_state())
    assert one.shape == pixels.shape
    assert one.dtype == torch.float32
    assert float(one.min()) >= 0
    assert float(one.max()) <= 255
    assert torch.equal(one, made(0))
    assert not torch.equal(one, made(1))


def test_a_crop_keeps_the_order_of_pixels_and_half_of_the_views_are_mirrored() -> None:
    ramp = torch.arange(9, dtype=torch.uint8).mul(20).expand(64, 1, 9, 9).contiguous()  # rises to the right
    rises = []
    for mirror in (False, True):
        made = view(ramp, Options(distortion=0, mirror=mirror), torch.Generator().manual_seed(5))
        assert float((made - made[:, :, :1]).abs().max()) < 1e-3  # no row differs from another
        rises.append(made[:, 0, 4, -1] > made[:, 0, 4, 0])
    assert bool(rises[0].all())
    assert 16 < int(rises[1].sum()) < 48


def test_a_fifth_of_the_colour_images_turns_grey() -> None:
    colour = torch.tensor([200, 100, 40], dtype=torch.uint8).view(1, 3, 1, 1).expand(1000, 3, 4, 4).contiguous()
    made = view(colour, Options(distortion=0), torch.Generator().manual_seed(0))[:, :, 0, 0]  # (n, 3)
    grey = (made - made[:, :1]).abs().amax(dim=1) < 1e-3
    assert 150 < int(grey.sum()) < 250
    expected = 0.299 * 200 + 0.587 * 100 + 0.114 * 40
    assert torch.allclose(made[grey], torch.full_like(made[grey], expected), atol=1e-3)
    assert torch.allclose(made[~grey], torch.tensor([200.0, 100.0, 40.0]).expand_as(made[~grey]), atol=1e-3)


def test_brightness_and_contrast_are_factors_within_their_bounds() -> None:
    grey = torch.full((500, 1, 4, 4), 100, dtype=torch.uint8)
    levels = view(grey, Options(distortion=0.3), torch.Generator().manual_seed(0))[:, 0, 0, 0]
    assert 69.9 < float(levels.min()) < 72  # a flat image has no contrast to change
    assert 128 < float(levels.max()) < 130.1


@pytest.mark.parametrize("arch", ["test_byobnet", "test_vit", "test_convnext2", "test_resnet", "mobilenetv3_small_050"])
def test_the_projection_fits_what_the_encoder_gives(arch: str) -> None:
    size = {"img_size": 32} if arch == "test_vit" else {}
    with torch.inference_mode():
        both = [
            Contrast(encoders.build(arch, {"in_chans": 1, **size}, num_classes=0, seed=0), seed).eval()(
                torch.ones(2, 1, 32, 32)
            )
            for seed in (0, 0, 1)
        ]
    assert both[0].shape == (2, PROJECTION)
    assert torch.equal(both[0], both[1])
    assert not torch.equal(both[0], both[2])


class Plain:
    def normalise(self, batch: Tensor) -> Tensor:
        return (batch.float() - 128) / 64


def blobs(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noise with stripes of four spacings [n, 1, 16, 16] at a random phase: no pixel alone tells the class."""
    stream = np.random.default_rng(seed)
    labels = stream.integers(0, 4, n)
    y = np.arange(16)[None, :, None]
    wave = np.sin((0.5 + 0.6 * labels)[:, None, None] * y + stream.uniform(0, 2 * np.pi, n)[:, None, None])
    pixels = np.clip(128 + 60 * wave + 30 * stream.normal(size=(n, 16, 16)), 0, 255)
    return torch.from_numpy(pixels[:, None].astype(np.uint8)), torch.from_numpy(labels)


class Small(nn.Sequential):
    """A convolutional encoder that says its width as timm's do."""

    num_features = 32

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            super().__init__(
                nn.Conv2d(1, 16, 5, 2, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32),
                nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            )  # fmt: skip


def test_what_is_learned_without_labels_tells_classes_apart() -> None:
    objective, options = OBJECTIVES["simclr"], Options(smallest_crop=0.6)
    pixels, labels = blobs(512, 0)
    other, truth = blobs(400, 1)

    def probed(model: nn.Module) -> float:
        few = training.predict(model, pixels[:40], Plain(), CPU).numpy()
        head = LogisticRegression(max_iter=1000).fit(few, labels[:40])
        return float(head.score(training.predict(model, other, Plain(), CPU).numpy(), truth))

    model = Small()
    before = probed(model)
    recipe = training.Recipe(epochs=12, batch_size=64, learning_rate=3e-3, weight_decay=0.01)
    log = training.train(
        objective.wrap(model, 0), pixels, torch.zeros(512, dtype=torch.int64), Plain(), recipe, seed=0, device=CPU,
        loss=objective.loss(options),
    )  # fmt: skip
    assert log.final_loss < math.log(127) - 0.5  # 127 others, none of them alike, would be the logarithm
    assert probed(model) > before + 0.1
