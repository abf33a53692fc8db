"""Named random streams, and registries that import late and name the nearest method."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stages import seeds
from stages.errors import InputProblem, nearest
from stages.registry import Registry

ROOT = Path(__file__).resolve().parents[1]


def test_streams_depend_on_every_name_and_on_nothing_else() -> None:
    np.random.seed(1)  # noqa: NPY002  # the global stream is what must not matter
    first = seeds.generator(0, "probe", "digits", 1).random(4)
    np.random.seed(2)  # noqa: NPY002
    assert np.array_equal(first, seeds.generator(0, "probe", "digits", 1).random(4))
    others = [(1, "probe", "digits", 1), (0, "rank", "digits", 1), (0, "probe", "digits", 2), (0, "probe", "digits1", "")]
    for other in others:
        assert not np.array_equal(first, seeds.generator(*other).random(4))
    assert seeds.integer_seed(0, "a", "bc") != seeds.integer_seed(0, "ab", "c")


def test_streams_are_the_same_in_another_process() -> None:
    code = "from stages import seeds; print(seeds.integer_seed(3, 'x', 1))"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(printed.stdout) == seeds.integer_seed(3, "x", 1)


def test_entries_are_imported_when_asked_for() -> None:
    registry: Registry[object] = Registry("thing", {"good": "math:pi", "bad": "no_such_module:x"})
    assert set(registry) == {"good", "bad"}
    assert registry["good"] == np.pi
    with pytest.raises(ModuleNotFoundError):
        registry["bad"]
    with pytest.raises(InputProblem, match="nearest valid: good"):
        registry["goood"]


def test_a_name_is_taken_once() -> None:
    registry: Registry[int] = Registry("thing", {})
    registry.add("one", 1)
    with pytest.raises(ValueError, match="already"):
        registry.add("one", 2)
    registry.remove("one")
    assert len(registry) == 0


def test_nearest_counts_the_rest() -> None:
    assert nearest("logmee", ["tmi", "logme", "leep"]).startswith("nearest valid: logme")
    assert nearest("zzz", []) == "there are no valid choices here"
