"""What the texts themselves say about a pair of languages: shared subwords and words, script, type/token ratio, size.

A language of which no text is given has no such feature.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache

Texts = Mapping[str, tuple[str, ...]]  # language -> its training texts, normalised
PairFeature = Callable[[str, str, Texts], float | None]
SUBWORD = 3  # characters


@cache
def _subwords(texts: tuple[str, ...]) -> frozenset[str]:
    padded = [f" {text} " for text in texts]
    return frozenset(text[at : at + SUBWORD] for text in padded for at in range(len(text) - SUBWORD + 1))


@cache
def _words(texts: tuple[str, ...]) -> frozenset[str]:
    return frozenset(word for text in texts for word in text.split())


@cache
def script(texts: tuple[str, ...]) -> str | None:
    """Return the script of most letters, by the first word of Unicode's character names ("LATIN", "CYRILLIC", "CJK")."""
    counts: Counter[str] = Counter()
    for letter, times in Counter("".join(texts)).items():
        if letter.isalpha():
            counts[unicodedata.name(letter, "UNNAMED").split()[0]] += times
    return min(counts, key=lambda name: (-counts[name], name)) if counts else None


@cache
def type_token_ratio(texts: tuple[str, ...]) -> float | None:
    """Return the number of different words over the number of words: high where words are inflected or compounded."""
    words = [word for text in texts for word in text.split()]
    return len(set(words)) / len(words) if words else None


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float | None:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared) if one and other else None


def subword_overlap(source: str, target: str, texts: Texts) -> float | None:
    """Return the Jaccard overlap of the sets of character trigrams, 0 to 1."""
    return _jaccard(_subwords(texts.get(source, ())), _subwords(texts.get(target, ())))


def word_overlap(source: str, target: str, texts: Texts) -> float | None:
    """Return the Jaccard overlap of the sets of words, 0 to 1."""
    return _jaccard(_words(texts.get(source, ())), _words(texts.get(target, ())))


def script_match(source: str, target: str, texts: Texts) -> float | None:
    """Return 1 where both languages are mostly written in one script, else 0."""
    one, other = script(texts.get(source, ())), script(texts.get(target, ()))
    return None if one is None or other is None else float(one == other)


def source_type_token_ratio(source: str, target: str, texts: Texts) -> float | None:
    """Return the type/token ratio of the source's texts."""
    return type_token_ratio(texts.get(source, ()))


def target_type_token_ratio(source: str, target: str, texts: Texts) -> float | None:
    """Return the type/token ratio of the target's texts."""
    return type_token_ratio(texts.get(target, ()))


@cache
def _log_characters(texts: tuple[str, ...]) -> float | None:
    return math.log10(sum(map(len, texts))) if any(texts) else None


def source_log_characters(source: str, target: str, texts: Texts) -> float | None:
    """Return log10 of the number of characters in the source's texts."""
    return _log_characters(texts.get(source, ()))


def target_log_characters(source: str, target: str, texts: Texts) -> float | None:
    """Return log10 of the number of characters in the target's texts."""
    return _log_characters(texts.get(target, ()))
