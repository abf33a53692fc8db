"""Section `languages`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from stages.params.section import Count, Once, Section


class Languages(Section):
    """The measured cross-lingual table: tasks, languages, target examples."""

    tasks: Annotated[Once[str], Field(min_length=1)]
    languages: Annotated[Once[str], Field(min_length=3)]
    shots: Once[Annotated[int, Field(ge=0)]] = [0, 10, 30, 100]
    seeds: Count = 2
    max_source: Count = 1000
    features: Once[str] = []
    goal: float = Field(default=0.8, gt=0, lt=1)  # the score that n_for_goal aims at
