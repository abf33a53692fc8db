"""Result tables: checked when written, sorted, versioned; a change of schema needs a new version."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import polars as pl
import pytest

from stages.artifacts import tables
from stages.errors import InputProblem

# The sha256 of each schema's columns. A test failure here means: raise the table's version, then write the new value.
KNOWN = json.loads((Path(__file__).with_name("schema_digests.json")).read_text(encoding="utf-8"))


def digest(schema: tables.Schema) -> str:
    columns = {name: [str(column.dtype), column.nullable, name in schema.keys] for name, column in schema.columns.items()}
    return hashlib.sha256(json.dumps(columns).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", tables.SCHEMAS)
def test_a_changed_schema_has_a_new_version(name: str) -> None:
    schema = tables.SCHEMAS[name]
    assert KNOWN[name] == {"version": schema.version, "digest": digest(schema)}


def finetuned(**changes: object) -> pl.DataFrame:
    row = {
        "target": "b", "encoder": "x", "mode": "full", "seed": 0, "accuracy": 0.5, "mean_per_class_accuracy": 0.4, "epochs": 2,
    }  # fmt: skip
    return pl.DataFrame([{**row, **changes}, {**row, "target": "a"}])


def test_written_sorted_and_read_back(project: Path) -> None:
    tables.write("finetuned", finetuned())
    assert tables.load("finetuned")["target"].to_list() == ["a", "b"]
    first = tables.result_path("finetuned").read_bytes()
    tables.write("finetuned", finetuned().reverse().select(sorted(finetuned().columns)))
    assert tables.result_path("finetuned").read_bytes() == first


def test_nan_becomes_null(project: Path) -> None:
    tables.write("finetuned", finetuned(epochs=None))
    assert tables.load("finetuned")["epochs"].null_count() == 1


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (finetuned(target="a"), "not unique"),
        (finetuned(accuracy=None), "null in"),
        (finetuned(accuracy=float("nan")), "null in"),
        (finetuned(accuracy=float("inf")), "infinite"),
        (finetuned().drop("accuracy"), "missing"),
        (finetuned().with_columns(extra=1.0), "not in the schema"),
    ],
)
def test_what_breaks_the_schema_is_not_written(project: Path, frame: pl.DataFrame, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        tables.write("finetuned", frame)
    assert not tables.result_path("finetuned").exists()


def test_only_open_tables_take_further_columns(project: Path) -> None:
    row = {
        "task": "t",
        "source": "en",
        "target": "es",
        "n_shots": 0,
        "seed": 0,
        "score": 0.5,
        "metric": None,
        "n_source": 10,
        "n_target": 10,
    }
    tables.write("language_pairs", pl.DataFrame([row]).with_columns(zeta=1.0, alpha=None))
    assert tables.load("language_pairs").columns[-2:] == ["alpha", "zeta"]


def test_parts_of_named_items_alone(project: Path) -> None:
    for name in ("x", "y"):
        tables.write_part("finetuned", name, finetuned().with_columns(encoder=pl.lit(name)))
    assert set(tables.load_parts("finetuned", ["y"])["encoder"]) == {"y"}


def test_reading_what_is_not_there(project: Path) -> None:
    with pytest.raises(InputProblem, match="agreement"):
        tables.load("agrement")
    with pytest.raises(InputProblem, match="dvc repro tables"):
        tables.load("agreement")
    tables.result_path("agreement").parent.mkdir(parents=True)
    tables.result_path("agreement").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(InputProblem, match="damaged"):
        tables.load("agreement")


def test_another_version_is_refused(project: Path) -> None:
    tables.result_path("finetuned").parent.mkdir(parents=True)
    finetuned().write_parquet(tables.result_path("finetuned"), metadata={"schema_version": "0"})
    with pytest.raises(InputProblem, match="schema version 0"):
        tables.load("finetuned")
