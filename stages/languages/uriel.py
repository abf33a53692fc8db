"""URIEL's typological vectors (Littell et al. 2017, "URIEL and lang2vec"), as distances between two languages.

Distances read the arrays in the lang2vec package's data folder. The arrays do not share one row order, so every row is
looked up by its code. Vectors of syntax, phonology and inventory are the kNN-completed ones; the matching `*_coverage`
says on what share of the features both languages were observed, not completed.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.languages import codes

if TYPE_CHECKING:
    from stages.languages.texts import Texts

MISSING = -1  # URIEL's own mark
# URIEL counts morphology to syntax: what is marked on words, and how.
_ON_WORDS = ("FIX", "MARK", "CLITIC", "AGREEMENT", "REDUP")
GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "syntax": ("S_", ("",)), "morphology": ("S_", _ON_WORDS), "phonology": ("P_", ("",)), "inventory": ("INV_", ("",)),
}  # fmt: skip


@cache
def _array(name: str) -> tuple[dict[str, int], NDArray[np.str_], NDArray[Any]]:
    """Return code -> row, feature names [f] and values [languages, f] of one of URIEL's files, its only source kept."""
    with np.load(codes.uriel_data() / f"{name}.npz", allow_pickle=False) as content:
        rows = {str(code): row for row, code in enumerate(content["langs"])}
        return rows, content["feats"].astype(str), content["data"][:, :, 0]


def has(code: str) -> bool:
    """Return whether URIEL has a row for a three-letter code."""
    return code in _array("feature_averages")[0]


def codes_known() -> set[str]:
    """Return the three-letter codes that URIEL has a row for."""
    return set(_array("feature_averages")[0])


@cache
def vector(language: str, file: str, prefix: str = "", holding: tuple[str, ...] = ("",)) -> NDArray[np.float64] | None:
    """Return one language's features [f] whose names start with `prefix` and hold one of the words in `holding`.

    Missing ones are NaN; None where the language has no row.
    """
    rows, features, values = _array(file)
    code = codes.to_uriel(language)
    if code not in rows:
        return None
    wanted = [name.startswith(prefix) and any(word in name for word in holding) for name in features.tolist()]
    found = values[rows[code], wanted].astype(np.float64)
    return np.where(found == MISSING, np.nan, found)


def cosine_distance(one: NDArray[np.float64] | None, other: NDArray[np.float64] | None) -> float | None:
    """Return 1 - cosine over the features that both vectors have; None where there are none, or one vector is zero on them."""
    if one is None or other is None:
        return None
    shared = ~np.isnan(one) & ~np.isnan(other)
    one, other = one[shared], other[shared]
    norms = float(np.sqrt((one @ one) * (other @ other)))  # of one product, so that a vector is at exactly 0 from itself
    if norms == 0:
        return None
    return min(1.0, max(0.0, 1.0 - float(one @ other) / norms))


def _typological(group: str, source: str, target: str, texts: Texts) -> float | None:
    return cosine_distance(*(vector(name, "feature_predictions", *GROUPS[group]) for name in (source, target)))


def _coverage(group: str, source: str, target: str, texts: Texts) -> float | None:
    one, other = (vector(name, "feature_averages", *GROUPS[group]) for name in (source, target))
    if one is None or other is None:
        return None
    return float(np.mean(~np.isnan(one) & ~np.isnan(other)))


syntax_distance = partial(_typological, "syntax")
syntax_coverage = partial(_coverage, "syntax")
morphology_distance = partial(_typological, "morphology")
morphology_coverage = partial(_coverage, "morphology")
phonology_distance = partial(_typological, "phonology")
phonology_coverage = partial(_coverage, "phonology")
inventory_distance = partial(_typological, "inventory")
inventory_coverage = partial(_coverage, "inventory")


def genetic_distance(source: str, target: str, texts: Texts) -> float | None:
    """Return 1 - cosine of the membership in families and their branches; None where URIEL places a language in none."""
    return cosine_distance(vector(source, "family_features"), vector(target, "family_features"))


@cache
def location(language: str) -> NDArray[np.float64] | None:
    """Return where the language is spoken as a unit vector [3], recovered from its distances to URIEL's 299 fixed points.

    URIEL gives v_k, the great-circle distance to point p_k as a share of half the circumference, so
    cos(pi v_k) = x . p_k: a linear system for x.
    """
    distances = vector(language, "geocoord_features")
    if distances is None or np.isnan(distances).any():
        return None
    degrees = np.array([name.removeprefix("GC_").split("_") for name in _array("geocoord_features")[1]], dtype=np.float64)
    latitude, longitude = np.radians(degrees).T
    points = np.stack(
        [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)], axis=1
    )  # [299, 3]
    found = np.linalg.lstsq(points, np.cos(np.pi * distances), rcond=None)[0]
    return np.asarray(found / np.linalg.norm(found), dtype=np.float64)


def geographic_distance(source: str, target: str, texts: Texts) -> float | None:
    """Return the great-circle distance as a share of half the Earth's circumference, 0 to 1."""
    one, other = location(source), location(target)
    if one is None or other is None:
        return None
    return float(np.arctan2(np.linalg.norm(np.cross(one, other)), one @ other) / np.pi)
