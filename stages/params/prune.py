"""Section `prune`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from stages.params.section import Count, Fraction, Once, Section, Slug

CLUSTERS = "_clusters"  # how the names of methods end that run once for each number of clusters


class PrunePair(Section):
    """One source to prune for one target, seen through a surrogate trained on the whole source.

    The proof pre-trains the surrogate's own architecture again by its own objective, unless `encoder` names another.
    """

    source: Slug
    target: Slug
    surrogate: Slug
    layer: str = "pooled"
    encoder: Slug | None = None


class Combination(Section):
    """One answer for several targets of one source, each of which is among the pairs.

    `votes` adds up shares of votes, each target's times its weight; `union` keeps what any of the targets keeps.
    """

    source: Slug
    targets: Annotated[Once[Slug], Field(min_length=2)]
    by: Literal["votes", "union"] = "votes"
    weights: dict[Slug, Annotated[float, Field(gt=0)]] = {}  # 1 for a target that is not named


class Prune(Section):
    """Pruning methods, and the grid of the proof that pre-trains again on what is kept."""

    pairs: Once[PrunePair] = []
    methods: Annotated[Once[str], Field(min_length=1)] = ["label_mapping", "feature_mapping", "random"]
    clusters: Annotated[Once[Count], Field(min_length=1)] = [100]
    combine: dict[Slug, Combination] = {}
    fractions: Annotated[Once[Fraction], Field(min_length=2)] = [0.2, 0.5]
    seeds: Count = 2
    epochs: Count | None = None  # of each pre-training of the proof; None: as many as `pretrain` says
    modes: Annotated[Once[Literal["linear", "full"]], Field(min_length=1)] = ["linear", "full"]  # of adapting to the target
    tolerance: float = Field(default=0.01, ge=0)  # of downstream accuracy, for "as good as the full source"

    @model_validator(mode="before")
    @classmethod
    def _one_method_for_each_number_of_clusters(cls, written: Any) -> Any:
        """Name `feature_mapping_clusters` at 50 and 200 clusters `feature_mapping_clusters_50` and `..._200`.

        All stages thus see the methods under the names that their artifacts have.
        """
        if not isinstance(written, dict) or not isinstance(written.get("methods"), list):
            return written
        numbers = written.get("clusters", cls.model_fields["clusters"].default)
        if not isinstance(numbers, list):
            return written
        methods = [
            name
            for method in written["methods"]
            for name in ([f"{method}_{k}" for k in numbers] if str(method).endswith(CLUSTERS) else [method])
        ]
        return {**written, "methods": methods}

    @field_validator("pairs")
    @classmethod
    def _each_pair_once(cls, pairs: list[PrunePair]) -> list[PrunePair]:
        for index, pair in enumerate(pairs):
            if any((pair.source, pair.target) == (other.source, other.target) for other in pairs[:index]):
                raise ValueError(f"{pair.source} -> {pair.target} is listed twice")
        return pairs

    @model_validator(mode="after")
    def _combinations_are_of_pairs(self) -> Prune:
        for name, wanted in self.combine.items():
            missing = set(wanted.targets) - {pair.target for pair in self.pairs if pair.source == wanted.source}
            if missing:
                raise ValueError(f"combine.{name}: {wanted.source} -> {sorted(missing)[0]} is not among the pairs")
            unknown = set(wanted.weights) - set(wanted.targets)
            if unknown:
                raise ValueError(f"combine.{name}.weights: {sorted(unknown)[0]} is not among its targets")
            if len({(pair.surrogate, pair.layer) for pair in self.combined(name)}) > 1:
                raise ValueError(f"combine.{name}: its pairs have different surrogates or layers, so their groups differ")
        return self

    def combined(self, name: str) -> list[PrunePair]:
        """Return the pairs that a combination is made of, in the order of its targets."""
        wanted = self.combine[name]
        by_target = {pair.target: pair for pair in self.pairs if pair.source == wanted.source}
        return [by_target[target] for target in wanted.targets]
