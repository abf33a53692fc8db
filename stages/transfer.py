"""Measure how well each task transfers between each pair of languages.

python -m stages.transfer
"""

from __future__ import annotations

import polars as pl

from stages import entry
from stages.artifacts import tables
from stages.errors import InputProblem, nearest
from stages.languages import PAIR_FEATURES, TASKS, known_languages
from stages.languages.corpus import gather
from stages.languages.measure import measure_task
from stages.params import Params
from stages.progress import bar


def main(settings: Params, name: str = "") -> None:
    """Write `language_pairs`: tasks x sources x targets x shots x seeds, with the features of the pairs."""
    section = settings.languages
    known = known_languages()
    for language in section.languages:
        if language not in known:
            raise InputProblem(
                f"there is no language {language!r}; {nearest(language, known)}",
                where="params.yaml: languages.languages",
                next_step="edit it, then `dvc repro transfer`",
            )
    features = {name: PAIR_FEATURES[name] for name in sorted(section.features or PAIR_FEATURES)}
    total = len(section.tasks) * section.seeds * len(set(section.languages))
    with bar("transfer", total, "targets") as advance:

        def measured(task: str) -> pl.DataFrame:
            return measure_task(
                task,
                gather(TASKS[task], section.languages),
                shots=section.shots,
                n_seeds=section.seeds,
                run_seed=settings.run.seed,
                max_source=section.max_source,
                features=features,
                advance=lambda: advance(1),
            )

        pairs = pl.concat([measured(task) for task in sorted(set(section.tasks))])
    tables.write("language_pairs", pairs)
    print(f"transfer: {pairs.height} scores, {len(set(section.languages))} languages, tasks {', '.join(section.tasks)}")


if __name__ == "__main__":
    entry.run("transfer", main)
