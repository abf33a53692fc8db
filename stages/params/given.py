"""Section `features`: features computed elsewhere, of any modality, which stand where an encoder's would."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from stages.params.section import LAYER, Section


def _layer(name: str) -> str:
    if not LAYER.match(name) or name == "probabilities":
        raise ValueError(f"{name!r} is no name of a layer: letters, digits, _ and ., and not `probabilities`")
    return name


LayerName = Annotated[str, AfterValidator(_layer)]


class GivenFeatures(Section):
    """Where the files are, and what their columns are called.

    `path` is a folder that holds `<dataset>.parquet`, `<dataset>.npy` or `<dataset>/<layer>.npy` for every dataset that
    needs features; or one such file, from which all datasets take their rows.
    """

    path: Path
    columns: dict[LayerName, str] = {}  # layer -> column, or name of the .npy; empty: the only one there is, as `pooled`
    id_column: str | None = "id"  # of a .parquet; null: the id is the row's number, as in a table without ids
    label_column: str | None = "label"  # compared with the dataset's where the .parquet has it; null: not compared

    @property
    def layers(self) -> list[str]:
        """Return the names of the layers, as an encoder has them."""
        return list(self.columns) or ["pooled"]

    @property
    def head_layer(self) -> str:
        """Return the layer that a linear head is fitted on: `pooled` where it is kept, else the last one named."""
        return "pooled" if "pooled" in self.layers else self.layers[-1]
