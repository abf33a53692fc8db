"""A folder's own account of itself: size and sha256 of every file, schema version, hashes of what it was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.errors import InputProblem

MANIFEST = "manifest.json"


def sha256(path: Path) -> str:
    """Return the sha256 of a file as hexadecimal text, reading it in blocks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest(value: object) -> str:
    """Return the sha256 of a JSON-like value, the same for the same content whatever the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def write(folder: Path, *, kind: str, version: int, inputs: Mapping[str, str], **facts: Any) -> None:
    """Write `manifest.json` for all files already in `folder`; call it last.

    Args:
        folder: the folder to describe.
        kind: the artifact's noun, for instance "dataset".
        version: the version of the artifact's layout.
        inputs: name -> sha256 (or other content key) of what the artifact was made from.
        facts: anything else a reader needs, JSON-like; never a time, duration or absolute path.
    """
    files = {
        path.relative_to(folder).as_posix(): {"sha256": sha256(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    content = {"kind": kind, "version": version, "inputs": dict(inputs), **facts, "files": files}
    (folder / MANIFEST).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read(folder: Path, *, kind: str, version: int, made_by: str, verify: bool = False) -> dict[str, Any]:
    """Read and check a folder's manifest: kind, version, presence and size of every file, and sha256 if `verify`.

    Raises:
        InputProblem: the folder is absent, of another kind or version, or damaged; the message names the file and
            `made_by`, the DVC stage that makes it again.
    """
    path = folder / MANIFEST
    next_step = f"dvc repro {made_by}"
    if not path.is_file():
        raise InputProblem("does not exist, or was never finished", where=str(folder), next_step=next_step)
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        files = content["files"]
    except (ValueError, KeyError, TypeError):
        raise InputProblem("is not a manifest", where=str(path), next_step=f"dvc repro --force {made_by}") from None
    if (content.get("kind"), content.get("version")) != (kind, version):
        raise InputProblem(
            f"holds {content.get('kind')} version {content.get('version')}, this code reads {kind} version {version}",
            where=str(folder),
            next_step=next_step,
        )
    for name, facts in files.items():
        member = folder / name
        size = member.stat().st_size if member.is_file() else None
        if size != facts["bytes"]:
            found = "is missing" if size is None else f"has {size} bytes instead of {facts['bytes']}"
            raise InputProblem(found, where=str(member), next_step=f"dvc repro --force {made_by}")
        if verify and sha256(member) != facts["sha256"]:
            raise InputProblem("has another sha256", where=str(member), next_step=f"dvc repro --force {made_by}")
    return content


def identity(folder: Path) -> str:
    """Return the content key of a finished folder: the sha256 of its manifest."""
    return sha256(folder / MANIFEST)
