"""Adversarial training by projected gradient descent (Madry et al., arXiv 1706.06083), L-infinity, on the source's labels.

Every batch is replaced by the images that the attack finds within `epsilon` of it, and cross-entropy is descended on
those. The attack starts at a uniform point of the ball and takes `steps` of the gradient's sign. It sees the model in
evaluation mode, so that its passes leave the running statistics of batch norms alone. A step costs `steps` + 1 forward
and backward passes instead of one: that many times the training time of `supervised`.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from stages import seeds
from stages.objectives.contract import Measured, Objective, classified
from stages.params import Count, Section
from stages.training import Loss, Normalise, Normalising

BATCH = 256  # images attacked at once when robustness is measured


class Options(Section):
    """The attack, in levels of a pixel, 0 to 255.

    The default is the usual 8 of 255 for photographs; drawn characters of two tones take far more (a third of the range
    is usual for digits).
    """

    epsilon: float = Field(default=8.0, gt=0, le=255)  # radius of the ball
    steps: Count = 3
    step_size: float | None = Field(
        default=None, gt=0
    )  # None: 2.5 epsilon / steps, which can cross the ball (appendix of the paper)

    @property
    def stride(self) -> float:
        """Return the length of one step."""
        return 2.5 * self.epsilon / self.steps if self.step_size is None else self.step_size


def attack(
    model: nn.Module, pixels: Tensor, labels: Tensor, normalise: Normalise, options: Options, generator: torch.Generator
) -> Tensor:
    """Return images [n, c, h, w], float in 0 .. 255 and within epsilon of `pixels`, that raise the model's cross-entropy.

    Args:
        model: maps normalised images to logits; its mode and gradients are left as they were.
        pixels: uint8 or float [n, c, h, w], 0 .. 255.
        labels: int64 [n].
        normalise: maps pixels to what the model takes; differentiable.
        options: radius, steps, step size.
        generator: of the starting points, on the device of `pixels`.
    """
    clean = pixels if pixels.is_floating_point() else pixels.float()
    low, high = (clean - options.epsilon).clamp(min=0), (clean + options.epsilon).clamp(max=255)
    training = model.training
    model.eval()
    noise = torch.rand(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
    found = low + (high - low) * noise
    try:
        for _ in range(options.steps):
            found.requires_grad_(True)
            loss = functional.cross_entropy(model(normalise(found)), labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, found)
            found = (found.detach() + options.stride * gradient.sign()).clamp(low, high)
    finally:
        model.train(training)
    return found.detach()


def robust_loss(options: Options) -> Loss:
    """Return the loss: cross-entropy on the attacked batch."""

    def loss(model: nn.Module, pixels: Tensor, labels: Tensor, normalise: Normalise, generator: torch.Generator) -> Tensor:
        attacked = attack(model, pixels, labels, normalise, options, generator)
        return functional.cross_entropy(model(normalise(attacked)), labels)

    return loss


def robust_accuracy(
    options: Options, model: nn.Module, pixels: Tensor, labels: Tensor, preprocess: Normalising, device: torch.device, seed: int
) -> float:
    """Return the share of images [n >= 1] that the model still classifies correctly under the attack."""
    model.to(device).eval()
    generator = torch.Generator(device).manual_seed(seeds.integer_seed(seed, "attack"))
    right = 0
    for start in range(0, len(pixels), BATCH):
        batch, truth = pixels[start : start + BATCH].to(device), labels[start : start + BATCH].to(device)
        attacked = attack(model, batch, truth, preprocess.normalise, options, generator)
        with torch.inference_mode():
            right += int((model(preprocess.normalise(attacked)).argmax(dim=1) == truth).sum())
    return right / len(pixels)


def measure(
    options: Options, model: nn.Module, pixels: Tensor, labels: Tensor, preprocess: Normalising, device: torch.device, seed: int
) -> Measured:
    """Return accuracy on held-out images as they are, and under the attack that the model was trained on."""
    found = robust_accuracy(options, model, pixels, labels, preprocess, device, seed) if len(pixels) else None
    return {**classified(options, model, pixels, labels, preprocess, device, seed), "robust_accuracy": found}


OBJECTIVE = Objective(options=Options, loss=robust_loss, measure=measure)
