"""What the classifier sees of a text, or of a pair of texts: which tokens are present, for all texts in one pass of numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

LONGEST = 4  # characters of an n-gram
PAIR = "\t"  # between the two texts of a pair
NEIGHBOURS = (-1, 0, 1)  # letters of the other text that stand opposite a letter


def present(texts: Sequence[str]) -> sp.csr_matrix:
    """Return which tokens occur in which text, [n, vocabulary] of ones; those of pairs where all texts are pairs."""
    return opposites(texts) if texts and all(PAIR in text for text in texts) else ngrams(texts)


def ngrams(texts: Sequence[str]) -> sp.csr_matrix:
    """Return the n-grams of 1 to 4 characters inside words; a word carries a space at both ends, as its ends do tell."""
    padded = ["".join(f" {word} " for word in text.split()) for text in texts]
    letters, rows, alphabet = _flat(padded)
    spaces = np.cumsum(letters == _code(padded, " "))
    word = (spaces + 1) // 2  # a word's first space is an odd one
    grams, all_rows, size = [letters], [rows], alphabet
    gram = letters
    for length in range(2, LONGEST + 1):
        inside = word[length - 1 :] == word[: len(word) - length + 1]
        keys = np.full(len(letters), -1, dtype=np.int64)
        keys[: len(inside)][inside] = gram[: len(inside)][inside] * alphabet + letters[length - 1 :][inside]
        found, gram = np.unique(keys, return_inverse=True)  # ranks keep the keys small, however long the n-grams
        has = keys >= 0
        grams.append(size + gram[has])
        all_rows.append(rows[has])
        size += len(found)
    return _matrix(np.concatenate(all_rows), np.concatenate(grams), len(texts))


def opposites(texts: Sequence[str]) -> sp.csr_matrix:
    """Return of each pair which letters stand opposite which: at one place of both texts or next to it, first, and last."""
    parts = [text.replace(" ", "").split(PAIR, 1) for text in texts]
    letters, _, alphabet = _flat([one + other for one, other in parts])
    sizes = np.array([[len(one), len(other)] for one, other in parts], dtype=np.int64).reshape(-1, 2)
    rows = np.flatnonzero((sizes > 0).all(axis=1))
    begin = (np.cumsum(sizes.sum(axis=1)) - sizes.sum(axis=1))[rows]
    one_size, other_size = sizes[rows].T
    other_begin = begin + one_size
    pairs = alphabet * alphabet
    cells = [
        letters[begin] * alphabet + letters[other_begin],
        pairs + letters[other_begin - 1] * alphabet + letters[other_begin + other_size - 1],
    ]
    all_rows = [rows, rows]
    pair = np.repeat(np.arange(len(rows)), one_size)
    at = np.arange(len(pair)) - np.repeat(np.cumsum(one_size) - one_size, one_size)
    # Multiplied before it is divided: places half-way between two letters stay exactly half-way.
    opposite = np.rint(at * (other_size - 1)[pair] / np.maximum(one_size - 1, 1)[pair]).astype(np.int64)
    for step in NEIGHBOURS:
        there = (opposite + step >= 0) & (opposite + step < other_size[pair])
        of_pair = pair[there]
        mine, its = begin[of_pair] + at[there], other_begin[of_pair] + opposite[there] + step
        cells.append(2 * pairs + letters[mine] * alphabet + letters[its])
        all_rows.append(rows[of_pair])
    return _matrix(np.concatenate(all_rows), np.concatenate(cells), len(texts))


def _flat(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Return all texts' characters as ranks in the alphabet, the row that each is of, and the alphabet's size."""
    raw = np.frombuffer("".join(texts).encode("utf-32-le"), dtype="<u4")
    alphabet, ranks = np.unique(raw, return_inverse=True)
    return ranks.astype(np.int64), np.repeat(np.arange(len(texts)), [len(text) for text in texts]), len(alphabet)


def _code(texts: Sequence[str], letter: str) -> int:
    """Return the rank of a letter in the alphabet of the texts, whether it occurs or not."""
    return sum(1 for other in set("".join(texts)) if other < letter)


def _matrix(rows: NDArray[np.int64], cells: NDArray[np.int64], n_texts: int) -> sp.csr_matrix:
    vocabulary, columns = np.unique(cells, return_inverse=True)
    found = sp.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(n_texts, len(vocabulary)))
    found.sum_duplicates()
    found.data[:] = 1.0
    return found
