"""Section `probe`."""

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
