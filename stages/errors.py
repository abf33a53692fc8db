"""Errors that are answers: what is wrong, where, and the next command; the exit code says who should act."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_FULL = ("can't allocate memory", "not enough memory")  # what torch's allocators say on Linux, and elsewhere


class Problem(Exception):
    """A failure with one message for a person. Subclasses set the exit code that DVC and Prefect read."""

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, next_step: str | None = None) -> None:
        self.what, self.where, self.next_step = what, where, next_step
        parts = [what if where is None else f"{where}: {what}"]
        if next_step is not None:
            parts.append(f"Next: {next_step}")
        super().__init__("\n".join(parts))


class InputProblem(Problem):
    """The user's input or params are wrong; running again changes nothing (exit code 2)."""

    exit_code = 2


class TryAgain(Problem):
    """Something outside is in the way, a lock, memory or the network; the same command may work later (exit code 75)."""

    exit_code = 75


def nearest(wrong: str, valid: Iterable[str], limit: int = 5) -> str:
    """Return the valid choices as text, those spelt most like `wrong` first, the rest counted."""
    choices = sorted(set(valid))
    if not choices:
        return "there are no valid choices here"
    ordered = difflib.get_close_matches(wrong, choices, n=limit, cutoff=0.4) or choices[:limit]
    left = len(choices) - len(ordered)
    return "nearest valid: " + ", ".join(ordered) + (f" (and {left} more)" if left else "")


def out_of_memory(error: Exception) -> bool:
    """Say whether an exception means that the main memory or the accelerator's is full.

    torch has a class of its own for a full accelerator, and only a text for full main memory.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # not imported: torch costs seconds
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _FULL)
