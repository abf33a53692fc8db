"""DVC entry: `python -m stages.validate` checks every artifact with Great Expectations and names the rows that fail."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from stages import entry
from stages.artifacts import atomic, tables
from stages.artifacts.dataset import SPLITS, Dataset
from stages.artifacts.features import FeatureSet
from stages.errors import InputProblem, Problem
from stages.params import Params

if TYPE_CHECKING:
    from great_expectations.expectations import Expectation

REPORT = Path("data/reports/validation")
SHOWN = 3  # failing rows named in a message
DATASET = "dataset "  # how the artifacts begin whose content is the user's


@dataclass(frozen=True)
class Check:
    """One expectation and what came of it."""

    artifact: str
    expectation: str
    columns: str
    passed: bool
    failing: int  # rows
    examples: tuple[str, ...]  # keys of the first failing rows


def main(settings: Params, _name: str) -> None:
    """Check all artifacts; write `data/reports/validation/checks.json`, or fail naming the first rows that are wrong.

    Raises:
        InputProblem: a dataset breaks its contract, or an artifact is absent or damaged.
        Problem: features or a table that a stage made break their contract.
    """
    checks = [
        check for artifact, frame, expectations, keys in suites(settings) for check in run(artifact, frame, expectations, keys)
    ]
    failed = [check for check in checks if not check.passed]
    if failed:
        first = failed[0]
        named = f", for instance {'; '.join(first.examples)}" if first.examples else ""
        kind, next_step = Problem, "this is a bug in the stage that made it, unless `transferscope verify` finds damaged files"
        if first.artifact.startswith(DATASET):
            kind, next_step = InputProblem, "`transferscope verify` tells damaged files; else look at the files of this dataset"
        raise kind(
            f"{len(failed)} of {len(checks)} checks failed; "
            f"first {first.expectation} of {first.columns}: {first.failing} rows{named}",
            where=first.artifact,
            next_step=next_step,
        )
    with atomic.new_folder(REPORT) as folder:
        content = [asdict(check) for check in checks]
        (folder / "checks.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"validate: {len(checks)} checks of {len({check.artifact for check in checks})} artifacts passed")


def suites(settings: Params) -> Iterator[tuple[str, pl.DataFrame, list[Expectation], list[str]]]:
    """Yield (artifact, its rows, what is expected of them, its key columns) for datasets, features and result tables."""
    import great_expectations.expectations as gxe

    for name in settings.all_datasets:
        dataset = Dataset.open(name)
        yield f"{DATASET}{name}", dataset.rows, [
            gxe.ExpectColumnValuesToBeUnique(column="id"),
            gxe.ExpectColumnValuesToBeInSet(column="split", value_set=list(SPLITS)),
            gxe.ExpectColumnValuesToBeBetween(column="class_index", min_value=0, max_value=len(dataset.classes) - 1),
            gxe.ExpectColumnValuesToMatchRegex(column="sha256", regex="^[0-9a-f]{64}$"),
            gxe.ExpectColumnValuesToBeBetween(column="width", min_value=1),
            gxe.ExpectColumnValuesToBeBetween(column="height", min_value=1),
        ], ["id"]  # fmt: skip
    for encoder in settings.candidates:
        for target in settings.targets:
            features, rows = FeatureSet.open(encoder, target), Dataset.open(target).rows
            lengths = pl.DataFrame(
                {"layer": features.layers, "rows": [len(features.layer(layer)) for layer in features.layers]}
            )
            yield f"features {encoder}/{target}", features.index, [
                gxe.ExpectTableRowCountToEqual(value=len(rows)),
                gxe.ExpectColumnValuesToBeUnique(column="id"),
                gxe.ExpectColumnValuesToNotBeNull(column="class_index"),
            ], ["id"]  # fmt: skip
            yield f"layers of {encoder}/{target}", lengths, [
                gxe.ExpectColumnDistinctValuesToEqualSet(column="rows", value_set=[len(rows)]),
                gxe.ExpectColumnDistinctValuesToEqualSet(column="layer", value_set=settings.candidates[encoder].layers),
            ], ["layer"]  # fmt: skip
    for name, schema in tables.SCHEMAS.items():
        yield f"table {name}", tables.load(name), _of_schema(schema), list(schema.keys)


def _of_schema(schema: tables.Schema) -> list[Expectation]:
    import great_expectations.expectations as gxe

    keys = list(schema.keys)
    unique = gxe.ExpectCompoundColumnsToBeUnique(column_list=keys)
    expected: list[Expectation] = [unique]
    if not schema.may_be_empty:
        expected.append(gxe.ExpectTableRowCountToBeBetween(min_value=1))
    for name, column in schema.columns.items():
        expected.append(gxe.ExpectColumnToExist(column=name))
        if not column.nullable:
            expected.append(gxe.ExpectColumnValuesToNotBeNull(column=name))
        if column.low is not None or column.high is not None:
            expected.append(gxe.ExpectColumnValuesToBeBetween(column=name, min_value=column.low, max_value=column.high))
    return expected


def run(artifact: str, frame: pl.DataFrame, expectations: list[Expectation], keys: list[str]) -> list[Check]:
    """Run expectations over one table's rows and return what came of each."""
    validator = _context()
    asset = validator.data_sources.add_pandas(artifact).add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame.to_pandas()})
    checks = []
    for expectation in expectations:
        outcome = batch.validate(
            expectation, result_format={"result_format": "COMPLETE", "unexpected_index_column_names": keys}
        )
        result = outcome.result
        places = result.get("unexpected_index_list") or []
        named = tuple(", ".join(f"{key}={place[key]}" for key in keys if key in place) for place in places[:SHOWN])
        described: dict[str, Any] = expectation.configuration.kwargs
        columns = described.get("column") or ", ".join(described.get("column_list", [])) or "the table"
        checks.append(
            Check(
                artifact,
                type(expectation).__name__,
                columns,
                bool(outcome.success),
                int(result.get("unexpected_count") or 0),
                named,
            )
        )
    return checks


def _context() -> Any:
    """Return a Great Expectations context that writes nothing, asks nothing of the network and shows no bars."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context


if __name__ == "__main__":
    entry.run("validate", main)
