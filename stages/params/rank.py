"""Section `rank`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from stages.params.section import Count, Once, Section


class Rank(Section):
    """Which transferability metrics are computed, and accuracies that are known already."""

    metrics: Annotated[Once[str], Field(min_length=1)]
    max_per_class: Count | None = None
    device: Literal["cpu", "cuda"] = "cpu"  # values differ between them in their last digits
    accuracies: Path | None = None  # of your own fine-tuning: encoder, dataset, accuracy; below data/raw/accuracies
