"""Sections `datasets` and `ingest`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from stages.params.section import Count, Fraction, Section, Slug


class DatasetEntry(BaseModel):
    """One dataset: its kind, and the options of that kind, which the kind's own module validates."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: str

    @property
    def options(self) -> dict[str, Any]:
        """Return everything but the kind."""
        return dict(self.model_extra or {})


class Datasets(Section):
    """Datasets in two groups, because DVC watches `path` in the second and knows no optional dependency."""

    packaged: dict[Slug, DatasetEntry] = {}
    files: dict[Slug, DatasetEntry] = {}


class Ingest(Section):
    """Limits of ingest and the shares of the splits where the source brings none."""

    max_quarantine_fraction: float = Field(default=0.05, ge=0, le=1)
    max_pixels: Count = 50_000_000
    max_bytes: Count = 100_000_000
    shard_megabytes: Count = 128
    val_fraction: Fraction = 0.1
    test_fraction: Fraction = 0.2
