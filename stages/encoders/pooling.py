"""From a layer's output to one vector an image, or to the grid of its positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from stages.errors import InputProblem

GEM_POWER = 3.0  # Radenović, Tolias and Chum 2019, "Fine-tuning CNN image retrieval with no human annotation", section 3.2
GEM_FLOOR = 1e-6  # their own clamp, under which a negative activation counts as this


@dataclass(frozen=True)
class FeatureMap:
    """A layer's output: a vector [n, c], a map [n, c, h, w] or [n, h, w, c], or tokens [n, t, c]."""

    values: Tensor
    space: tuple[int, ...]  # the dimensions of the positions, none of a vector
    prefix: int  # class and register tokens that lead
    class_token: bool  # whether the first of them is a class token
    height_width: tuple[int, int] | None  # of the tokens behind the prefix, where they are known to lie on a grid

    @property
    def positions(self) -> Tensor:
        """Return the values without the tokens that stand for no place in the image."""
        return self.values[:, self.prefix :] if self.prefix else self.values


def mean(output: FeatureMap) -> Tensor:
    """Return the mean over positions [n, c]."""
    return output.positions.mean(dim=output.space) if output.space else output.values.clone()


def gem(output: FeatureMap) -> Tensor:
    """Return the generalised mean over positions [n, c], with `GEM_POWER`, in float32."""
    if not output.space:
        return output.values.clone()
    return output.positions.float().clamp(min=GEM_FLOOR).pow(GEM_POWER).mean(dim=output.space).pow(1 / GEM_POWER)


def class_token(output: FeatureMap) -> Tensor:
    """Return the class token [n, c]; raises InputProblem where there is none."""
    if not (output.class_token and output.prefix):
        raise InputProblem("has no class token here")
    return output.values[:, 0].clone()


def grid(output: FeatureMap) -> Tensor:
    """Return all positions: [n, h, w, c], or [n, t, c] of tokens that lie on no known grid.

    Raises:
        InputProblem: the output is one vector an image.
    """
    if not output.space:
        raise InputProblem("is one vector an image, not a grid")
    values = output.positions
    if output.space == (2, 3):
        values = values.permute(0, 2, 3, 1)
    elif output.height_width is not None:
        values = values.reshape(len(values), *output.height_width, -1)
    return values.clone().contiguous()


POOLS: dict[str, Callable[[FeatureMap], Tensor]] = {"class": class_token, "gem": gem}
