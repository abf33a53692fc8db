"""Features of a pair: known facts, brute force, and the joins that a shared row order would get wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stages.languages import PAIR_FEATURES, codes, uriel
from stages.languages.texts import script, subword_overlap, type_token_ratio, word_overlap

TEXTS = {"es": ("sierra leona", "perú"), "pt": ("serra leoa", "peru", "leoa"), "ru": ("перу", "россия"), "el": ("περού",)}
SYMMETRIC = [name for name in PAIR_FEATURES if not name.startswith(("source_", "target_"))]
DISTANCES = [name for name in PAIR_FEATURES if name.endswith("_distance")]


@pytest.mark.parametrize("name", sorted(PAIR_FEATURES))
def test_every_feature_keeps_the_contract(name: str) -> None:
    value = PAIR_FEATURES[name]("es", "pt", TEXTS)
    assert isinstance(value, float)
    assert 0 <= value <= (1 if not name.endswith("_characters") else 2)
    assert value == PAIR_FEATURES[name]("es", "pt", TEXTS)


@pytest.mark.parametrize("name", sorted(SYMMETRIC))
def test_symmetric(name: str) -> None:
    feature = PAIR_FEATURES[name]
    assert feature("es", "ru", TEXTS) == pytest.approx(feature("ru", "es", TEXTS), abs=1e-12)


@pytest.mark.parametrize("name", sorted(DISTANCES))
def test_a_language_is_at_no_distance_from_itself(name: str) -> None:
    assert PAIR_FEATURES[name]("es", "es", TEXTS) == 0


@pytest.mark.parametrize("name", sorted(set(DISTANCES) - {"phonology_distance", "inventory_distance"}))
def test_spanish_is_nearer_to_portuguese_than_to_russian(name: str) -> None:
    near, far = (PAIR_FEATURES[name]("es", other, TEXTS) for other in ("pt", "ru"))
    assert near is not None
    assert far is not None
    assert near < far


@pytest.mark.parametrize(
    "name",
    sorted(
        name for name in PAIR_FEATURES if name.split("_")[0] in {"syntax", "phonology", "inventory", "genetic", "geographic"}
    ),
)
def test_a_language_that_uriel_lacks_is_null(name: str) -> None:
    assert PAIR_FEATURES[name]("es", "zzz", TEXTS) is None


def test_rows_are_found_by_code_although_the_files_are_ordered_differently() -> None:
    with np.load(codes.uriel_data() / "family_features.npz", allow_pickle=False) as families:
        order = families["langs"]
    with np.load(codes.uriel_data() / "features.npz", allow_pickle=False) as others:
        assert not np.array_equal(order, others["langs"])
    rows, names, _ = uriel._array("family_features")
    assert set(rows) == set(order.tolist())
    for language, family in {
        "es": "F_Romance",
        "ru": "F_Slavic",
        "fi": "F_Uralic",
        "sw": "F_Atlantic-Congo",
        "de": "F_Germanic",
    }.items():
        found = uriel.vector(language, "family_features")
        assert found is not None
        assert family in names[found == 1], language
    spanish, portuguese = (uriel.vector(name, "family_features") for name in ("es", "pt"))
    assert spanish is not None
    assert portuguese is not None
    one, other = (set(names[vector == 1]) for vector in (spanish, portuguese))
    by_sets = 1 - len(one & other) / math.sqrt(len(one) * len(other))  # cosine of 0/1 vectors
    assert uriel.genetic_distance("es", "pt", {}) == pytest.approx(by_sets)


def test_syntax_distance_is_one_minus_cosine_of_the_rows_in_the_file() -> None:
    with np.load(codes.uriel_data() / "feature_predictions.npz", allow_pickle=False) as content:
        chosen = [i for i, name in enumerate(content["feats"].tolist()) if name.startswith("S_")]
        rows = [content["data"][content["langs"].tolist().index(code), chosen, 0].tolist() for code in ("eng", "deu")]
    dot = sum(a * b for a, b in zip(*rows, strict=True))
    cosine = dot / math.sqrt(sum(a * a for a in rows[0]) * sum(b * b for b in rows[1]))
    assert uriel.syntax_distance("en", "de", {}) == pytest.approx(1 - cosine, abs=1e-6)


def test_missing_is_not_a_value() -> None:
    observed = uriel.vector("nl", "feature_averages", "P_")
    assert observed is not None
    assert np.isnan(observed).all(), "URIEL has no observed phonology of Dutch; its mark -1 must not be read as a value"
    assert uriel.phonology_coverage("nl", "de", {}) == 0
    assert uriel.cosine_distance(np.array([1.0, np.nan, 0.0]), np.array([1.0, 1.0, np.nan])) == 0
    assert uriel.cosine_distance(np.array([np.nan, 1.0]), np.array([1.0, np.nan])) is None
    assert uriel.cosine_distance(np.zeros(3), np.ones(3)) is None


@pytest.mark.parametrize(
    ("language", "latitude", "longitude"), [("es", 40.4, -3.7), ("fi", 62, 25), ("ka", 42, 43.5), ("tr", 39, 35)]
)
def test_places_are_recovered_to_a_few_degrees(language: str, latitude: float, longitude: float) -> None:
    found = uriel.location(language)
    assert found is not None
    assert math.degrees(math.asin(found[2])) == pytest.approx(latitude, abs=4)
    assert math.degrees(math.atan2(found[1], found[0])) == pytest.approx(longitude, abs=4)


def test_codes() -> None:
    assert [codes.to_uriel(name) for name in ("es", "iw", "he", "fil", "spa", "zh")] == [
        "spa",
        "heb",
        "heb",
        "tgl",
        "spa",
        "zho",
    ]


def test_overlaps_by_hand() -> None:
    texts = {"a": ("ab",), "b": ("ab", "b")}  # trigrams {" ab", "ab "} and {" ab", "ab ", " b "}
    assert subword_overlap("a", "b", texts) == pytest.approx(2 / 3)
    assert word_overlap("a", "b", texts) == pytest.approx(1 / 2)
    assert subword_overlap("es", "ru", TEXTS) == 0
    assert word_overlap("x", "y", {"x": (), "y": ()}) is None
    assert type_token_ratio(("new york", "new delhi")) == pytest.approx(3 / 4)
    assert type_token_ratio(()) is None


def test_scripts() -> None:
    assert [script(TEXTS[name]) for name in ("es", "ru", "el")] == ["LATIN", "CYRILLIC", "GREEK"]
    assert script(("हिन्दी",)) == "DEVANAGARI"
    assert script(("12 3",)) is None


@pytest.mark.parametrize("name", ["subword_overlap", "word_overlap", "script_match", "source_log_characters"])
def test_a_language_without_texts_has_no_text_feature(name: str) -> None:
    assert PAIR_FEATURES[name]("sw", "pt", TEXTS) is None
    assert PAIR_FEATURES[name]("sw", "pt", {**TEXTS, "sw": ()}) is None


def test_sizes_are_powers_of_ten_of_characters() -> None:
    assert PAIR_FEATURES["source_log_characters"]("es", "ru", TEXTS) == pytest.approx(math.log10(16))
    assert PAIR_FEATURES["target_log_characters"]("es", "ru", TEXTS) == pytest.approx(1)
