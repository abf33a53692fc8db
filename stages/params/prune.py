"""Section `prune`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from stages.params.section import Count, Fraction, Once, Section, Slug


class PrunePair(Section):
    """One source to prune for one target, seen through a surrogate trained on the whole source."""

    source: Slug
    target: Slug
    surrogate: Slug
    layer: str = "pooled"


class Prune(Section):
    """Pruning methods, and the grid of the proof that pre-trains again on what is kept."""

    pairs: Once[PrunePair] = []
    methods: Annotated[Once[str], Field(min_length=1)] = ["label_mapping", "feature_mapping", "random"]
    fractions: Annotated[Once[Fraction], Field(min_length=2)] = [0.2, 0.5]
    seeds: Count = 2
    tolerance: float = Field(default=0.01, ge=0)  # of downstream accuracy, for "as good as the full source"
