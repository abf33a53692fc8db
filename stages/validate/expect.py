"""Run Great Expectations over suites: no files of its own, no network, no bars."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

SHOWN = 3  # failing rows named in a message


@dataclass(frozen=True)
class Suite:
    """What is expected of the rows of one artifact.

    Attributes:
        artifact: its name, the same in messages, in file names and in `checks.json`.
        rows: the rows.
        expected: Great Expectations' own objects.
        keys: the columns that name a row.
    """

    artifact: str
    rows: pl.DataFrame
    expected: tuple[Any, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Check:
    """One expectation and what came of it."""

    artifact: str
    expectation: str
    columns: str
    passed: bool
    failing: int  # rows
    examples: tuple[str, ...]  # keys of the first failing rows
    found: str  # what was observed where no single row is at fault, else empty


@dataclass(frozen=True)
class Outcome:
    """What came of one suite; `result` is Great Expectations' own, for its pages."""

    artifact: str
    rows: int
    checks: tuple[Check, ...]
    result: Any

    @property
    def passed(self) -> bool:
        """Say whether all checks passed."""
        return all(check.passed for check in self.checks)


def run(suites: Iterable[Suite]) -> Iterator[Outcome]:
    """Yield what came of each suite. One context, and one graph of metrics a suite: most of the time goes there."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context: Any = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("artifacts").add_dataframe_asset("rows")
    batches = asset.add_batch_definition_whole_dataframe("all")
    for suite in suites:
        batch = batches.get_batch({"dataframe": suite.rows.to_pandas()})
        result = batch.validate(
            gx.ExpectationSuite(name=suite.artifact, expectations=list(suite.expected)),
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": list(suite.keys)},
        )
        checks = tuple(_check(suite, one) for one in result.results)
        yield Outcome(suite.artifact, suite.rows.height, checks, result)


def _check(suite: Suite, outcome: Any) -> Check:
    config, result = outcome.expectation_config, outcome.result
    places = result.get("unexpected_index_list") or []
    named = tuple(", ".join(f"{key}={place[key]}" for key in suite.keys if key in place) for place in places[:SHOWN])
    kwargs: dict[str, Any] = config.kwargs
    pair = [kwargs[name] for name in ("column_A", "column_B") if name in kwargs]
    failing = int(result.get("unexpected_count") or 0)
    found = "" if outcome.success or failing else f"found {result.get('observed_value')}"
    raised = next(iter((outcome.exception_info or {}).values()), None) if not outcome.success and not result else None
    if isinstance(raised, dict):
        found = str(raised.get("exception_message"))
    return Check(
        suite.artifact,
        "".join(word.capitalize() for word in config.type.split("_")),
        kwargs.get("column") or ", ".join(kwargs.get("column_list") or pair) or "the table",
        bool(outcome.success),
        failing,
        named,
        found,
    )
