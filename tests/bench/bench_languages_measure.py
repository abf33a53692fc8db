"""python tests/bench/bench_languages_measure.py [--languages 30] [--seeds 3] [--cells 60]

The measured transfer table, L languages x 3 tasks x 5 numbers of target examples x S seeds, by `measure_task`, against
refitting for each cell (1) a scikit-learn pipeline, and (2) scikit-learn's naive Bayes on n-grams counted once for all cells,
as a careful user would. Either is timed on cells drawn at random in the same run, and multiplied; the scores of those cells are
compared. Then growth in the number of languages, and the intake of a user's table of 54,160 rows with mixes, made up.
"""

from __future__ import annotations

import argparse
import platform
import resource
import time

import numpy as np
import polars as pl
import scipy
import sklearn
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import f1_score
from sklearn.naive_bayes import MultinomialNB

from stages import seeds
from stages.languages import PAIR_FEATURES, TASKS, classifier, tokens
from stages.languages.corpus import gather, split
from stages.languages.features import with_features
from stages.languages.intake import accept
from stages.languages.measure import measure_task

LANGUAGES = [
    "en", "de", "nl", "sv", "es", "pt", "fr", "it", "ro", "pl", "cs", "fi", "tr", "uz", "id", "sw", "ru", "uk",
    "bg", "sr", "kk", "el", "ar", "fa", "ur", "hi", "mr", "bn", "ta", "ka", "zh", "ja", "ko", "th", "vi", "hu",
    "da", "nb", "hr", "sk",
]  # fmt: skip
SHOTS, MAX_SOURCE = [0, 10, 30, 100, 300], 1000
GROWTH = (8, 16, 32)


def opposites(pair: str) -> list[str]:
    """The tokens of a pair, one at a time, as a user would write them."""
    one, other = (part.replace(" ", "") for part in pair.split("\t"))
    found = [f"first {one[:1]}{other[:1]}", f"last {one[-1:]}{other[-1:]}"]
    for at, letter in enumerate(one):
        place = round(at * (len(other) - 1) / max(len(one) - 1, 1))
        found += [letter + partner for partner in other[max(place - 1, 0) : place + 2]]
    return found


def vectorizer(task: str) -> CountVectorizer:
    if task == "same_entity":
        return CountVectorizer(analyzer=opposites, binary=True)
    return CountVectorizer(analyzer="char_wb", ngram_range=(1, tokens.LONGEST), binary=True, lowercase=False)


class Cells:
    """Cells of one task and seed, trained from nothing."""

    def __init__(self, task: str, examples: pl.DataFrame, seed: int) -> None:
        self.task, self.seed = task, seed
        parts = split(examples, run_seed=0, task=task, seed=seed, max_train=MAX_SOURCE)
        self.texts, self.labels = parts["text"].to_numpy(), parts["label"].to_numpy()
        rows = parts.with_row_index("row")
        self.rows = {
            (language, part): of["row"].to_numpy().astype(np.int64)
            for (language, part), of in rows.group_by("language", "part")
        }

    def of(self, source: str, target: str, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        drawn = seeds.generator(0, "languages", self.task, "shots", target, self.seed).permutation(self.rows[target, "train"])[
            :n
        ]
        return np.concatenate([self.rows[source, "train"], drawn]), self.rows[target, "test"]

    def pipeline(self, source: str, target: str, n: int) -> float:
        train, test = self.of(source, target, n)
        words, model = vectorizer(self.task), MultinomialNB(alpha=classifier.ALPHA, fit_prior=False)
        model.fit(words.fit_transform(self.texts[train]), self.labels[train])
        return float(f1_score(self.labels[test], model.predict(words.transform(self.texts[test])), average="macro"))

    def counted_once(self, words: object, source: str, target: str, n: int) -> float:
        train, test = self.of(source, target, n)
        x = words[train]  # type: ignore[index]
        seen = np.unique(x.indices)
        model = MultinomialNB(alpha=classifier.ALPHA, fit_prior=False).fit(x[:, seen], self.labels[train])
        return float(f1_score(self.labels[test], model.predict(words[test][:, seen]), average="macro"))  # type: ignore[index]


def ours(languages: list[str], n_seeds: int) -> tuple[pl.DataFrame, float]:
    started = time.perf_counter()
    frames = []
    for task in sorted(TASKS):
        examples = gather(TASKS[task], languages)
        frames.append(
            measure_task(task, examples, shots=SHOTS, n_seeds=n_seeds, run_seed=0, max_source=MAX_SOURCE, features={})
        )
    return pl.concat(frames), time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--languages", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cells", type=int, default=60)
    asked = parser.parse_args()
    languages = LANGUAGES[: asked.languages]
    print(f"numpy {np.__version__}, scipy {scipy.__version__}, scikit-learn {sklearn.__version__}, {platform.machine()}")
    for language in languages:  # names are read from Babel once, by either way
        for task in TASKS:
            TASKS[task](language)
    table, seconds = ours(languages, asked.seeds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{len(languages)} languages, 3 tasks, {len(SHOTS)} shots, {asked.seeds} seeds: {table.height} cells in {seconds:.1f} s"
    )
    print(f"  {1e3 * seconds / table.height:.3f} ms a cell, peak memory {peak:.0f} MiB")

    rng = np.random.default_rng(0)
    drawn = table[rng.choice(table.height, asked.cells, replace=False).tolist()].sort("task", "seed")
    spent, errors = {"pipeline": 0.0, "counted once": 0.0}, {"pipeline": 0.0, "counted once": 0.0}
    for (task, seed), rows in drawn.group_by("task", "seed", maintain_order=True):
        cells = Cells(str(task), gather(TASKS[str(task)], languages), int(seed))  # type: ignore[call-overload]
        words = vectorizer(str(task)).fit_transform(cells.texts)
        for source, target, n, score in rows.select("source", "target", "n_shots", "score").iter_rows():
            for way in spent:
                started = time.perf_counter()
                found = cells.pipeline(source, target, n) if way == "pipeline" else cells.counted_once(words, source, target, n)
                spent[way] += time.perf_counter() - started
                errors[way] = max(errors[way], abs(found - score))
    for way, total in spent.items():
        each = total / asked.cells
        print(
            f"scikit-learn, {way:12} {1e3 * each:7.1f} ms a cell, {each * table.height / 60:6.1f} min for all cells: "
            f"{each * table.height / seconds:6.1f} times ours; largest difference of a score {errors[way]:.1e}"
        )

    for count in GROWTH:
        part, took = ours(LANGUAGES[:count], 1)
        print(f"growth: {count:3} languages, 1 seed: {part.height:6} cells in {took:6.2f} s, {1e3 * took / part.height:.2f} ms")

    rows, mixes = 54_160, 1400
    names = LANGUAGES[:20]
    mixtures = ["+".join(f"{one}:{rng.integers(1, 5000)}" for one in rng.permutation(names)[:8]) for _ in range(mixes)]
    raw = pl.DataFrame({
        "task": [f"task {i % 8}" for i in range(rows)], "source": [mixtures[i // 40] for i in range(rows)],
        "target": [LANGUAGES[i % 40] for i in range(rows)], "score": rng.uniform(0.2, 0.9, rows), "metric": "f1",
    }).with_columns(seed=pl.int_range(pl.len()))  # fmt: skip
    started = time.perf_counter()
    taken = accept(raw, "made up").pairs
    middle = time.perf_counter()
    features = {name: PAIR_FEATURES[name] for name in sorted(PAIR_FEATURES)}
    wide = with_features(taken, features, {})
    print(f"a user's table: {rows} rows of {mixes} mixes accepted in {middle - started:.1f} s, "
          f"{len(wide.columns) - len(taken.columns)} features in {time.perf_counter() - middle:.1f} s")  # fmt: skip


if __name__ == "__main__":
    main()
