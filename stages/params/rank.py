"""Section `rank`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stages.params.section import Count, Once, Section


class Rank(Section):
    """Which transferability metrics are computed."""

    metrics: Annotated[Once[str], Field(min_length=1)]
    max_per_class: Count | None = None
    device: Literal["cpu", "cuda"] = "cpu"  # values differ between them in their last digits
