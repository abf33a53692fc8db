"""Mixtures of source languages: their features by hand."""

from __future__ import annotations

import numpy as np
import pytest

from stages.languages.mixtures import mixture_features


def test_features_by_hand() -> None:
    apart = {("en", "sw"): 0.6, ("es", "sw"): 0.2, ("en", "ta"): 0.3}
    found = mixture_features(
        [{"en": 900, "es": 100}, {"en": 900, "es": 100, "ta": 9}, {"es": 10}],
        ["sw", "ta", "ta"],
        {"syntax_distance": lambda source, target: apart.get((source, target))},
        by_language=True,
    )
    first, second, third = found.rows(named=True)
    assert first["log_source_examples"] == pytest.approx(np.log10(1001))
    assert first["log_target_examples"] == 0
    assert second["log_target_examples"] == pytest.approx(1.0)
    assert first["n_source_languages"] == 2
    assert first["syntax_distance"] == pytest.approx(0.9 * 0.6 + 0.1 * 0.2)
    assert first["syntax_nearest"] == 0.2
    within = 900 * np.exp(-0.6 / 0.3) + 100 * np.exp(-0.2 / 0.3)
    assert first["syntax_reach_0_3"] == pytest.approx(np.log10(1 + within))
    assert second["syntax_distance"] == 0.3, "of the languages whose distance is known"
    assert (third["syntax_distance"], third["syntax_nearest"], third["syntax_reach_0_1"]) == (None, None, None)
    assert third["log_examples_es"] == pytest.approx(np.log10(11))
    assert third["log_examples_ta"] == 0
