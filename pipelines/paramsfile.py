"""Change values of params.yaml in place: every other line, comment and space of the file stays as it is."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from stages import params
from stages.artifacts import atomic
from stages.errors import InputProblem

BEFORE = Path("data/params.yaml.before")
LONGEST = 200  # characters of a value as it is told; the files have it whole

Place = tuple[str, ...]  # the keys that lead to a value


def change(values: Mapping[Place, Any]) -> list[str]:
    """Write values into params.yaml where they differ; return what each was and is, one line a value.

    The file as it was is kept (`kept` finds it). A file that would not be valid is not written.

    Raises:
        InputProblem: the changed file would say something invalid, or cannot be edited in place (it uses anchors).
    """
    text = params.PARAMS_FILE.read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    lines, changed, wanted = [], text, content
    for place, value in values.items():
        old = _get(content, place)
        if old == value:
            continue
        was = "(not set)" if old is None else _short(_flow(old))
        lines.append(f"{'.'.join(place)}: {was} -> {_short(_flow(value))}")
        changed, wanted = put(changed, place, value), _with(wanted, place, value)
    if lines:
        if not _says(changed, wanted):
            what = "cannot be changed in place, for instance because it uses anchors"
            raise InputProblem(what, where=str(params.PARAMS_FILE), next_step="write by hand:\n" + "\n".join(lines))
        params.parse(changed, str(params.PARAMS_FILE))
        kept = _free_name(text)
        atomic.write_text(kept, text)
        atomic.write_text(params.PARAMS_FILE, changed)
        lines.append(f"\nback: cp {kept} params.yaml, then `dvc repro`, which finds the earlier results in its cache")
    return lines


def _says(text: str, content: Any) -> bool:
    try:
        return bool(yaml.safe_load(text) == content)
    except yaml.YAMLError:
        return False


def _free_name(text: str) -> Path:
    """Return where the file is kept as it was: no other text that is kept already is lost."""
    path, number = BEFORE, 1
    while path.is_file() and path.read_text(encoding="utf-8") != text:
        number += 1
        path = BEFORE.with_name(f"{BEFORE.name}.{number}")
    return path


def put(text: str, place: Place, value: Any) -> str:
    """Return a YAML text with the value at `place` replaced, or added behind its neighbours.

    A mapping of mappings is written one line an entry, everything else on the line of its key.
    """
    node = yaml.compose(text, yaml.SafeLoader)
    assert isinstance(node, yaml.MappingNode)
    for depth, key in enumerate(place):
        found = next(((name, child) for name, child in node.value if name.value == key), None)
        if found is None:
            return _add(text, node, key, _nested(place[depth + 1 :], value))
        name, child = found
        if depth + 1 == len(place) or not isinstance(child, yaml.MappingNode):
            written = value if depth + 1 == len(place) else _nested(place[depth + 1 :], value)
            return _replace(text, name, child, written, in_flow=bool(node.flow_style))
        node = child
    return text


def _add(text: str, mapping: yaml.MappingNode, key: str, value: Any) -> str:
    if mapping.flow_style:
        at = mapping.end_mark.index - 1
        return f"{text[:at].rstrip()}{', ' if mapping.value else ''}{key}: {_flow(value)}{text[at:]}"
    at = _line_end(text, _end(mapping))
    return f"{text[:at]}\n{' ' * mapping.start_mark.column}{key}: {_flow(value)}{text[at:]}"


def _replace(text: str, key: yaml.Node, old: yaml.Node, value: Any, *, in_flow: bool) -> str:
    colon = key.end_mark.index + text[key.end_mark.index :].index(":") + 1
    end = _end(old)
    if old.start_mark.line == key.start_mark.line:
        text = text[:colon] + text[max(colon, end) :]
    else:  # a block below its key: its lines go, comments above and below them stay
        first = text.rindex("\n", 0, old.start_mark.index)
        text = text[:first] + text[_line_end(text, end) :]
    entries = value if isinstance(value, dict) and value and all(isinstance(entry, dict) for entry in value.values()) else {}
    if not entries or in_flow:
        return f"{text[:colon]} {_flow(value)}{text[colon:]}"
    at, indent = _line_end(text, colon), " " * (key.start_mark.column + 2)
    return text[:at] + "".join(f"\n{indent}{name}: {_flow(entry)}" for name, entry in entries.items()) + text[at:]


def _end(node: yaml.Node) -> int:
    """Return where a value ends; a block's own mark is behind the comments that follow it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _line_end(text: str, index: int) -> int:
    found = text.find("\n", index)
    return len(text) if found < 0 else found


def _flow(value: Any) -> str:
    """Return a value as YAML in one line."""
    listed = yaml.safe_dump([value], default_flow_style=True, sort_keys=False, allow_unicode=True, width=float("inf"))
    return str(listed).strip()[1:-1]


def _short(text: str) -> str:
    return textwrap.shorten(text, LONGEST, placeholder=" ...")


def _nested(place: Place, value: Any) -> Any:
    return {place[0]: _nested(place[1:], value)} if place else value


def _get(content: Any, place: Place) -> Any:
    for key in place:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def _with(content: Any, place: Place, value: Any) -> Any:
    if not place:
        return value
    inner = content if isinstance(content, dict) else {}
    return {**inner, place[0]: _with(inner.get(place[0]), place[1:], value)}
