"""Write what is documented from the program itself: `python -m pipelines.docs [--check]`.

docs/tables.md comes from the schemas of the result tables; the help texts between `<!-- help -->` and `<!-- /help -->`
in README.md come from the command line. `--check` writes nothing and exits 1 where they differ.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from stages.artifacts.tables import SCHEMAS, Column, Schema

TABLES = Path("docs/tables.md")
README = Path("README.md")
OPEN, CLOSE = "<!-- help -->", "<!-- /help -->"
WIDTH = 100


def tables_page(schemas: Mapping[str, Schema] = SCHEMAS) -> str:
    """Return docs/tables.md."""
    lines = [
        "# The result tables",
        "",
        "Written by `make docs` from `stages/artifacts/schemas`; do not edit.",
        "",
        "Each is `data/results/<table>.parquet`, sorted by its keys, which are unique. Null means: not computed. Read one with",
        '`tables.load("agreement")` (`from stages.artifacts import tables`), any of them with',
        '`transferscope sql "select * from agreement"`, or the parquet file with whatever you like.',
        "",
        "| table | question |",
        "|---|---|",
        *(f"| [`{name}`](#{name}) | {schema.question} |" for name, schema in schemas.items()),
    ]
    for name, schema in schemas.items():
        lines += [
            "",
            f"## {name}",
            "",
            f"{schema.question} Made by stage `{schema.made_by}`; schema version {schema.version}.",
            "",
        ]
        if schema.open_columns:
            lines += ["Further columns, all Float64, are named after the features that params.yaml asks for.", ""]
        lines += ["| column | type | key | null | meaning |", "|---|---|---|---|---|"]
        lines += [_row(column, facts, column in schema.keys) for column, facts in schema.columns.items()]
    return "\n".join(lines) + "\n"


def _row(name: str, column: Column, key: bool) -> str:
    meaning = column.meaning.replace("|", "\\|")
    return f"| `{name}` | {column.dtype} | {'key' if key else ''} | {'yes' if column.nullable else ''} | {meaning} |"


def help_block() -> str:
    """Return the help of the command line and of each command, as one fenced block."""
    import typer

    from pipelines.cli import app

    command = typer.main.get_command(app)
    assert isinstance(command, typer.core.TyperGroup)
    top = typer.Context(command, info_name="transferscope", terminal_width=WIDTH)
    texts = [command.get_help(top)]
    for name, child in command.commands.items():
        texts.append(child.get_help(typer.Context(child, info_name=name, parent=top, terminal_width=WIDTH)))
    body = "\n\n".join(
        f"$ transferscope {name}--help\n{text}" for name, text in zip(["", *_spaced(command)], texts, strict=True)
    )
    return "```\n" + "\n".join(line.rstrip() for line in body.splitlines()) + "\n```"


def _spaced(command: object) -> list[str]:
    return [f"{name} " for name in getattr(command, "commands", {})]


def with_help(readme: str) -> str | None:
    """Return the README with the block between its markers written anew, or None where it has no markers."""
    before, opened, rest = readme.partition(OPEN)
    _, closed, after = rest.partition(CLOSE)
    if not (opened and closed):
        return None
    return f"{before}{OPEN}\n{help_block()}\n{CLOSE}{after}"


def pages() -> dict[Path, str]:
    """Return the content that each generated file should have."""
    wanted = {TABLES: tables_page()}
    readme = with_help(README.read_text(encoding="utf-8")) if README.is_file() else None
    if readme is None:
        print(f"{README} has no lines {OPEN} and {CLOSE}; its help is left alone", file=sys.stderr)
    else:
        wanted[README] = readme
    return wanted


def main() -> int:
    """Write the files, or compare them, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.docs", description="Write docs/tables.md and the README's help.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file differs")
    check = parser.parse_args().check
    stale = {path: text for path, text in pages().items() if not path.is_file() or path.read_text(encoding="utf-8") != text}
    for path, text in stale.items():
        if check:
            print(f"{path} differs from the program\nNext: make docs", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"{path} written")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
