"""The schemas of all result tables, one module a family."""

from __future__ import annotations

from stages.artifacts.schemas import answers, languages, probe, prune, rank
from stages.artifacts.schemas.schema import Column, Schema

SCHEMAS: dict[str, Schema] = {
    **rank.SCHEMAS,
    **prune.SCHEMAS,
    **probe.SCHEMAS,
    **languages.SCHEMAS,
    **answers.SCHEMAS,
}

__all__ = ["SCHEMAS", "Column", "Schema"]
