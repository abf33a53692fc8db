"""Measuring the transfer table: every source on every target, with none to many target examples added."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages import seeds
from stages.languages import classifier, corpus, same_entity, tokens
from stages.languages.texts import PairFeature, Texts

METRIC = "macro_f1"
FACTS = ("task", "source", "target", "n_shots", "seed", "score", "metric", "n_source", "n_target")
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
    written = examples.get_column("text").to_list()
    present = tokens.present(written)
    classes = examples.get_column("label").unique().sort().to_list()
    labels = examples.get_column("label").replace_strict(classes, range(len(classes)), return_dtype=pl.Int64).to_numpy()
    languages = examples.get_column("language").unique().sort().to_list()
    columns: dict[str, list[object]] = {name: [] for name in (*FACTS, *features)}
    for seed in range(n_seeds):
        parts = corpus.split(examples, run_seed=run_seed, task=task, seed=seed, max_train=max_source)
        train, test = (_rows_of(parts, languages, part) for part in ("train", "test"))
        sources = classifier.Sources.of(present, labels, [train[name] for name in languages], len(classes))
        texts: Texts = {
            name: tuple(dict.fromkeys(same_entity.own_text(written[row]) for row in at.tolist())) for name, at in train.items()
        }
        n_source = [len(train[source]) for source in languages]
        for target in languages:
            held_out = classifier.Target(sources, present[test[target]], labels[test[target]])
            order = seeds.generator(run_seed, "languages", task, "shots", target, seed).permutation(train[target])
            of_pair = {name: [feature(source, target, texts) for source in languages] for name, feature in features.items()}
            for n in sorted(set(shots)):
                if n > len(order):
                    continue
                guess = held_out.predict(present[order[:n]], labels[order[:n]])
                scores = classifier.macro_f1(held_out.labels, guess, len(classes)).tolist()
                kept = [at for at, source in enumerate(languages) if source != target or n == 0]
                same = {
                    "task": task, "target": target, "n_shots": n, "seed": seed, "metric": METRIC, "n_target": len(test[target]),
                }  # fmt: skip
                varying = {"source": languages, "score": scores, "n_source": n_source, **of_pair}
                for name, into in columns.items():
                    into += [varying[name][at] for at in kept] if name in varying else [same[name]] * len(kept)
            advance()
    table = pl.DataFrame({
        name: pl.Series(name, values, dtype=pl.Float64 if name in features else None) for name, values in columns.items()
    })  # fmt: skip
    return table.sort("task", "source", "target", "n_shots", "seed")


def _rows_of(parts: pl.DataFrame, languages: Sequence[str], part: str) -> dict[str, NDArray[np.int64]]:
    chosen = (parts.get_column("part") == part).fill_null(value=False)
    return {
        language: np.flatnonzero((chosen & (parts.get_column("language") == language)).to_numpy()).astype(np.int64)
        for language in languages
    }
