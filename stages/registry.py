"""Where a method plugs in: a name, mapped to an object that is imported when it is first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar, cast

from stages.errors import InputProblem, nearest

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A mapping from method name to method. Values written as "package.module:attribute" are imported lazily.

    Adding a method to a family is one new module and one line in that family's registry; `add` does the same
    at run time.
    """

    def __init__(self, kind: str, entries: Mapping[str, str]) -> None:
        self.kind = kind
        self._entries: dict[str, T | str] = dict(entries)

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            raise InputProblem(
                f"there is no {self.kind} named {name!r}; {nearest(name, self._entries)}",
                next_step="edit params.yaml, then `transferscope check`",
            )
        entry = self._entries[name]
        if isinstance(entry, str):
            module, attribute = entry.split(":")
            entry = cast(T, getattr(importlib.import_module(module), attribute))
            self._entries[name] = entry
        return entry

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, name: str, entry: T) -> None:
        """Register `entry` under a new name; a name that is taken raises ValueError."""
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is registered already")
        self._entries[name] = entry

    def remove(self, name: str) -> None:
        """Take a name out again."""
        del self._entries[name]
