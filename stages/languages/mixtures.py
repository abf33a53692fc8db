"""Sources that are mixtures of languages: {language: training examples}, as in few-shot and multilingual training.

A mixture has a feature for each way in which its languages may count: their mean distance to the target by examples, the
nearest one's, and the examples that remain when each counts less the farther it is, in tenfolds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

Distance = Callable[[str, str], float | None]
REACH = (0.1, 0.3)  # distances at which an example counts 1/e, in units of the distance, which are 0 to 1


def mixture_features(
    mixtures: Sequence[Mapping[str, int]],
    targets: Sequence[str],
    distances: Mapping[str, Distance],
    *,
    by_language: bool = False,
) -> pl.DataFrame:
    """Return the features of mixtures [n] for targets [n], a row for each.

    Args:
        mixtures: language -> examples.
        targets: language codes.
        distances: name -> distance of two languages, for instance those of `PAIR_FEATURES`; None where it is unknown.
        by_language: whether the examples of every language are a feature of their own, which tells most where the targets are
            known and mixtures are many.

    Columns: `log_source_examples`, `log_target_examples` (log10(1 + n)), `n_source_languages`; for every distance
    `<x>_distance` (mean by examples), `<x>_nearest`, `<x>_reach_0_1` and `<x>_reach_0_3`; null where no language's distance
    is known.
    """
    languages = sorted({language for mixture in mixtures for language in mixture})
    place = {language: i for i, language in enumerate(languages)}
    examples = np.zeros((len(mixtures), len(languages)))
    for row, mixture in enumerate(mixtures):
        for language, n in mixture.items():
            examples[row, place[language]] = n
    names = sorted(set(targets))
    of_target = np.array([names.index(target) for target in targets], dtype=np.int64)
    own = np.array([float(mixture.get(target, 0)) for mixture, target in zip(mixtures, targets, strict=True)])
    columns: dict[str, NDArray[np.float64]] = {
        "log_source_examples": np.log10(1 + examples.sum(axis=1)),
        "log_target_examples": np.log10(1 + own),
        "n_source_languages": (examples > 0).sum(axis=1).astype(np.float64),
    }
    for name, distance in distances.items():
        table = np.array([[_number(distance(source, target)) for source in languages] for target in names])
        apart = table.reshape(len(names), len(languages))[of_target]
        columns |= _of_distance(name.removesuffix("_distance"), examples, apart)
    if by_language:
        columns |= {f"log_examples_{language}": np.log10(1 + examples[:, i]) for language, i in place.items()}
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.Float64)).with_columns(pl.all().fill_nan(None))


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _of_distance(name: str, examples: NDArray[np.float64], apart: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return the columns of one distance for examples and distances [n, languages]."""
    known = (examples > 0) & ~np.isnan(apart)
    any_known = known.any(axis=1)
    weights, filled = np.where(known, examples, 0.0), np.where(known, apart, 0.0)
    total = np.maximum(weights.sum(axis=1), 1e-300)
    columns = {
        f"{name}_distance": (weights * filled).sum(axis=1) / total,
        f"{name}_nearest": np.where(known, apart, np.inf).min(axis=1, initial=np.inf),
    }
    for reach in REACH:
        within = (weights * np.exp(-filled / reach)).sum(axis=1)
        columns[f"{name}_reach_{str(reach).replace('.', '_')}"] = np.log10(1 + within)
    return {column: np.where(any_known, values, np.nan) for column, values in columns.items()}
