"""Sections `recommend` and `schedule`: what is asked, and when."""

from __future__ import annotations

import zoneinfo
from typing import Annotated

from pydantic import AfterValidator

from stages.errors import nearest
from stages.params.section import Count, Section

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")

CRON_FIELDS = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 7)}


def _cron(text: str) -> str:
    """Check the form alone; the fields' order and names are those of crontab(5)."""
    fields = text.split()
    if len(fields) != len(CRON_FIELDS):
        raise ValueError(f"{text!r} has {len(fields)} fields instead of five: {', '.join(CRON_FIELDS)}")
    for written, (name, (low, high)) in zip(fields, CRON_FIELDS.items(), strict=True):
        valid = {str(number) for number in range(low, high + 1)} | set({"month": MONTHS, "weekday": WEEKDAYS}.get(name, ()))
        for part in written.lower().split(","):
            span, *steps = part.split("/")
            ends = [end.lstrip("0") or end[-1:] for end in span.split("-")]  # 05 is 5, and 00 is 0
            known = span == "*" or (len(ends) <= 2 and valid.issuperset(ends))
            if not known or len(steps) > 1 or not all(step.isascii() and step.isdigit() and int(step) for step in steps):
                raise ValueError(f"{part!r} in {text!r} is no {name}: write *, or {low} to {high}, as in 1,5 or 1-5 or */2")
    return text


def _timezone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder of zones
        raise ValueError(f"there is no timezone {name!r}; {nearest(name, zoneinfo.available_timezones())}") from None
    return name


AUTO = "auto"


class Recommend(Section):
    """What the recommendations aim at."""

    metric: str = "logme"  # or "auto": the one that `metric_verdicts` trusts for the kind of target
    labels_at_hand: Count = 300


class Schedule(Section):
    """When a server runs the pipeline, and whether a run pulls from DVC's remote before and pushes to it after."""

    cron: Annotated[str, AfterValidator(_cron)] = "0 3 * * *"
    timezone: Annotated[str, AfterValidator(_timezone)] = "UTC"
    jobs: Count = 1
    pull: bool = False
    push: bool = False
