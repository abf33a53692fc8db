"""The family of a language: the widest genealogical group that URIEL puts it in."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from stages.languages import codes


@cache
def _groups() -> tuple[dict[str, int], NDArray[np.str_], NDArray[np.bool_], NDArray[np.int64]]:
    with np.load(codes.uriel_data() / "family_features.npz", allow_pickle=False) as content:
        rows = {str(code): row for row, code in enumerate(content["langs"])}
        member = content["data"][:, :, 0] == 1
        return rows, content["feats"].astype(str), member, member.sum(axis=0)


def family(language: str) -> str:
    """Return the family's name, the language's own code where URIEL knows none.

    Groups nest, so the widest one that holds a language is its family; of equally wide ones the first by name.
    """
    rows, names, member, sizes = _groups()
    code = codes.to_uriel(language)
    if code not in rows or not member[rows[code]].any():
        return language
    mine = np.flatnonzero(member[rows[code]])
    widest = mine[sizes[mine] == sizes[mine].max()]
    return str(min(names[widest])).removeprefix("F_")


def families(languages: Iterable[str]) -> dict[str, str]:
    """Return language -> family."""
    return {language: family(language) for language in languages}
