"""Files of the user's: below a folder of data/raw that DVC watches."""

from __future__ import annotations

from pathlib import Path

from stages.errors import InputProblem, nearest

EDIT = "edit params.yaml, then `transferscope check`"

LANGUAGE_FILES = Path("data/raw/languages")


def raw_file(path: Path, folder: Path, where: str, *, kind: str, key: str) -> Path:
    """Return `path`, which params.yaml names at `where`; raises InputProblem unless it is a file below `folder`.

    `kind` and `key` say in the message what the file is for and under which key it is written.
    """
    # Compared as written, not resolved: DVC may link files into the folder.
    if ".." in path.parts or folder not in path.parents:
        raise InputProblem(
            f"{path} is outside {folder}, the folder that DVC watches for {kind}",
            where=where,
            next_step=f"copy or link it there and write `{key}: {folder / path.name}`, then `transferscope check`",
        )
    if not path.is_file():
        present = [member.relative_to(folder).as_posix() for member in folder.rglob("*") if member.is_file()]
        near = nearest(path.relative_to(folder).as_posix(), present)
        raise InputProblem(f"{path} does not exist; in {folder}: {near}", where=where, next_step=EDIT)
    return path


def language_file(path: Path, key: str) -> Path:
    """Return the path of the key `table` or `texts` of section `languages`, checked as by `raw_file`."""
    path = raw_file(path, LANGUAGE_FILES, f"params.yaml: languages.{key}", kind="tables of languages", key=key)
    if path.suffix not in (".csv", ".parquet"):
        raise InputProblem(f"{path} is no .csv and no .parquet", where=f"params.yaml: languages.{key}", next_step=EDIT)
    return path
