"""Random streams derived from names, so that no result depends on what ran before it or beside it."""

from __future__ import annotations

import hashlib

import numpy as np


def seed_sequence(run_seed: int, *names: str | int) -> np.random.SeedSequence:
    """Return the seed sequence of one named purpose, for instance `(0, "probe", "digits", "glyph_vit", 3)`."""
    words = "\x1f".join(str(name) for name in names).encode()
    digest = hashlib.sha256(words).digest()
    return np.random.SeedSequence([run_seed, *np.frombuffer(digest, dtype="<u4").tolist()])


def generator(run_seed: int, *names: str | int) -> np.random.Generator:
    """Return a numpy generator of its own for one named purpose."""
    return np.random.default_rng(seed_sequence(run_seed, *names))


def integer_seed(run_seed: int, *names: str | int) -> int:
    """Return a 32-bit seed for libraries that take an integer (torch, scikit-learn, faiss)."""
    return int(seed_sequence(run_seed, *names).generate_state(1, dtype=np.uint32)[0]) & 0x7FFF_FFFF
