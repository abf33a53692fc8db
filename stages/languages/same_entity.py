"""The task of pairs: do a name and its English name (for English: the French one) mean the same entity?

The classifier of the other tasks reads it too; what it sees of a pair is which letters stand opposite each other.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

import polars as pl

from stages.languages.cldr import EXAMPLES, names
from stages.languages.tokens import PAIR

ANCHOR, ANCHOR_OF_ITSELF = "en", "fr"
KINDS = ("territory", "language", "currency", "script")  # units are common words, spelt apart everywhere


def _named_alone(language: str) -> dict[str, dict[str, str]]:
    """Return kind -> code -> name of the entities whose name no other of the kind has (some currencies have)."""
    often = {kind: Counter(found.values()) for kind, found in names(language).items()}
    return {kind: {code: name for code, name in names(language)[kind].items() if often[kind][name] == 1} for kind in KINDS}


@cache
def _couples() -> tuple[tuple[str, str, str], ...]:
    """Return kind and two entities of it, each in one couple at most: their English names are of about the same length.

    Wrong pairs are made inside a couple, so length tells nothing, and a split that keeps couples together shows no test entity
    in training.
    """
    couples = []
    for kind, named in _named_alone(ANCHOR).items():
        codes = sorted(named, key=lambda code: (len(named[code]), code))
        couples += [(kind, one, other) for one, other in zip(codes[::2], codes[1::2], strict=False)]
    return tuple(couples)


def same_entity(language: str) -> pl.DataFrame:
    """Task: "same" or "different"? Two right and two wrong pairs of each couple of entities that both languages name."""
    named, anchors = _named_alone(language), _named_alone(ANCHOR_OF_ITSELF if language == ANCHOR else ANCHOR)
    rows = []
    for kind, one, other in _couples():
        if {one, other} <= named[kind].keys() & anchors[kind].keys():
            for mine, its in ((one, one), (other, other), (one, other), (other, one)):
                text = f"{named[kind][mine]}{PAIR}{anchors[kind][its]}"
                rows.append((f"{kind}:{one}+{other}", text, "same" if mine == its else "different"))
    return pl.DataFrame(rows, schema=EXAMPLES, orient="row").unique("text", keep="none").sort("entity", "text")


def own_text(text: str) -> str:
    """Return the part of an example that is in the language itself."""
    return text.split(PAIR, 1)[0]
