"""Runs stages through DVC, each in its own process, reads the verdict from what DVC says, tries again where that helps."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from pipelines import graph, mend
from pipelines.forks import Fork, Forks
from stages.errors import InputProblem, TryAgain

Result = Literal["ran", "restored", "unchanged", "failed", "not run"]

KEPT_LINES = 40  # of a stage's output, for the message of its failure
GRACE_SECONDS = 10.0  # DVC finishes its bookkeeping after its stage has been killed
LOCK_PATIENCE_SECONDS = 600.0  # another DVC process may hash gigabytes while it holds a path
LONGEST_PAUSE_SECONDS = 60.0
RETRIES = {TryAgain.exit_code: 4, InputProblem.exit_code: 0}
OTHER_RETRIES = 1  # a bug: once, in case it was the machine

KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)  # the second is how a shell says it

_BUSY = re.compile(r"Unable to acquire lock|is busy, it is being blocked by")
_EXIT = re.compile(r", exited with (-?\d+)$")
_MEANINGS = {  # of what DVC says where no stage has an exit code
    r"No space left on device": TryAgain.exit_code,
    r"output .* does not exist": 1,  # the stage ended well and did not write it
    r"No such file or directory|does not exist|missing data": InputProblem.exit_code,
}
_HINTS = re.compile(
    r"^(Generating lock file|Updating lock file|To track the changes with git|\tgit add |To enable auto staging"
    r"|\tdvc config core.autostage|Use `dvc push`|Data and pipelines are up to date|$)"
)


@dataclass(frozen=True)
class Outcome:
    """What became of one stage.

    Attributes:
        stage: its name.
        result: `ran`, `restored` from DVC's run cache, `unchanged`, `failed`, or `not run` because of a failure before it.
        seconds: wall time of all attempts.
        code: 0, or the exit code to report: 2 the input is wrong, 75 try again later (also where the stage was killed,
            as the kernel does when memory runs out), 1 anything else.
        message: why it failed, in the stage's or DVC's words; which stage it waits for where it was not run.
        attempts: how often it was tried.
    """

    stage: str
    result: Result
    seconds: float = 0.0
    code: int = 0
    message: str = ""
    attempts: int = 0

    @property
    def good(self) -> bool:
        """Return whether stages that need this one can go on."""
        return self.result in ("ran", "restored", "unchanged")


class Crew:
    """Everything one run has started, so that it can be stopped at once.

    Args:
        say: called with a stage's name and a line of its output.
        retry_seconds: pause before the second attempt of a stage that said "try again later"; doubles each time.
    """

    def __init__(self, say: Callable[[str, str], None], retry_seconds: float = 5.0) -> None:
        self.say = say
        self.retry_seconds = retry_seconds
        self._forks = Forks()
        self._running: set[Fork] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def run(self, stage: str, environment: Mapping[str, str] | None = None, hold: Sequence[int] = ()) -> Outcome:
        """Bring one stage up to date; returns when it is, or when it has failed for good.

        Args:
            stage: its name.
            environment: variables to set for it.
            hold: file descriptors to keep open until it has ended, even where this process is killed.
        """
        start = partial(self._forks.start, ["repro", "--single-item", "--", stage], environment, hold)
        started = time.monotonic()
        attempt = 0
        while True:
            attempt += 1
            outcome = replace(self._when_free(stage, start), attempts=attempt, seconds=time.monotonic() - started)
            if outcome.good or self._stopping.is_set() or attempt > RETRIES.get(outcome.code, OTHER_RETRIES):
                return outcome
            pause = 0.0
            if outcome.code == TryAgain.exit_code:
                pause = min(self.retry_seconds * 2 ** (attempt - 1), LONGEST_PAUSE_SECONDS)
            self.say(stage, f"exit code {outcome.code}; trying again" + (f" in {pause:g} s" if pause else ""))
            if self._stopping.wait(pause):
                return outcome
            with suppress(TryAgain):  # a DVC that was killed may have left its records half written
                for done in mend.records():
                    self.say(stage, done)

    def transfer(self, direction: Literal["pull", "push"]) -> None:
        """Bring data and DVC's run cache from the remote, or there; what the remote does not have yet is made here.

        Raises:
            InputProblem: no remote is set.
            TryAgain: DVC failed; the message is DVC's.
        """
        graph.require_remote()
        options = ["--run-cache", "--allow-missing"] if direction == "pull" else ["--run-cache"]
        code, lines = self._dvc(direction, partial(self._forks.start, [direction, *options]))
        if code:
            what = f"dvc {direction} failed: {_dvc_words(lines)}"
            raise TryAgain(what, next_step=f"`dvc {direction} {' '.join(options)}` shows it; then run again")

    def stop(self) -> None:
        """End everything that runs, and start nothing more."""
        self._stopping.set()
        with self._lock:
            running = list(self._running)
        enders = [threading.Thread(target=fork.end, args=(GRACE_SECONDS,)) for fork in running]
        for ender in enders:
            ender.start()
        for ender in enders:
            ender.join()
        self._forks.close()

    def _when_free(self, stage: str, start: Callable[[], Fork]) -> Outcome:
        """Make one attempt; a path that another DVC process holds is waited for, and is not an attempt."""
        deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
        pause = 0.25
        while True:
            code, lines = self._dvc(stage, start)
            busy = code != 0 and any(_BUSY.search(line) for line in lines)
            if not busy:
                return verdict(stage, code, lines)
            if time.monotonic() > deadline or self._stopping.wait(pause):
                message = "another DVC process holds a path of this stage"
                return Outcome(stage, "failed", code=TryAgain.exit_code, message=message)
            pause = min(2 * pause, 5.0)

    def _dvc(self, stage: str, start: Callable[[], Fork]) -> tuple[int, list[str]]:
        with self._lock:
            if self._stopping.is_set():
                return TryAgain.exit_code, ["stopped before it began"]
            fork = start()
            self._running.add(fork)
        lines: deque[str] = deque(maxlen=KEPT_LINES)
        reader = threading.Thread(target=self._read, args=(stage, fork, lines), daemon=True)
        reader.start()
        code = fork.wait()
        assert code is not None
        reader.join()
        with self._lock:
            self._running.discard(fork)
        return code, list(lines)

    def _read(self, stage: str, fork: Fork, lines: deque[str]) -> None:
        with fork.output as output:
            for line in output:
                text = line.rstrip()
                lines.append(text)
                if not _HINTS.match(text):
                    self.say(stage, text.removeprefix(f"{stage}: "))


def verdict(stage: str, code: int, lines: list[str]) -> Outcome:
    """Read what became of a stage from DVC's exit code and the last lines of output.

    DVC ends with 255 whatever the stage's exit code was, and says that code in its last message.
    """
    text = "\n".join(lines)
    if code == 0:
        if f"'{stage}' didn't change, skipping" in text:
            return Outcome(stage, "unchanged")
        return Outcome(stage, "restored" if "is cached - skipping run" in text else "ran")
    own = next((int(match[1]) for line in reversed(lines) if (match := _EXIT.search(line))), None)
    if own is not None:
        said = _own_words(stage, lines)
        if own not in (1, InputProblem.exit_code, TryAgain.exit_code):
            said = "\n".join(part for part in (_dvc_words(lines) + _why(own), said) if part)
        return Outcome(stage, "failed", code=_reported(own), message=said or _dvc_words(lines))
    if code < 0:
        return Outcome(stage, "failed", code=_reported(code), message=f"DVC was killed by signal {-code}{_why(code)}")
    message = _dvc_words(lines)
    found = next((meaning for pattern, meaning in _MEANINGS.items() if re.search(pattern, message)), 1)
    return Outcome(stage, "failed", code=found, message=message)


def _reported(code: int) -> int:
    """Return the exit code that stands for a process's own: nobody but the kernel or a person sends SIGKILL."""
    if code in KILLED:
        return TryAgain.exit_code
    return code if code in (InputProblem.exit_code, TryAgain.exit_code) else 1


def _why(code: int) -> str:
    return ": killed, as the kernel does when memory runs out" if code in KILLED else ""


def _own_words(stage: str, lines: list[str]) -> str:
    """Return what the stage said last: from the line that opens with its name, else its last line, without DVC's."""
    said = [line for line in lines if not (_HINTS.match(line) or line.startswith(("ERROR: ", "> ", "Running stage ")))]
    # An entry signs its message with the stage's name; everything after belongs to it.
    signed = [index for index, line in enumerate(said) if line.startswith(f"{stage}: ")]
    return "\n".join(said[signed[-1] :]).removeprefix(f"{stage}: ") if signed else "\n".join(said[-1:])


def _dvc_words(lines: list[str]) -> str:
    said = [index for index, line in enumerate(lines) if line.startswith("ERROR: ")]
    return "\n".join(lines[said[-1] :]).removeprefix("ERROR: ").strip() if said else "\n".join(lines[-1:])
