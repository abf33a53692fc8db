"""Validation names the row that is wrong and who has to act, and lets pass what params.yaml may leave empty."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from stages import params, validate
from stages.artifacts import tables
from stages.errors import InputProblem, Problem

# Great Expectations itself imports and calls what is deprecated; none of it is this project's code.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

EMPTY = {
    "finetuned",
    "layer_probes",
    "layer_profiles",
    "agreement",
    "metric_verdicts",
    "pruning_scores",
    "pruning_outcomes",
    "pruning_savings",
    "fewshot_curves",
    "language_pairs",
    "language_effects",
    "language_groups",
    "language_claims",
    "language_predictions",
    "language_quality",
    "language_anchors",
    "language_choices",
    "language_warnings",
    "source_languages",
    "source_sets",
    "distance_weights",
    "language_distances",
    "language_clusters",
}


def finetuned(*accuracies: float | None) -> pl.DataFrame:
    rows = [
        {
            "target": "t",
            "encoder": f"encoder {number}",
            "mode": "full",
            "seed": 0,
            "accuracy": accuracy,
            "mean_per_class_accuracy": 0.5,
            "epochs": None,
        }
        for number, accuracy in enumerate(accuracies)
    ]
    schema = {name: column.dtype for name, column in tables.SCHEMAS["finetuned"].columns.items()}
    return pl.DataFrame(rows, schema=schema)


def checked(name: str, frame: pl.DataFrame) -> list[validate.Check]:
    schema = tables.SCHEMAS[name]
    return validate.run(f"table {name}", frame, validate._of_schema(schema), list(schema.keys))


def test_a_sound_table_passes() -> None:
    assert all(check.passed for check in checked("finetuned", finetuned(0.5, 1.0)))


@pytest.mark.parametrize(
    ("frame", "expectation", "columns"),
    [
        (finetuned(0.5, 1.5), "ExpectColumnValuesToBeBetween", "accuracy"),
        (finetuned(0.5, None), "ExpectColumnValuesToNotBeNull", "accuracy"),
    ],
)
def test_a_broken_row_is_named_by_its_keys(frame: pl.DataFrame, expectation: str, columns: str) -> None:
    (failed,) = [check for check in checked("finetuned", frame) if not check.passed]
    assert (failed.expectation, failed.columns, failed.failing) == (expectation, columns, 1)
    assert failed.examples == ("target=t, encoder=encoder 1, mode=full, seed=0",)


def test_keys_that_are_not_unique_are_named() -> None:
    twice = pl.concat([finetuned(0.5), finetuned(0.6)])
    (failed,) = [check for check in checked("finetuned", twice) if not check.passed]
    assert failed.columns == "target, encoder, mode, seed"
    assert failed.failing == 2


@pytest.mark.parametrize("name", tables.SCHEMAS)
def test_only_tables_that_params_may_leave_empty_pass_without_rows(name: str) -> None:
    schema = tables.SCHEMAS[name]
    frame = pl.DataFrame(schema={key: column.dtype for key, column in schema.columns.items()})
    assert all(check.passed for check in checked(name, frame)) == (name in EMPTY) == schema.may_be_empty


@pytest.mark.parametrize(("artifact", "kind"), [("dataset digits", InputProblem), ("table finetuned", Problem)])
def test_who_has_to_act(
    artifact: str, kind: type[Problem], write_params: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = params.load(write_params())
    expectations, keys = validate._of_schema(tables.SCHEMAS["finetuned"]), ["encoder"]

    def one(settings: params.Params) -> Iterator[tuple[str, pl.DataFrame, list[Any], list[str]]]:
        yield artifact, finetuned(0.5, 1.5), expectations, keys

    monkeypatch.setattr(validate, "suites", one)
    with pytest.raises(Problem, match="accuracy: 1 rows, for instance encoder=encoder 1") as failure:
        validate.main(settings, "")
    assert type(failure.value) is kind
    assert failure.value.where == artifact
    assert not validate.REPORT.exists()
