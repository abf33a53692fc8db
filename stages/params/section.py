"""What every section of params.yaml is made of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

PARAMS_FILE = Path("params.yaml")

SLUG = re.compile(r"^[a-z0-9_]+$")
LAYER = re.compile(r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$")

EDIT = f"edit {PARAMS_FILE}, then `transferscope check`"


def _slug(name: str) -> str:
    if not SLUG.match(name):
        suggestion = re.sub(r"[^a-z0-9_]+", "_", name.lower()).strip("_")
        raise ValueError(f"{name!r} is not a name of lower-case letters, digits and _; try {suggestion!r}")
    return name


def _once(items: list[Any]) -> list[Any]:
    twice = [item for index, item in enumerate(items) if item in items[:index]]
    if twice:
        raise ValueError(f"{twice[0]!r} is named twice")
    return items


T = TypeVar("T")

Slug = Annotated[str, AfterValidator(_slug)]

Once = Annotated[list[T], AfterValidator(_once)]

Fraction = Annotated[float, Field(gt=0, lt=1)]

Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Base of every section: unknown keys are mistakes, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)
