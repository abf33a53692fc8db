"""Section `languages`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from stages.errors import nearest
from stages.params.section import Count, Once, Section

NEEDED = "leave_one_target_out"


class Serve(Section):
    """The target languages to serve with few sources, and what these may cost."""

    targets: Once[str] = []  # all that were measured
    sources: Once[str] = []  # all that were measured
    costs: dict[str, Annotated[float, Field(gt=0)]] = {}  # of a source's labels; 1 where nothing is said
    budget: float = Field(default=3, gt=0)
    tolerance: float = Field(default=0.02, ge=0)  # of the predicted score, for "as good as the best source"


class Languages(Section):
    """The measured cross-lingual table: tasks, languages, target examples; and how it is read."""

    tasks: Annotated[Once[str], Field(min_length=1)]
    languages: Annotated[Once[str], Field(min_length=3)]
    shots: Once[Annotated[int, Field(ge=0)]] = [0, 10, 30, 100]
    seeds: Count = 2
    max_source: Count = 1000
    features: Once[str] = []
    goal: float = Field(default=0.8, gt=0, lt=1)  # the score that n_for_goal aims at
    models: Once[str] = []  # all registered ones, and `nearest_<x>` for each distance
    protocols: Once[str] = ["leave_one_target_out", "leave_one_family_out", "seen_target", "optimistic"]
    ranker: str = "chosen"  # the model whose order of sources is the answer
    serve: Serve = Serve()

    @model_validator(mode="after")
    def _answers_exist(self) -> Languages:
        if NEEDED not in self.protocols:
            raise ValueError(f"protocols: leaves out {NEEDED!r}, by which sources are ranked")
        if self.ranker != "chosen" and self.models and self.ranker not in self.models:
            raise ValueError(f"ranker: {self.ranker!r} is not among the models asked for; {nearest(self.ranker, self.models)}")
        return self
