"""Validation names the row that is wrong and who has to act, and lets pass what params.yaml may leave empty."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stages import extract, ingest, params, sources, weights
from stages.artifacts import tables
from stages.errors import InputProblem, Problem
from stages.prune import __main__ as prune
from stages.validate import __main__ as entry
from stages.validate import pages
from stages.validate.counts import of_params
from stages.validate.expect import Check, Suite, run
from stages.validate.suites import of_schema, suites

ROOT = Path(__file__).resolve().parents[1]
KNOWN = {"metrics": ["logme"], "accuracies": "data/raw/accuracies/mine.csv"}

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


def checked(name: str, frame: pl.DataFrame) -> tuple[Check, ...]:
    schema = tables.SCHEMAS[name]
    (outcome,) = run([Suite(f"table {name}", frame, tuple(of_schema(schema)), tuple(schema.keys))])
    return outcome.checks


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


def test_only_tables_that_params_may_leave_empty_pass_without_rows() -> None:
    suites = []
    for name, schema in tables.SCHEMAS.items():
        frame = pl.DataFrame(schema={key: column.dtype for key, column in schema.columns.items()})
        suites.append(Suite(name, frame, tuple(of_schema(schema)), tuple(schema.keys)))
    assert {outcome.artifact for outcome in run(suites) if outcome.passed} == EMPTY
    assert {name for name, schema in tables.SCHEMAS.items() if schema.may_be_empty} == EMPTY


def test_rows_and_names_are_counted_against_params(write_params: Callable[..., Path]) -> None:
    settings = params.load(write_params(finetune={"modes": ["full"], "seeds": 2}))
    expected = tuple(of_params(settings)["finetuned"])
    (outcome,) = run([Suite("table finetuned", finetuned(0.5, 1.0), expected, ("encoder",))])
    wrong = {check.columns for check in outcome.checks if not check.passed}
    assert wrong == {"encoder", "target", "seed"}  # two rows there should be, of other names and one seed
    assert "finetuned" not in of_params(params.load(write_params(finetune={"modes": []}, rank=KNOWN)))


@pytest.mark.parametrize(("artifact", "kind"), [("dataset digits", InputProblem), ("table finetuned", Problem)])
def test_who_has_to_act_and_where_the_rows_are(
    artifact: str, kind: type[Problem], write_params: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = params.load(write_params())
    expected = tuple(of_schema(tables.SCHEMAS["finetuned"]))

    def some(settings: params.Params) -> Iterator[Suite]:
        yield Suite("sound", finetuned(0.5), expected, ("encoder",))
        yield Suite(artifact, finetuned(0.5, 1.5).with_columns(encoder=pl.format("<b>{}", "encoder")), expected, ("encoder",))

    monkeypatch.setattr(entry, "suites", some)
    with pytest.raises(Problem, match="accuracy: 1 rows, for instance encoder=<b>encoder 1") as failure:
        entry.main(settings, "")
    assert type(failure.value) is kind
    assert failure.value.where == artifact
    page = (entry.REPORT / f"{artifact.replace(' ', '-')}.html").read_text(encoding="utf-8")
    assert "first encoder=&lt;b&gt;encoder 1" in page
    assert "<b>encoder" not in page
    index = (entry.REPORT / "index.html").read_text(encoding="utf-8")
    assert index.index(f">{artifact}<") < index.index(">sound<"), "what failed comes first"
    checks = json.loads((entry.REPORT / "checks.json").read_text(encoding="utf-8"))
    assert [check["artifact"] for check in checks if not check["passed"]] == [artifact]


def test_the_pages_are_the_same_each_time_and_need_no_network(tmp_path: Path) -> None:
    schema = tables.SCHEMAS["finetuned"]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        pages.write(
            tmp_path / name, list(run([Suite("table", finetuned(0.5, 1.5), tuple(of_schema(schema)), tuple(schema.keys))]))
        )
    files = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert set(files) == {"index.html", "table.html", "style.css", "checks.json"}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}
    for name, content in files.items():
        text = content.decode()
        assert "://" not in text, name
        assert "<script" not in text, name
        for link in re.findall(r'(?:href|src)="([^"#]+)"', text):
            assert link in files, name


def test_datasets_weights_features_and_prunings_are_checked(write_params: Callable[..., Path]) -> None:
    glyphs = {"kind": "glyphs", "scripts": ["digits"], "images_per_class": 10}
    encoder = {"arch": "test_byobnet", "arch_args": {"in_chans": 1}, "weights": {"pretrain": "glyphs"}, "input_size": 32}
    write_params(
        datasets={"packaged": {"digits": {"kind": "sklearn", "name": "digits"}, "glyphs": glyphs}},
        encoders={"tiny": {**encoder, "layers": ["pooled"]}},
        pretrain={"epochs": 1},
        prune={"pairs": [{"source": "glyphs", "target": "digits", "surrogate": "tiny"}], "methods": ["label_mapping"]},
    )
    settings = params.load()
    for name in settings.all_datasets:
        ingest.main(settings, name)
    sources.main(settings, "")
    weights.main(settings, "tiny")
    extract.main(settings, "tiny")
    prune.main(settings, "")

    def failed() -> dict[str, set[str]]:
        made = (suite for suite in suites(settings) if not suite.artifact.startswith("table"))
        found = {}
        with pytest.raises(InputProblem, match="has not been made yet"):  # the first table
            for suite in made:
                (outcome,) = run([suite])
                found[suite.artifact] = {check.columns for check in outcome.checks if not check.passed}
        return found

    names = [
        "dataset digits", "dataset digits, quarantine", "dataset glyphs", "dataset glyphs, quarantine", "weights",
        "features tiny on digits", "layers of tiny on digits", "source probabilities of tiny on digits",
        "pruning glyphs for digits",
    ]  # fmt: skip
    assert failed() == {name: set() for name in names}

    def rewrite(path: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        change(pl.read_parquet(path)).write_parquet(path)
        shape = json.loads((path.parent / "manifest.json").read_text())
        shape["files"][path.name]["bytes"] = path.stat().st_size
        (path.parent / "manifest.json").write_text(json.dumps(shape))

    features = Path("data/features/tiny/digits")
    values = np.load(features / "pooled.npy")
    values[7, 0] = np.nan
    np.save(features / "pooled.npy", values)
    rewrite(features / "index.parquet", lambda frame: frame.with_columns(class_index=1 - pl.col("class_index").clip(0, 1)))
    rewrite(Path("data/datasets/glyphs/manifest.parquet"), lambda frame: frame.with_columns(sha256=pl.lit("0"), width=0))
    rewrite(
        Path("data/pruning/glyphs/digits/label_mapping/kept-0.2.parquet"),
        lambda frame: pl.concat([frame, frame.head(1), frame.head(1).with_columns(id=pl.lit("stranger"))]),
    )
    assert {artifact: wrong for artifact, wrong in failed().items() if wrong} == {
        "dataset glyphs": {"sha256", "width"},
        "features tiny on digits": {"class_index, dataset class_index"},
        "layers of tiny on digits": {"not finite"},
        "pruning glyphs for digits": {"not in the source", "twice"},
    }


def test_great_expectations_is_imported_here_alone() -> None:
    found = {
        path.relative_to(ROOT).parts[:2]
        for folder in ("stages", "pipelines")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"^\s*(import|from) great_expectations", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert found == {("stages", "validate")}
