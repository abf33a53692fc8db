"""Section `rank`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from stages.params.section import Count, Once, Section


class Rank(Section):
    """Which transferability metrics are computed."""

    metrics: Annotated[Once[str], Field(min_length=1)]
    max_per_class: Count | None = None
