"""Sections `probe` and `simulation`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from stages.params.section import Count, Once, Section


class Probe(Section):
    """Learning curves of the heads on nested draws."""

    heads: Annotated[Once[str], Field(min_length=1)] = ["naive_bayes", "logistic"]
    layer: str = "pooled"
    seeds: Count = 5
    sizes: Annotated[Once[Count], Field(min_length=3)] | None = None  # None: a log grid up to all data
    c: float = Field(default=1.0, gt=0)
    epsilon: float = Field(default=0.01, gt=0)  # distance to a head's own asymptote that counts as reached


class Simulation(Section):
    """Gaussian mixtures on which the examples that each head needs are counted."""

    classes: Annotated[Once[Annotated[int, Field(ge=2, le=20)]], Field(min_length=1)] = [2, 3]
    dims: Annotated[Once[Annotated[int, Field(ge=2)]], Field(min_length=1)] = [100, 200, 400]
    seeds: Count = 5
    epsilon: float = Field(default=0.01, gt=0, lt=1)  # above Bayes error, that counts as reached
    max_m: Annotated[int, Field(ge=40)] = 20_000  # 40: two examples of each of 20 classes
    test_points: Annotated[int, Field(ge=100)] = 10_000
    c: float = Field(default=1.0, gt=0)
