"""The contact sheet as one self-contained page."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

PAGE = Path(__file__).with_name("page.html")
SMALL = 64  # pixels of a side up to which an image is shown with its pixels, not smoothed


@dataclass(frozen=True)
class Shown:
    """One image on the sheet; `picture` is a data URI, or None where the dataset has no images."""

    name: str
    label: str | None
    split: str | None
    picture: str | None
    side: int  # pixels, the longer one
    distance: float | None = None  # of the image asked for: none


def page(asked: Shown, found: Sequence[Shown], *, encoder: str, dataset: str, layer: str, among: str) -> str:
    """Return the page's HTML, which needs no network: the pictures are inside."""
    alike = sum(shown.label == asked.label for shown in found)
    summary = f"{len(found)} nearest of {among}."
    if asked.label is None and found:
        label, number = Counter(shown.label for shown in found).most_common(1)[0]
        summary += f" The most frequent label among them is {label}, of {number}."
    elif found:
        summary += f" {alike} of them {'has' if alike == 1 else 'have'} its label, {asked.label}."
    return Template(PAGE.read_text(encoding="utf-8")).substitute(
        title=html.escape(f"Nearest to {asked.name}"),
        how=html.escape(f"Encoder {encoder}, layer {layer}, dataset {dataset}; cosine distance, 0 is the same direction."),
        asked=_card(asked, asked.label),
        summary=html.escape(summary),
        found="\n".join(f"<li>{_card(shown, asked.label)}</li>" for shown in found),
    )


def _card(shown: Shown, label: str | None) -> str:
    name = html.escape(shown.name)
    known = "no label" if shown.label is None else html.escape(shown.label)
    same = ' class="same"' if shown.distance is not None and label is not None and shown.label == label else ""
    far = "" if shown.distance is None else f"<span>{shown.distance:.4f}</span>"
    small = ' class="small"' if shown.side <= SMALL else ""
    picture = "" if shown.picture is None else f'<img{small} src="{shown.picture}" alt="{name}, {known}">'
    split = "" if shown.split is None else f"<small>{shown.split}</small>"
    return (
        f"<figure>{picture}<figcaption><b><span{same}>{known}</span>{far}</b>{split}<small>{name}</small></figcaption></figure>"
    )
