"""Profiles: named sets of values in params.yaml that are written over its sections, for instance a wider grid."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages import params
from stages.artifacts import atomic
from stages.errors import InputProblem, nearest

BEFORE = Path("data/params.yaml.before")


def apply(name: str) -> list[str]:
    """Write a profile's values into params.yaml, comments kept, and return what changed, one line a value.

    The file as it was is kept at data/params.yaml.before. Nothing is written where all values are there already.

    Raises:
        InputProblem: params.yaml is wrong, or has no such profile.
    """
    profiles = params.load().profiles
    if name not in profiles:
        what = f"there is no profile {name!r}; {nearest(name, profiles)}"
        raise InputProblem(what, where=f"{params.PARAMS_FILE}: profiles", next_step=params.EDIT)
    text = params.PARAMS_FILE.read_text(encoding="utf-8")
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1 << 16  # no line is broken that was not
    content = yaml.load(text)
    changes = list(_write(content, profiles[name]))
    if changes:
        written = io.StringIO()
        yaml.dump(content, written)
        atomic.write_text(BEFORE, text)
        atomic.write_text(params.PARAMS_FILE, written.getvalue())
    return changes


def _write(content: Any, values: dict[str, Any], prefix: str = "") -> list[str]:
    """Write `values` into `content` where they differ, mappings key by key, and say what each was and is."""
    lines = []
    for key, value in values.items():
        old = content.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            lines += _write(old, value, f"{prefix}{key}.")
        elif old != value:
            content[key] = value
            lines.append(f"{prefix}{key}: {'(not set)' if old is None else old} -> {value}")
    return lines
