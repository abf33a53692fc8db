"""The analyst's commands on real result tables: sql, tables, recommend, and what they say to mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from pipelines import cli, query
from stages.artifacts import tables
from stages.errors import InputProblem

AGREEMENT = {
    "target": ["digits", "digits", "hebrew"],
    "metric": ["logme", "tmi", "logme"],
    "mode": ["full"] * 3,
    "n_encoders": [4, 4, 4],
    "n_candidates": [4, 4, 4],
    "pearson": [0.5, -0.25, None],
    **{name: [None] * 3 for name in ("kendall", "weighted_kendall", "relative_at_1", "relative_at_3", "top1_regret")},
    **{name: [None] * 3 for name in ("ci_low", "ci_high", "regret_low", "regret_high", "random_regret", "warning")},
}
ANSWERS = {
    "question": ["which encoder and layer", "which encoder and layer", "how much source data can go"],
    "target": ["digits", "hebrew", "glyphs for digits"],
    "answer": ["glyph_vit, layer pooled", "glyph_resnet, layer layer3", "keep 20% of the classes by random"],
    "evidence": ["logme 1.234; " + "full fine-tuning 0.987 (best 0.991, glyph_resnet); " * 3, "logme 2", "accuracy +0.001"],
    "margin": [0.123456, None, 0.5],
    "warning": [None, None, "classes kept at random do as well at this fraction"],
}


@pytest.fixture
def results(project: Path, write_params: Callable[..., Path]) -> Path:
    """A project folder in which two tables have been made."""
    write_params()
    (project / "dvc.yaml").write_text("stages: {}\n")
    tables.write("agreement", pl.DataFrame(AGREEMENT))
    tables.write("recommendations", pl.DataFrame(ANSWERS))
    return project


def run(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [Path(sys.executable).parent / "transferscope", *arguments], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_answers_are_the_rows_that_sql_asks_for(results: Path) -> None:
    answer = query.ask("select target, count(*) as n, max(pearson) as best from agreement group by target order by target")
    assert answer.rows() == [("digits", 2, 0.5), ("hebrew", 1, None)]
    joined = query.ask(
        "select a.metric, r.answer from agreement a join recommendations r on a.target = r.target order by a.metric"
    )
    assert joined["metric"].to_list() == ["logme", "logme", "tmi"]


def test_prints_tables_csv_and_json_and_writes_files(results: Path) -> None:
    runner = CliRunner()
    asked = "select target, metric, pearson from agreement order by target, metric"
    screen = runner.invoke(cli.app, ["sql", asked]).stdout.splitlines()
    assert [line.split() for line in screen] == [
        ["target", "metric", "pearson"], ["digits", "logme", "0.5"], ["digits", "tmi", "-0.25"], ["hebrew", "logme"],
    ]  # fmt: skip
    assert runner.invoke(cli.app, ["sql", asked, "--csv"]).stdout.splitlines()[1:] == [
        "digits,logme,0.5", "digits,tmi,-0.25", "hebrew,logme,",
    ]  # fmt: skip
    assert json.loads(runner.invoke(cli.app, ["sql", asked, "--json"]).stdout)[2]["pearson"] is None
    for name, read in {"a.parquet": pl.read_parquet, "a.csv": pl.read_csv, "a.json": pl.read_json}.items():
        assert runner.invoke(cli.app, ["sql", asked, "--out", name]).exit_code == 0
        assert read(name).to_dicts() == query.ask(asked).to_dicts()


@pytest.mark.parametrize(
    ("sql", "parts"),
    [
        (
            "select * from agreemnt",
            ["no table 'agreemnt'", "nearest valid: agreement", "made so far: agreement, recommendations"],
        ),
        ("select * from finetuned", ["finetuned.parquet", "not been made", "dvc repro tables"]),
        ("select pearsn from agreement", ["no column 'pearsn'", "nearest valid: pearson"]),
        ("selekt * from agreement", ["sql:"]),
        ("select from where", ["sql:"]),
        ("", ["sql:"]),
    ],
)
def test_wrong_sql_is_one_message(results: Path, sql: str, parts: list[str]) -> None:
    with pytest.raises(InputProblem) as caught:
        query.ask(sql)
    for part in parts:
        assert part in str(caught.value)


def test_a_mistake_ends_with_2_and_no_traceback(results: Path) -> None:
    for arguments in (["sql", "select * from agreemnt"], ["sql", "select 1", "--csv", "--json"], ["recommend", "digit"]):
        code, said, complaint = run(*arguments)
        assert (code, said) == (2, "")
        assert "Traceback" not in complaint
    assert "nearest valid: digits" in complaint
    code, _, complaint = run("sql", "select 1 as one", "--out", "a.xlsx")
    assert code == 2
    assert ".xlsx; valid: .parquet, .csv, .json" in complaint


def test_asking_does_not_need_torch_prefect_or_dvc(results: Path) -> None:
    script = (
        "import sys\nimport pipelines.cli\nsys.argv = ['transferscope', 'sql', 'select count(*) from agreement', '--csv']\n"
        "try:\n    pipelines.cli.main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print([name for name in ('torch', 'prefect', 'dvc') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["len", "3", "[]"]


def test_help_imports_nothing_heavy(results: Path) -> None:
    script = "import sys, pipelines.cli; print([n for n in ('torch', 'prefect', 'dvc', 'polars') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_lists_every_table_made_or_not(results: Path) -> None:
    _, said, _ = run("tables")
    rows = {line.split()[0]: line for line in said.splitlines() if line}
    assert set(tables.SCHEMAS) <= set(rows)
    assert rows["agreement"].split()[1] == "3"
    assert "target, metric, mode" in rows["agreement"]
    assert len(said.splitlines()) == 1 + len(tables.SCHEMAS) + sum(
        "has not been made yet" in line for line in said.splitlines()
    )
    assert "finetuned: has not been made yet; dvc repro tables" in said


def test_recommendations_fit_100_columns_and_end_with_the_report(results: Path) -> None:
    _, said, _ = run("recommend")
    lines = said.splitlines()
    assert max(map(len, lines)) <= 100
    words = " ".join(" ".join(line.split()) for line in lines)
    for part in (
        "glyph_vit, layer pooled",
        "glyph_resnet, layer layer3",
        "which encoder and layer",
        "margin 0.123",
        "warning:",
    ):
        assert part in words
    assert lines[-1] == "data/reports/index.html has not been made yet: dvc repro report"
    (results / "data" / "reports").mkdir()
    (results / "data" / "reports" / "index.html").touch()
    _, said, _ = run("recommend", "digits")
    assert said.splitlines()[-1] == "data/reports/index.html"
    assert "glyph_resnet, layer layer3" not in said
    assert "how much source data can go" in said, "a pair is found by either of its names"


def test_outside_a_project_says_where_the_project_is(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (results / "sub").mkdir()
    monkeypatch.chdir(results / "sub")
    code, said, complaint = run("tables")
    assert (code, said) == (2, "")
    assert f"Next: cd {results}" in complaint


def test_layers_come_from_timm(results: Path) -> None:
    code, said, _ = run("layers", "test_vit")
    assert code == 0
    assert "pooled" in said.split()
    assert "blocks.3" in said.split()
    assert run("layers", "test_vitt")[0] == 2


def test_check_names_the_first_mistake(results: Path, write_params: Callable[..., Path]) -> None:
    assert run("check")[:2] == (0, "params.yaml is valid\n")
    write_params(targets=["digit"])
    code, _, complaint = run("check")
    assert code == 2
    assert "nearest valid: digits" in complaint
    assert "Traceback" not in complaint


def test_drop_store_says_what_it_freed(results: Path) -> None:
    subprocess.run([Path(sys.executable).parent / "dvc", "init", "--no-scm", "-q"], check=True)
    kept = results / "data" / "store" / "shards" / "one"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(bytes(3_000_000))
    assert run("drop-store") == (0, "3.0 MB freed\n", "")
    assert not kept.exists()
