"""What ingest understands: one module a kind, each a model of its options and a function that opens the source."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from stages.datasets.contract import DatasetKind, Labels, Raw, Source
from stages.errors import InputProblem, nearest
from stages.params import DatasetEntry, Section, explain
from stages.registry import Registry

KINDS: Registry[DatasetKind[Any]] = Registry(
    "dataset kind",
    {
        "imagefolder": "stages.datasets.imagefolder:KIND",
        "parquet": "stages.datasets.parquet:KIND",
        "table": "stages.datasets.table:KIND",
        "torchvision": "stages.datasets.from_torchvision:KIND",
        "sklearn": "stages.datasets.from_sklearn:KIND",
        "glyphs": "stages.datasets.glyphs:KIND",
    },
)


def validate_entry(name: str, entry: DatasetEntry) -> Section:
    """Return the options of the dataset `name` as its kind's own model.

    Raises:
        InputProblem: the kind does not exist, or its options are wrong; names the nearest valid choice.
    """
    where, next_step = f"params.yaml: datasets.{name}", "edit params.yaml, then `transferscope check`"
    if entry.kind not in KINDS:
        raise InputProblem(f"kind: there is no {entry.kind!r}; {nearest(entry.kind, KINDS)}", where=where, next_step=next_step)
    model: type[Section] = KINDS[entry.kind].options
    try:
        return model.model_validate(entry.options)
    except ValidationError as error:
        raise InputProblem(explain(error, model), where=where, next_step=next_step) from None


__all__ = ["KINDS", "DatasetKind", "Labels", "Raw", "Source", "validate_entry"]
