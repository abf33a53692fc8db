"""What is generated from the program is up to date, and changes where the program changes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines import docs
from stages.artifacts.tables import SCHEMAS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("columns", ["40", "200"])
def test_the_generated_files_are_up_to_date(columns: str) -> None:
    environment = os.environ | {"COLUMNS": columns}
    command = [sys.executable, "-m", "pipelines.docs", "--check"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_column_is_documented() -> None:
    page = docs.tables_page()
    for name, schema in SCHEMAS.items():
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        for column, facts in schema.columns.items():
            assert f"| `{column}` | {facts.dtype} |" in section
            assert facts.meaning in section


def test_a_changed_schema_makes_the_check_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["docs"])
    assert docs.main() == 0
    monkeypatch.setattr(sys, "argv", ["docs", "--check"])
    assert docs.main() == 0
    changed = SCHEMAS | {"agreement": replace(SCHEMAS["agreement"], version=SCHEMAS["agreement"].version + 1)}
    assert docs.tables_page(changed) != Path("docs/tables.md").read_text()
    Path("docs/tables.md").write_text(docs.tables_page(changed))
    assert docs.main() == 1


def test_only_what_is_between_the_markers_is_rewritten() -> None:
    written = docs.with_help(f"before\n{docs.OPEN}\nstale text\n{docs.CLOSE}\nafter\n")
    assert written is not None
    assert written.startswith(f"before\n{docs.OPEN}\n```\n$ transferscope --help\n")
    assert written.endswith(f"```\n{docs.CLOSE}\nafter\n")
    assert "stale text" not in written
    assert docs.with_help(written) == written
    assert docs.with_help("no markers") is None
