"""What the report's figures share: Altair charts, hoverable, sized by the page."""

from __future__ import annotations

from typing import Any, TypeAlias

import altair as alt
import polars as pl

Figure: TypeAlias = alt.LayerChart | alt.FacetChart

HEIGHT = 260  # pixels of one panel

NEUTRAL = "#7a8896"  # seen on white and on black

PANEL = 250  # width of one panel of several, pixels


def data(frame: pl.DataFrame) -> alt.Data:
    return alt.Data(values=frame.to_dicts())


def column(name: str, title: str, kind: str = "Q", **scale: Any) -> dict[str, Any]:
    return {"shorthand": f"{name}:{kind}", "title": title, **({"scale": alt.Scale(**scale)} if scale else {})}
