"""Profiles: named sets of values in params.yaml that are written over its sections, for instance a wider grid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipelines import paramsfile
from stages import params
from stages.errors import InputProblem, nearest


def apply(name: str) -> list[str]:
    """Write a profile's values into params.yaml and return what `paramsfile.change` says of them.

    Raises:
        InputProblem: params.yaml is wrong, or has no such profile.
    """
    profiles = params.load().profiles
    if name not in profiles:
        what = f"there is no profile {name!r}; {nearest(name, profiles)}"
        raise InputProblem(what, where=f"{params.PARAMS_FILE}: profiles", next_step=params.EDIT)
    return paramsfile.change(dict(_values(profiles[name])))


def _values(content: dict[str, Any], place: paramsfile.Place = ()) -> Iterator[tuple[paramsfile.Place, Any]]:
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from _values(value, (*place, key))
        else:
            yield (*place, key), value
