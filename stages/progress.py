"""A progress bar with a rate and an end on a terminal, one closing line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

QUIET_SECONDS = 2.0  # below this nobody wondered whether it still runs


class _Rate(TextColumn):
    def __init__(self, unit: str) -> None:
        super().__init__("")
        self.unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} {self.unit}/s" if task.speed else "")


@contextmanager
def bar(
    label: str, total: int, unit: str, done: int = 0, note: Callable[[], str] | None = None
) -> Iterator[Callable[[int], None]]:
    """Show how far a loop is; yields `advance(n)`.

    Args:
        label: what is being done, in a few words.
        total: units to do.
        unit: the unit's name in the plural, for instance "images".
        done: units that an earlier run has done already.
        note: what else the closing line says, asked for at the end.
    """
    terminal = sys.stderr.isatty()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(unit), TimeRemainingColumn())
    started, counted = time.perf_counter(), 0
    with Progress(*columns, console=Console(stderr=True), disable=not terminal, transient=True) as progress:
        task = progress.add_task(label, total=total, completed=done)

        def advance(n: int) -> None:
            nonlocal counted
            counted += n
            progress.advance(task, n)

        yield advance
    seconds = time.perf_counter() - started
    if counted and (terminal or seconds > QUIET_SECONDS):
        told = f"; {note()}" if note else ""
        print(f"{label}: {counted:,} {unit} in {seconds:.1f} s, {counted / seconds:,.0f} {unit}/s{told}", file=sys.stderr)
