"""Names that Babel carries from Unicode's CLDR: places, languages, currencies, units and scripts in a hundred languages.

A task is a function `task(language) -> DataFrame[entity, text, label]`, one row an example, sorted by (entity, text). `entity`
is the same for all languages (the CLDR code), so that a split by entity never shows a test entity in training, in any language.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cache
from typing import Any

import polars as pl
from babel import Locale
from babel.core import get_global
from babel.localedata import locale_identifiers

from stages.languages import codes, uriel

EXAMPLES = {"entity": pl.String, "text": pl.String, "label": pl.String}
LEAST_NAMES = {"territory": 150, "language": 100, "currency": 100, "unit": 80, "script": 50}

# The first part of an Olson time zone's name is the only geography in Babel's data. Zones named after oceans tell no continent.
CONTINENTS = {
    "Africa": "africa", "America": "america", "Asia": "asia", "Europe": "europe", "Pacific": "oceania", "Australia": "oceania",
}  # fmt: skip
_IN_BRACKETS = re.compile(r"\s*[(（\[][^)）\]]*[)）\]]")


def normalise(name: str) -> str:
    """Return the name as the classifier sees it: NFKC, case folded, without brackets (they hold years, a give-away)."""
    plain = unicodedata.normalize("NFKC", _IN_BRACKETS.sub("", name)).casefold()
    return " ".join(plain.split())


def _raw_names(language: str) -> dict[str, dict[str, str]]:
    locale = Locale.parse(language)
    # CLDR: where there is no long form, the short one stands for it.
    units = {code: forms.get("long", forms.get("short")) for code, forms in locale.unit_display_names.items()}
    return {
        "territory": {code: name for code, name in locale.territories.items() if len(code) == 2},
        "language": {code: name for code, name in locale.languages.items() if "_" not in code},
        "currency": dict(locale.currencies),
        "unit": {code: name for code, name in units.items() if name},
        "script": {code: name for code, name in locale.scripts.items() if not code.startswith("Z")},
    }


@cache
def names(language: str) -> dict[str, dict[str, str]]:
    """Return type -> CLDR code -> normalised name of one language; a name that is only its own code is left out."""
    return {
        kind: {code: text for code, name in sorted(found.items()) if (text := normalise(name)) and text != code.casefold()}
        for kind, found in _raw_names(language).items()
    }


@cache
def known_languages() -> list[str]:
    """Return the languages that have enough names in CLDR and a row in URIEL, sorted: the choices for `languages.languages`."""
    plain = [name for name in locale_identifiers() if "_" not in name]
    known = [name for name in plain if uriel.has(codes.to_uriel(name))]
    return sorted(name for name in known if all(len(_raw_names(name)[kind]) >= least for kind, least in LEAST_NAMES.items()))


def entity_type(language: str) -> pl.DataFrame:
    """Task: is the name that of a territory, a language, a currency, a unit or a script?

    A name that several types share (Arabic is a language and a script) is left out; of two entities of one type with
    the same name the first code stays.
    """
    types_of: dict[str, set[str]] = {}
    for kind, found in names(language).items():
        for text in found.values():
            types_of.setdefault(text, set()).add(kind)
    rows: dict[str, tuple[str, str, str]] = {}
    for kind, found in names(language).items():
        for code, text in found.items():
            if len(types_of[text]) == 1:
                rows.setdefault(text, (f"{kind}:{code}", text, kind))
    return _examples(list(rows.values()))


def territory_continent(language: str) -> pl.DataFrame:
    """Task: on which of five continents is the territory, or the city after which a time zone is named, or where is the
    language or currency at home?

    Only what Babel's data place on exactly one continent is kept, and of several entities with one name only the first,
    and none if they disagree.
    """
    named = names(language)
    home = continents()
    cities = {zone: normalise(name) for zone, name in _cities(language).items()}
    places = {
        **{f"territory:{code}": text for code, text in named["territory"].items()},
        **{f"zone:{code}": text for code, text in cities.items()},
        **{f"language:{code}": text for code, text in named["language"].items()},
        **{f"currency:{code}": text for code, text in named["currency"].items()},
    }
    labels_of: dict[str, set[str]] = {}
    rows: dict[str, tuple[str, str, str]] = {}
    for entity, text in places.items():
        if entity in home:
            labels_of.setdefault(text, set()).add(home[entity])
            rows.setdefault(text, (entity, text, home[entity]))
    return _examples([row for text, row in rows.items() if len(labels_of[text]) == 1])


def _cities(language: str) -> dict[str, str]:
    """Return zone -> city; where CLDR names none, the zone's own last part, as CLDR prescribes."""
    zones: Any = Locale.parse(language).time_zones
    cities = {}
    for zone in sorted({zone for zones in get_global("territory_zones").values() for zone in zones}):
        if "/" in zone:
            own = zones[zone].get("city") if zone in zones else None
            cities[zone] = own or zone.rsplit("/", 1)[1].replace("_", " ")
    return cities


@cache
def continents() -> dict[str, str]:
    """Return entity -> continent, where there is exactly one; an entity is "territory:FR", "zone:Europe/Paris"."""
    found: dict[str, set[str]] = {}
    territories: dict[str, set[str]] = {}
    for territory, zones in get_global("territory_zones").items():
        parts = {zone.split("/", 1)[0] for zone in zones}
        for zone in zones:
            found.setdefault(f"zone:{zone}", set()).add(zone.split("/", 1)[0])
        territories[territory] = parts
        found[f"territory:{territory}"] = parts
    for territory, spoken in get_global("territory_languages").items():
        for code, facts in spoken.items():
            if facts["population_percent"] >= 1 or facts["official_status"]:
                found.setdefault(f"language:{code}", set()).update(territories.get(territory, {"unknown"}))
    for territory, used in get_global("territory_currencies").items():
        for code, *_ in used:
            found.setdefault(f"currency:{code}", set()).update(territories.get(territory, {"unknown"}))
    settled = {entity: {CONTINENTS.get(part) for part in parts} for entity, parts in found.items()}
    return {entity: only for entity, choices in sorted(settled.items()) if len(choices) == 1 and (only := next(iter(choices)))}


def _examples(rows: list[tuple[str, str, str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=EXAMPLES, orient="row").sort("entity", "text")


def class_sizes(examples: pl.DataFrame) -> dict[str, int]:
    """Return label -> number of examples."""
    return dict(sorted(Counter(examples["label"]).items()))
