"""Tokens made in one pass are those of scikit-learn and of the definition, text by text."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from stages.languages import tokens

TEXTS = ["united states dollar", "ab", "a", "ab ab", "", "日本 円", "𝔘𝔫 ı", "x" * 9, "a b c"]


def same_columns(one: sp.csr_matrix, other: sp.csr_matrix) -> bool:
    """Say whether two presence matrices hold the same columns in any order."""
    columns = [sorted(map(bytes, matrix.toarray().astype(np.uint8).T)) for matrix in (one, other)]
    return columns[0] == columns[1]


def by_scikit_learn(texts: list[str]) -> sp.csr_matrix:
    vectorizer = CountVectorizer(analyzer="char_wb", ngram_range=(1, tokens.LONGEST), binary=True, lowercase=False)
    return vectorizer.fit_transform(texts).tocsr()


def test_ngrams_are_scikit_learns() -> None:
    found = tokens.ngrams(TEXTS)
    assert same_columns(found, by_scikit_learn(TEXTS))
    assert set(found.data) == {1.0}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(alphabet="abäß я語", max_size=8), min_size=1, max_size=5).filter(lambda texts: any(map(str.strip, texts)))
)
def test_ngrams_of_any_texts(texts: list[str]) -> None:
    assert same_columns(tokens.ngrams(texts), by_scikit_learn(texts))


def opposites_by_definition(pair: str) -> set[str]:
    one, other = (part.replace(" ", "") for part in pair.split("\t"))
    if not one or not other:
        return set()
    found = {f"first {one[0]}{other[0]}", f"last {one[-1]}{other[-1]}"}
    for at, letter in enumerate(one):
        opposite = round(at * (len(other) - 1) / max(len(one) - 1, 1))
        found |= {f"{letter}{partner}" for partner in other[max(opposite - 1, 0) : opposite + 2]}
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.text(alphabet="abc яж", max_size=9)] * 2), min_size=1, max_size=5).filter(
        lambda pairs: any(one.strip() and other.strip() for one, other in pairs)
    )
)
def test_opposites_of_any_pairs(pairs: list[tuple[str, str]]) -> None:
    texts = ["\t".join(pair) for pair in pairs]
    expected = CountVectorizer(analyzer=lambda text: sorted(opposites_by_definition(text)), binary=True).fit_transform(texts)
    assert same_columns(tokens.present(texts), expected.tocsr())


def test_opposites_of_all_lengths() -> None:
    letters = "".join(map(chr, range(0x4E00, 0x4E00 + 40)))
    texts = [f"{letters[:one]}\t{letters[:other]}" for one in range(1, 41) for other in range(1, 41)]
    found = tokens.present(texts)
    assert np.diff(found.indptr).tolist() == [len(opposites_by_definition(text)) for text in texts]
    expected = CountVectorizer(analyzer=lambda text: sorted(opposites_by_definition(text)), binary=True).fit_transform(texts)
    assert np.sort(np.diff(found.tocsc().indptr)).tolist() == np.sort(np.diff(expected.tocsc().indptr)).tolist()


def test_opposites_of_a_small_pair() -> None:
    assert opposites_by_definition("ab\tcd") == {"first ac", "last bd", "ac", "ad", "bc", "bd"}
    assert tokens.present(["ab\tcd"]).shape == (1, 6)
    assert tokens.present(["\tcd", "ab\tcd"])[0].nnz == 0
    with pytest.raises(ValueError, match="not enough values"):
        tokens.opposites(["no pair"])
