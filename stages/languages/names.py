"""One code for a language, however it is written: ISO 639-1, 639-2, 639-3, retired codes, tags with script or region, names."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from babel import Locale
from babel.core import get_global

from stages.errors import nearest
from stages.languages import uriel

NO_LANGUAGE = {"und", "mul", "zxx", "mis"}
# Common names that CLDR's English does not list.
_ALIASES = {
    "farsi": "fa", "mandarin": "zh", "mandarin chinese": "zh", "castilian": "es", "flemish": "nl", "tagalog": "fil",
    "panjabi": "pa", "moldovan": "ro", "kurmanji": "ku", "bokmal": "nb", "bokmål": "nb", "myanmar": "my", "sinhalese": "si",
    "pushto": "ps", "oriya": "or", "haitian": "ht", "modern greek": "el",
    "standard arabic": "ar", "gaelic": "gd", "uighur": "ug",
}  # fmt: skip


@cache
def _codes() -> frozenset[str]:
    english = {str(code) for code in Locale.parse("en").languages if "_" not in str(code)}
    retired = {str(code) for code in get_global("language_aliases")}
    return frozenset((english | uriel.codes_known() | retired) - NO_LANGUAGE)


@cache
def _by_name() -> dict[str, str]:
    found: dict[str, str] = {}
    for code, name in sorted(Locale.parse("en").languages.items()):
        if "_" not in code and code not in NO_LANGUAGE:
            found.setdefault(name.casefold(), code)
    return {**found, **_ALIASES}


@cache
def code_of(written: str) -> str | None:
    """Return the code of a language: of two letters where ISO 639-1 has one, else of three; None for an unknown one.

    "deu", "ger", "DE", "de-AT" and "German" are "de"; codes that CLDR has retired or counts to another language follow it
    ("iw" is "he", "cmn" is "zh", "tl" is "fil").
    """
    plain = " ".join(written.split()).casefold()
    code = plain.replace("-", "_").split("_")[0]
    if len(code) in (2, 3) and code in _codes():
        aliases = get_global("language_aliases")
        return str(aliases.get(code, code)).split("_")[0]
    return _by_name().get(plain.split("(")[0].strip())


def near(written: str) -> str:
    """Return the known codes and names that are spelt most like an unknown one, as text."""
    plain = written.strip().casefold()
    choices: Iterable[str] = (code for code in _codes() if len(code) <= 3) if len(plain) <= 3 else _by_name()
    return nearest(plain, choices, limit=3)
