"""Sections `probe` and `simulation`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stages.params.section import Count, Once, Section

Positive = Annotated[float, Field(gt=0)]


class Probe(Section):
    """Learning curves of the heads on nested draws."""

    heads: Annotated[Once[str], Field(min_length=1)] = ["naive_bayes", "logistic"]
    layer: str = "pooled"
    seeds: Count = 5
    sizes: Annotated[Once[Count], Field(min_length=3)] | None = None  # None: a log grid up to all data
    per_class: Annotated[Once[Count], Field(min_length=3)] | None = None  # examples of every class, instead of sizes
    c: Positive | Literal["auto"] = 1.0  # auto: chosen from c_grid by validation inside every draw
    c_grid: Annotated[Once[Positive], Field(min_length=2)] = [0.01, 0.1, 1.0, 10.0, 100.0]
    epsilon: float = Field(default=0.01, gt=0)  # distance to a head's own asymptote that counts as reached

    @model_validator(mode="after")
    def _one_kind_of_draw(self) -> Self:
        if self.sizes is not None and self.per_class is not None:
            raise ValueError("probe.per_class: name either sizes or per_class, not both")
        return self


class Simulation(Section):
    """Gaussian mixtures on which the examples that each head needs are counted."""

    classes: Annotated[Once[Annotated[int, Field(ge=2, le=20)]], Field(min_length=1)] = [2, 3]
    dims: Annotated[Once[Annotated[int, Field(ge=2)]], Field(min_length=1)] = [100, 200, 400]
    seeds: Count = 5
    epsilon: float = Field(default=0.01, gt=0, lt=1)  # above Bayes error, that counts as reached
    max_m: Annotated[int, Field(ge=40)] = 20_000  # 40: two examples of each of 20 classes
    test_points: Annotated[int, Field(ge=100)] = 10_000
    c: float = Field(default=1.0, gt=0)
