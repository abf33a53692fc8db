"""Projected gradient descent: it stays in its ball, finds the worst point where one is known, and training resists it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from stages import encoders, ingest, params, training
from stages.artifacts.dataset import Dataset
from stages.objectives.adversarial import OBJECTIVE, Options, attack, robust_accuracy

CPU = torch.device("cpu")


def scaled(pixels: Tensor) -> Tensor:
    return (pixels - 128) / 64


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(classes: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(48, classes)).double()


def images(n: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    draws = np.random.default_rng(0)
    pixels = draws.integers(0, 256, (n, 3, 4, 4))
    return torch.from_numpy(pixels).to(dtype), torch.from_numpy(draws.integers(0, 2, n))


def test_a_linear_classifier_meets_its_worst_point() -> None:
    """Of two classes the loss is monotone in every pixel, so the worst point is a corner of the clipped ball."""
    model, (pixels, labels) = linear(2), images(40)
    gap = model[1].weight[1] - model[1].weight[0]  # what a pixel adds to the second class
    away = torch.where(labels[:, None] == 1, -gap.sign(), gap.sign()).view(pixels.shape)
    corner = (pixels + 12 * away).clamp(0, 255).detach()
    found = attack(model, pixels, labels, scaled, Options(epsilon=12, steps=10), stream())
    assert torch.equal(found, corner)


@pytest.mark.parametrize(("epsilon", "steps", "step_size"), [(8, 3, None), (0.5, 1, 200), (255, 5, 3), (100, 2, None)])
def test_the_attack_stays_in_its_ball_and_in_the_range_of_pixels(epsilon: float, steps: int, step_size: float | None) -> None:
    pixels, labels = images(20, torch.uint8)
    model = encoders.build("test_byobnet", {"in_chans": 3}, num_classes=2, seed=0)
    options = Options(epsilon=epsilon, steps=steps, step_size=step_size)
    found = attack(model, pixels.repeat(1, 1, 8, 8), labels, scaled, options, stream())
    clean = pixels.repeat(1, 1, 8, 8).float()
    assert float((found - clean).abs().max()) <= epsilon * (1 + 1e-6)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 255
    assert not torch.equal(found, clean)


def test_more_steps_raise_the_loss_and_the_model_is_left_as_it_was() -> None:
    pixels, labels = images(60)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2)
        ).double()
    body.train()
    before = {name: tensor.clone() for name, tensor in body.state_dict().items()}
    losses = []
    for steps in (1, 4, 16):
        found = attack(body, pixels, labels, scaled, Options(epsilon=10, steps=steps), stream())
        assert body.training
        body.eval()
        with torch.no_grad():
            losses.append(float(functional.cross_entropy(body(scaled(found)), labels)))
            clean = float(functional.cross_entropy(body(scaled(pixels)), labels))
        body.train()
    assert clean < losses[0] < losses[1] < losses[2]
    assert all(torch.equal(tensor, before[name]) for name, tensor in body.state_dict().items())
    assert all(parameter.grad is None for parameter in body.parameters())


def test_the_attack_repeats_itself_with_its_generator_alone() -> None:
    pixels, labels = images(5)
    model, options = linear(2), Options(epsilon=30, steps=1, step_size=1)
    first = attack(model, pixels, labels, scaled, options, stream(0))
    torch.manual_seed(7)
    assert torch.equal(first, attack(model, pixels, labels, scaled, options, stream(0)))
    assert not torch.equal(first, attack(model, pixels, labels, scaled, options, stream(1)))


def test_training_against_the_attack_resists_it(write_params: Callable[..., Path]) -> None:
    write_params()
    ingest.main(params.load(), "digits")
    dataset = Dataset.open("digits")
    options = Options(epsilon=48, steps=3)
    recipe = training.Recipe(epochs=5, batch_size=64, learning_rate=3e-3, weight_decay=0.05)
    robust = {}
    for name, loss in (("plain", None), ("adversarial", OBJECTIVE.loss(options))):
        model = encoders.build("test_byobnet", {"in_chans": 1}, num_classes=10, seed=0)
        preprocess = encoders.Preprocess.of(encoders.data_config(params.load().encoder("tiny"), model))
        pixels, labels = training.load_pixels(dataset, "train", preprocess)
        training.train(model, pixels, labels, preprocess, recipe, seed=0, device=CPU, loss=loss)
        held_out, truth = training.load_pixels(dataset, "test", preprocess)
        robust[name] = robust_accuracy(options, model, held_out, truth, preprocess, CPU, seed=0)
        told = OBJECTIVE.measure(options, model, held_out, truth, preprocess, CPU, 0)
        assert told["robust_accuracy"] == robust[name]
        assert told["accuracy"] is not None
        assert told["accuracy"] >= robust[name]
    assert robust["adversarial"] > robust["plain"] + 0.2, robust
