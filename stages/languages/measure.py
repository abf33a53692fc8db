"""Measuring the transfer table: every source on every target, with none to many target examples added."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages import seeds
from stages.languages import classifier, corpus
from stages.languages.texts import PairFeature, Texts

Advance = Callable[[], None]


def measure_task(
    task: str,
    examples: pl.DataFrame,
    *,
    shots: Sequence[int],
    n_seeds: int,
    run_seed: int,
    max_source: int,
    features: Mapping[str, PairFeature],
    advance: Advance = lambda: None,
) -> pl.DataFrame:
    """Return the rows of `language_pairs` of one task, with one column a feature.

    Args:
        task: its name, which keys the random draws.
        examples: language, entity, text, label (`corpus.gather`).
        shots: numbers of target training examples added to the source's; the draws of one seed are nested. A number that
            exceeds a target's training examples has no row. Source equal to target is measured at 0 only.
        n_seeds: each seed draws its own split of the entities and its own target examples.
        run_seed: the run's seed.
        max_source: at most so many source training examples.
        features: name -> feature, computed on the training texts of the same split.
        advance: called after each seed and target.
    """
    present = classifier.ngrams(examples.get_column("text").to_list())
    classes = examples.get_column("label").unique().sort().to_list()
    labels = examples.get_column("label").replace_strict(classes, range(len(classes)), return_dtype=pl.Int64).to_numpy()
    languages = examples.get_column("language").unique().sort().to_list()
    rows: list[dict[str, object]] = []
    for seed in range(n_seeds):
        parts = corpus.split(examples, run_seed=run_seed, task=task, seed=seed, max_train=max_source)
        train, test = (_rows_of(parts, languages, part) for part in ("train", "test"))
        sources = {name: classifier.Counts.of(present[at], labels[at], len(classes)) for name, at in train.items()}
        all_texts = parts.get_column("text")
        texts: Texts = {name: tuple(all_texts[at.tolist()].to_list()) for name, at in train.items()}
        for target in languages:
            held_out = classifier.TestSet.of(present[test[target]], labels[test[target]])
            order = seeds.generator(run_seed, "languages", task, "shots", target, seed).permutation(train[target])
            of_pair = {
                source: {name: feature(source, target, texts) for name, feature in features.items()} for source in languages
            }
            for n in sorted(set(shots)):
                if n > len(order):
                    continue
                added = classifier.Counts.of(present[order[:n]], labels[order[:n]], len(classes))
                for source in languages:
                    if source == target and n > 0:
                        continue
                    guess = classifier.predict(sources[source] + added, held_out)
                    rows.append({
                        "task": task, "source": source, "target": target, "n_shots": n, "seed": seed,
                        "score": classifier.macro_f1(held_out.labels, guess, len(classes)),
                        "n_source": len(train[source]), "n_target": len(held_out.labels),
                        **of_pair[source],
                    })  # fmt: skip
            advance()
    floats = dict.fromkeys(features, pl.Float64)
    return pl.DataFrame(rows, schema_overrides=floats, infer_schema_length=None).sort(
        "task", "source", "target", "n_shots", "seed"
    )


def _rows_of(parts: pl.DataFrame, languages: Sequence[str], part: str) -> dict[str, NDArray[np.int64]]:
    chosen = (parts.get_column("part") == part).fill_null(value=False)
    return {
        language: np.flatnonzero((chosen & (parts.get_column("language") == language)).to_numpy()).astype(np.int64)
        for language in languages
    }
