"""Section `prune`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stages.params.section import Count, Fraction, Once, Section, Slug


class PrunePair(Section):
    """One source to prune for one target, seen through a surrogate trained on the whole source.

    The proof pre-trains the surrogate's own architecture again by its own objective, unless `encoder` names another.
    """

    source: Slug
    target: Slug
    surrogate: Slug
    layer: str = "pooled"
    encoder: Slug | None = None


class Prune(Section):
    """Pruning methods, and the grid of the proof that pre-trains again on what is kept."""

    pairs: Once[PrunePair] = []
    methods: Annotated[Once[str], Field(min_length=1)] = ["label_mapping", "feature_mapping", "random"]
    fractions: Annotated[Once[Fraction], Field(min_length=2)] = [0.2, 0.5]
    seeds: Count = 2
    epochs: Count | None = None  # of each pre-training of the proof; None: as many as `pretrain` says
    modes: Annotated[Once[Literal["linear", "full"]], Field(min_length=1)] = ["linear", "full"]  # of adapting to the target
    tolerance: float = Field(default=0.01, ge=0)  # of downstream accuracy, for "as good as the full source"
