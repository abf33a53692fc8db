"""Measure how well each task transfers between each pair of languages, and take in the user's own table.

python -m stages.transfer
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from stages import entry
from stages.artifacts import tables
from stages.artifacts.raw import language_file
from stages.errors import InputProblem, nearest
from stages.languages import PAIR_FEATURES, TASKS, known_languages
from stages.languages.cells import Cells
from stages.languages.corpus import gather, given_texts
from stages.languages.features import coverage, with_features
from stages.languages.intake import accept
from stages.languages.measure import measure_task
from stages.languages.texts import PairFeature
from stages.params import Params
from stages.progress import bar

Features = dict[str, PairFeature]


def main(settings: Params, name: str = "") -> None:
    """Write `language_pairs`: tasks x sources x targets x shots x seeds, with the features of the pairs."""
    section = settings.languages
    features: Features = {name: PAIR_FEATURES[name] for name in sorted(section.features or PAIR_FEATURES)}
    frames = [_measured(settings, features)] if section.tasks else []
    if section.table is not None:
        frames.append(_given(section.table, section.texts, features, taken=section.tasks))
    if not frames:
        tables.write("language_pairs", tables.frame("language_pairs", []))
        print("transfer: params.yaml names neither a task nor a table of languages")
        return
    pairs = pl.concat(frames, how="diagonal")
    tables.write("language_pairs", pairs)
    n_languages = len(set(pairs["target"]))
    print(f"transfer: {pairs.height} scores, {n_languages} target languages, tasks {', '.join(sorted(set(pairs['task'])))}")
    known = ", ".join(f"{name} {share:.0%}" for name, share in coverage(pairs, features).items())
    print(f"transfer: share of the scores for which a feature is known: {known or 'there is none'}")


def _measured(settings: Params, features: Features) -> pl.DataFrame:
    section = settings.languages
    known = known_languages()
    for language in section.languages:
        if language not in known:
            raise InputProblem(
                f"there is no language {language!r}; {nearest(language, known)}",
                where="params.yaml: languages.languages",
                next_step="edit it, then `dvc repro transfer`",
            )
    total = len(section.tasks) * section.seeds * len(set(section.languages))
    with bar("transfer", total, "targets") as advance:
        return pl.concat(
            measure_task(
                task,
                gather(TASKS[task], section.languages),
                shots=section.shots,
                n_seeds=section.seeds,
                run_seed=settings.run.seed,
                max_source=section.max_source,
                features=features,
                advance=lambda: advance(1),
            )
            for task in sorted(set(section.tasks))
        )


def _given(path: Path, texts: Path | None, features: Features, *, taken: list[str]) -> pl.DataFrame:
    accepted = accept(_read(path, "table"), str(path))
    for note in accepted.notes:
        print(f"transfer: {path}: {note}")
    twice = sorted(set(accepted.pairs["task"]) & set(taken))
    if twice:
        raise InputProblem(
            f"its task {twice[0]!r} has the name of one that is measured",
            where=f"{path}, column task",
            next_step="rename it there, or take it out of languages.tasks in params.yaml, then `dvc repro transfer`",
        )
    written = given_texts(_read(texts, "texts"), Cells(str(texts))) if texts is not None else {}
    return with_features(accepted.pairs, features, written)


def _read(path: Path, key: str) -> pl.DataFrame:
    """Return a CSV or parquet file of the user's."""
    language_file(path, key)
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path)
        # Whole file for the types: a number that first comes in row 1000 must not end in a traceback.
        return pl.read_csv(path, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError) as error:
        what = f"cannot be read: {str(error).strip().splitlines()[0]}"
        raise InputProblem(what, where=str(path), next_step="write it again, then `dvc repro transfer`") from None


if __name__ == "__main__":
    entry.run("transfer", main)
