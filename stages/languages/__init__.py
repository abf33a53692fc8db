"""Which source language, why, and how many target examples: a measured transfer table and the models that read it.

Input of every function here is a polars table with task, source, target, score, optionally n_shots, seed, n_source, n_target,
and any float columns, the features of the pair.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stages.registry import Registry

if TYPE_CHECKING:
    import polars as pl

    from stages.languages.choose import rank_sources
    from stages.languages.cldr import known_languages
    from stages.languages.design import Fit
    from stages.languages.fewshot import fewshot_curve
    from stages.languages.predict import fit_transfer_model
    from stages.languages.protocols import Protocol
    from stages.languages.texts import PairFeature

# task(language) -> DataFrame[entity, text, label], sorted; `entity` is shared by all languages. A text with a tab is a pair of
# texts, of which the first is the language's own.
TASKS: Registry[Callable[[str], pl.DataFrame]] = Registry(
    "language task",
    {
        "entity_type": "stages.languages.cldr:entity_type",
        "territory_continent": "stages.languages.cldr:territory_continent",
        "same_entity": "stages.languages.same_entity:same_entity",
    },
)

# feature(source, target, texts) -> float, or None where it cannot be known. Names carry meaning for the models: `*_distance`
# is a distance (smaller is nearer), `*_coverage` says how well another feature is known and predicts nothing.
PAIR_FEATURES: Registry[PairFeature] = Registry(
    "pair feature",
    {
        "syntax_distance": "stages.languages.uriel:syntax_distance",
        "syntax_coverage": "stages.languages.uriel:syntax_coverage",
        "morphology_distance": "stages.languages.uriel:morphology_distance",
        "morphology_coverage": "stages.languages.uriel:morphology_coverage",
        "phonology_distance": "stages.languages.uriel:phonology_distance",
        "phonology_coverage": "stages.languages.uriel:phonology_coverage",
        "inventory_distance": "stages.languages.uriel:inventory_distance",
        "inventory_coverage": "stages.languages.uriel:inventory_coverage",
        "genetic_distance": "stages.languages.uriel:genetic_distance",
        "geographic_distance": "stages.languages.uriel:geographic_distance",
        "subword_overlap": "stages.languages.texts:subword_overlap",
        "word_overlap": "stages.languages.texts:word_overlap",
        "script_match": "stages.languages.texts:script_match",
        "source_type_token_ratio": "stages.languages.texts:source_type_token_ratio",
        "target_type_token_ratio": "stages.languages.texts:target_type_token_ratio",
        "source_log_characters": "stages.languages.texts:source_log_characters",
        "target_log_characters": "stages.languages.texts:target_log_characters",
    },
)

# fit(pairs seen) -> predict(pairs) -> scores [n] or [candidates, n]; besides, `nearest_<x>` exists for every `<x>_distance`
MODELS: Registry[Fit] = Registry(
    "transfer model",
    {
        "global_mean": "stages.languages.baselines:global_mean",
        "source_mean": "stages.languages.baselines:source_mean",
        "target_mean": "stages.languages.baselines:target_mean",
        "always_english": "stages.languages.baselines:always_english",
        "combined_distance": "stages.languages.combined:combined_distance",
        "ridge": "stages.languages.ridge:ridge",
        "boosting": "stages.languages.boosting:boosting",
        "lambdarank": "stages.languages.lambdarank:lambdarank",
    },
)

# protocol(pairs, rng) -> what is held out with each pair
PROTOCOLS: Registry[Protocol] = Registry(
    "protocol",
    {
        "leave_one_target_out": "stages.languages.protocols:leave_one_target_out",
        "leave_one_family_out": "stages.languages.protocols:leave_one_family_out",
        "seen_target": "stages.languages.protocols:seen_target",
        "optimistic": "stages.languages.protocols:optimistic",
    },
)

_ATTRIBUTES = {
    "fit_transfer_model": "stages.languages.predict",
    "rank_sources": "stages.languages.choose",
    "fewshot_curve": "stages.languages.fewshot",
    "known_languages": "stages.languages.cldr",
}

__all__ = [
    "MODELS",
    "PAIR_FEATURES",
    "PROTOCOLS",
    "TASKS",
    "fewshot_curve",
    "fit_transfer_model",
    "known_languages",
    "rank_sources",
]


def __getattr__(name: str) -> Any:
    """Import the public functions when they are first asked for: reading a registry must not cost statsmodels."""
    if name in _ATTRIBUTES:
        return getattr(importlib.import_module(_ATTRIBUTES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
