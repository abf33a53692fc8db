"""A source of several languages as one name: `en:1000+es:500`, or `en+es` where the numbers of examples are not known."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

_PARTS = re.compile(r"[+;,]")
Members = dict[str, int | None]  # language as written, or its code -> training examples, None where unknown


def parse(written: str) -> Members:
    """Return the languages of a source with their examples: `en`, `en:1000+es:500`, `en, es` or a JSON object.

    Languages of no example are left out. Raises ValueError, in words, for what is none of these.
    """
    text = written.strip()
    if text.startswith("{"):
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"is not JSON: {error}") from None
        return from_mapping(content)
    members: Members = {}
    for part in filter(None, map(str.strip, _PARTS.split(text))):
        name, _, size = part.partition(":")
        if name.strip() in members:
            raise ValueError(f"names {name.strip()!r} twice")
        members[name.strip()] = _size(size, name) if size.strip() else None
    return from_mapping(members)


def from_mapping(content: Mapping[str, object]) -> Members:
    """Return language -> examples of what was read, without languages of no example; raises ValueError as `parse`."""
    members = {str(name): None if size is None else _size(size, name) for name, size in content.items()}
    present = {name: size for name, size in members.items() if size != 0}
    if not present:
        raise ValueError("names no language" if not members else "gives no language any example")
    if len({size is None for size in present.values()}) > 1:
        raise ValueError("gives examples for some of its languages only")
    return present


def _size(written: object, name: str) -> int:
    try:
        size = float(str(written))
    except ValueError:
        size = -1.0
    if size < 0 or size != int(size):
        raise ValueError(f"{written} is no number of examples (of {name})")
    return int(size)


def write(members: Members) -> str:
    """Return the name of a mix, its languages in order."""
    return "+".join(name if size is None else f"{name}:{size}" for name, size in sorted(members.items()))


def languages(source: str) -> list[str]:
    """Return the codes of the languages of a source, sorted."""
    return sorted(part.partition(":")[0] for part in source.split("+"))


def shares(source: str) -> dict[str, float]:
    """Return language -> share of the examples of a source; equal shares where their numbers are not known."""
    parts = [part.partition(":") for part in source.split("+")]
    sizes = {name: float(size) if size else 1.0 for name, _, size in parts}
    total = sum(sizes.values())
    return {name: size / total for name, size in sizes.items()}
