"""What a run says while it goes on, and what it ends with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.crew import Outcome

STYLES = {"ran": "green", "restored": "cyan", "unchanged": "dim", "failed": "bold red", "not run": "yellow"}


def console() -> Console:
    """Return the console of a run: standard error, so that standard output stays free for answers."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def line(outcome: Outcome, done: int, total: int) -> Text:
    """Return one line for a stage that has just ended."""
    took = f" in {outcome.seconds:.1f} s" if outcome.seconds >= 0.05 else ""
    return Text.assemble(f"[{done}/{total}] {outcome.stage} ", (outcome.result, STYLES[outcome.result]), took)


def counts(outcomes: Sequence[Outcome]) -> str:
    """Return the totals in words, for instance `3 ran, 40 unchanged`."""
    number: Counter[str] = Counter(outcome.result for outcome in outcomes)
    return ", ".join(f"{number[result]} {result}" for result in STYLES if number[result]) or "no stages"


def table(outcomes: Sequence[Outcome]) -> Table:
    """Return the closing table: every stage but the unchanged ones, failures with their message."""
    shown = Table("stage", "result", "seconds", "message", title=counts(outcomes), title_justify="left", title_style="bold")
    shown.columns[2].justify = "right"
    shown.columns[3].overflow = "fold"
    for outcome in outcomes:
        if outcome.result == "unchanged":
            continue
        message = outcome.message
        if outcome.result == "failed":
            message += f"\n(exit code {outcome.code}, tried {outcome.attempts}x)"
        seconds = f"{outcome.seconds:.1f}" if outcome.attempts else ""
        shown.add_row(outcome.stage, Text(outcome.result, STYLES[outcome.result]), seconds, Text(message.strip()))
    return shown
