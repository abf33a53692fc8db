"""How a share of the shards ended in another process: its times or what went wrong, as data that any process can read."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from stages import errors
from stages.errors import Problem, TryAgain, out_of_memory
from stages.extraction.timing import Clock, Gain


@dataclass(frozen=True)
class Outcome:
    """`problem` holds class, what, where and next step of a `Problem`; `bug` the traceback of anything else."""

    seconds: dict[str, float] = field(default_factory=dict)
    images: int = 0
    gain: Gain | None = None
    problem: tuple[str, str, str | None, str | None] | None = None
    bug: str | None = None


def attempt(write: Callable[[Clock], None]) -> Outcome:
    """Run `write` with a clock of its own and return how it ended; only what is no exception comes through."""
    clock = Clock()
    try:
        write(clock)
    except Problem as problem:
        return Outcome(problem=(type(problem).__name__, problem.what, problem.where, problem.next_step))
    except Exception as error:
        if out_of_memory(error):
            said = (str(error).strip() or "no more is known").splitlines()[0]
            next_step = "lower extract.batch_size or name fewer extract.devices in params.yaml, then `dvc repro`"
            return Outcome(problem=(TryAgain.__name__, f"out of memory ({said})", None, next_step))
        return Outcome(bug=traceback.format_exc())
    return Outcome(clock.seconds, clock.images, clock.gain)


def settle(outcome: Outcome, clock: Clock, place: str) -> None:
    """Add the times to `clock`, or raise what went wrong at `place`."""
    if outcome.problem is not None:
        kind, what, where, next_step = outcome.problem
        raise getattr(errors, kind)(what, where=where or place, next_step=next_step)
    if outcome.bug is not None:
        raise RuntimeError(f"on {place}: {outcome.bug}")
    clock.images += outcome.images
    clock.gain = clock.gain or outcome.gain
    for step, seconds in outcome.seconds.items():
        clock.seconds[step] += seconds
