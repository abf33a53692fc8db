"""Language codes: what URIEL calls a language that CLDR and params.yaml name by its short code."""

from __future__ import annotations

import json
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from babel.core import get_global

from stages.errors import InputProblem

# Rows that URIEL carries empty, and the row of the same language that is filled.
_WITHOUT_DATA = {"fil": "tgl"}


@cache
def uriel_data() -> Path:
    """Return the folder of URIEL's arrays.

    Asked of the installed distribution: importing lang2vec needs pkg_resources, and a search by module name finds the
    script lang2vec.py in the environment's bin folder when the program was started from there.
    """
    try:
        return Path(str(distribution("lang2vec").locate_file("lang2vec/data")))
    except PackageNotFoundError:
        raise InputProblem("the package lang2vec is not installed", next_step="pip install -r requirements.lock") from None


@cache
def _three_letters() -> dict[str, str]:
    table: dict[str, str] = json.loads((uriel_data() / "letter_codes.json").read_text(encoding="utf-8"))
    return table


def to_uriel(language: str) -> str:
    """Return URIEL's three-letter code of a language named by its ISO 639-1 or 639-3 code.

    Codes that CLDR has retired are followed to the present one first ("iw" is Hebrew, "he").
    """
    aliases = get_global("language_aliases")
    current = language if language in _three_letters() else aliases.get(language, language).split("_")[0]
    three = _three_letters().get(current, current)
    return _WITHOUT_DATA.get(three, three)
