"""DVC entry: `python -m stages.assumptions --encoder glyph_vit` holds its features against the assumptions of naive Bayes."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

import polars as pl

from stages import entry
from stages.artifacts import tables
from stages.artifacts.features import FeatureSet
from stages.params import Params
from stages.probe.assumptions import assumptions
from stages.probe.crossover import LOGISTIC, NAIVE_BAYES
from stages.progress import bar

TIE = 1e-12  # of mean errors, which are sums of the same few fractions


def main(settings: Params, name: str) -> None:
    """Write the encoder's part of `probe_assumptions`.

    Raises:
        InputProblem: an unknown encoder or layer, or features or curves that are not there.
    """
    settings.candidate(name)
    curves, crossings = (tables.load_parts(table, [name]) for table in ("probe_curves", "probe_crossover"))
    rows: list[dict[str, Any]] = []
    with bar(f"assumptions {name}", len(settings.targets), "targets") as advance:
        for target in settings.targets:
            features = FeatureSet.open(name, target)
            measured = assumptions(features.layer(settings.probe.layer), features.labels("train"), features.where("train"))
            won = winners(curves.filter(pl.col("target") == target))
            regime = crossings.filter(pl.col("target") == target)["regime"].item()
            rows.append({"target": target, "encoder": name, **asdict(measured), **won, "regime": regime})
            advance(1)
    schema = {column: kind.dtype for column, kind in tables.SCHEMAS["probe_assumptions"].columns.items()}
    tables.write_part("probe_assumptions", name, pl.DataFrame(rows, schema=schema))
    print(f"assumptions@{name}: {len(rows)} targets", file=sys.stderr)


def winners(curves: pl.DataFrame) -> dict[str, Any]:
    """Return who has the lower mean error at the fewest and at the most labels, and both errors at the most.

    Args:
        curves: `probe_curves` rows of one encoder and target; where one of the two heads is absent nobody wins.
    """
    mean = curves.group_by("head", "m").agg(pl.col("error").mean()).sort("m")
    both = (
        mean.filter(pl.col("head") == NAIVE_BAYES)
        .join(mean.filter(pl.col("head") == LOGISTIC), on="m", suffix="_lr")
        .sort("m")
        .select("error", "error_lr")
    )
    if both.is_empty():
        return {"winner_at_fewest": None, "winner_at_most": None, "naive_bayes_error": None, "logistic_error": None}
    fewest, most = both.row(0), both.row(-1)
    return {
        "winner_at_fewest": _winner(*fewest),
        "winner_at_most": _winner(*most),
        "naive_bayes_error": most[0],
        "logistic_error": most[1],
    }


def _winner(naive_bayes: float, logistic: float) -> str | None:
    if abs(naive_bayes - logistic) <= TIE:
        return None
    return NAIVE_BAYES if naive_bayes < logistic else LOGISTIC


if __name__ == "__main__":
    entry.run("assumptions", main, item="encoder")
