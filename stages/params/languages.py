"""Section `languages`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from stages.errors import nearest
from stages.params.section import Count, Once, Section

# YAML reads the code of Norwegian as "false".
Language = Annotated[str, BeforeValidator(lambda written: "no" if written is False else written)]
NEEDED = "leave_one_target_out"


class Serve(Section):
    """The target languages to serve with few sources, and what these may cost."""

    targets: Once[Language] = []  # all that were measured
    sources: Once[Language] = []  # all that were measured
    costs: dict[str, Annotated[float, Field(gt=0)]] = {}  # of a source's labels; 1 where nothing is said
    budget: float = Field(default=3, gt=0)
    tolerance: float = Field(default=0.02, ge=0)  # of the predicted score, for "as good as the best source"


class Languages(Section):
    """The cross-lingual table: what is measured (tasks, languages, target examples), what joins it; and how it is read."""

    table: Path | None = None  # CSV or parquet below data/raw/languages; with `tasks: []` nothing else is in the table
    texts: Path | None = None  # language, text: of the table's languages, for the features that read texts
    tasks: Once[str]  # without a task and a table nothing is asked of languages, and their tables are empty
    languages: Annotated[Once[Language], Field(min_length=3)]
    shots: Once[Annotated[int, Field(ge=0)]] = [0, 10, 30, 100]
    seeds: Count = 2
    max_source: Count = 1000
    features: Once[str] = []
    goal: float = Field(default=0.8, gt=0, lt=1)  # the score that n_for_goal aims at
    models: Once[str] = []  # all registered ones, and `nearest_<x>` for each distance
    protocols: Once[str] = ["leave_one_target_out", "leave_one_family_out", "seen_target", "optimistic"]
    ranker: str = "chosen_by_regret"  # the model whose order of sources is the answer
    serve: Serve = Serve()

    @model_validator(mode="after")
    def _answers_exist(self) -> Languages:
        if self.texts is not None and self.table is None:
            raise ValueError("texts: belongs to a `table`, and there is none; the measured tasks have texts of their own")
        if NEEDED not in self.protocols:
            raise ValueError(f"protocols: leaves out {NEEDED!r}, by which sources are ranked")
        if not self.ranker.startswith("chosen") and self.models and self.ranker not in self.models:
            raise ValueError(f"ranker: {self.ranker!r} is not among the models asked for; {nearest(self.ranker, self.models)}")
        return self
