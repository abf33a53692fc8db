"""The flow: one Prefect task per DVC stage, independent stages side by side, each through `dvc repro --single-item`.

DVC is the only cache: it decides whether a stage runs, and where its outputs come from. Prefect schedules, shows and
records. Nothing here keeps a result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.runtime import deployment
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from pipelines import graph, mend, project, summary
from pipelines.crew import Crew, Outcome
from pipelines.dashboard import Dashboard
from pipelines.devices import Slots
from pipelines.ledger import Ledger
from stages.errors import Problem

POLL_SECONDS = 0.5  # how soon SIGINT is heard, and a device seen that another run gives back
MAX_JOBS = 256  # upper bound of the runner's threads; a run starts no more than its own `jobs`
_RUNNER: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=MAX_JOBS)


class StageFailed(Exception):
    """One stage failed for good."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(f"{outcome.stage}: {outcome.message}")
        self.outcome = outcome


class RunFailed(Problem):
    """Some stages failed; `exit_code` is that of the first of them in the graph's order."""

    def __init__(self, failed: Sequence[Outcome]) -> None:
        names = ", ".join(outcome.stage for outcome in failed)
        super().__init__(f"failed: {names}", next_step="mend it, then run the same command; what has finished is kept")
        self.exit_code = failed[0].code


@flow(
    name="reproduce",
    task_runner=_RUNNER,
    persist_result=False,
    validate_parameters=True,
)
def reproduce(
    targets: list[str] | None = None, jobs: int = 1, retry_seconds: float = 5.0, pull: bool = False, push: bool = False
) -> dict[str, str]:
    """Bring the targets and everything they need up to date, and return what became of each stage.

    Args:
        targets: as of `dvc repro`; None for all of dvc.yaml.
        jobs: stages that may run at the same time.
        retry_seconds: first pause before a stage that said "try again later" is tried again.
        pull: bring data and earlier results from DVC's remote first.
        push: bring data and results to DVC's remote when no stage has failed.

    Raises:
        RunFailed: a stage failed; only those that need it were not run.
        InputProblem, TryAgain: nothing was run, see `graph.read`, `project.one_run` and `Crew.transfer`.
    """
    project.require()
    with project.one_run(), _a_crew(retry_seconds) as crew:
        for done in mend.records():
            get_run_logger().warning(done)
        transfer = task(task_run_name="{direction}", cache_policy=NO_CACHE, persist_result=False)(crew.transfer)
        if pull:
            transfer("pull")
        ledger = Ledger(graph.read(targets))
        board = Dashboard() if deployment.id else None
        try:
            _work_through(ledger, crew, jobs, board)
        finally:
            if board:
                board.leave(ledger.in_order)
        if push and not ledger.failed:
            transfer("push")
    if ledger.failed:
        raise RunFailed(ledger.failed)
    return {outcome.stage: outcome.result for outcome in ledger.in_order}


@contextmanager
def _a_crew(retry_seconds: float) -> Iterator[Crew]:
    console = summary.console()
    logger = get_run_logger()

    def say(stage: str, text: str) -> None:
        if deployment.id:
            logger.info("%s: %s", stage, text)
        else:
            console.print(f"{stage}: {text}", markup=False)

    crew = Crew(say, retry_seconds)
    try:
        yield crew
    finally:
        crew.stop()


def _work_through(ledger: Ledger, crew: Crew, jobs: int, board: Dashboard | None) -> None:
    console = summary.console()
    slots = Slots(ledger.nodes)

    @task(task_run_name="{stage}", cache_policy=NO_CACHE, persist_result=False, retries=0)
    def run_stage(stage: str) -> Outcome:
        with slots.counted(stage):
            outcome = crew.run(stage, slots.environment(stage), slots.handles(stage))
        if not outcome.good:
            raise StageFailed(outcome)
        return outcome

    def fits(stage: str) -> bool:
        return ledger.kept(stage) or slots.take(stage)

    futures: dict[str, PrefectFuture[Outcome]] = {}
    ended: SimpleQueue[str] = SimpleQueue()
    running = 0
    told: str | None = None
    try:
        while True:
            slots.refused = None
            while running < jobs and (name := ledger.take(fits)) is not None:
                if ledger.kept(name):
                    ledger.settle(Outcome(name, "unchanged"))
                    continue
                needs = [futures[need] for need in ledger.nodes[name].needs if need in futures]
                future = run_stage.submit(name, wait_for=needs, return_state=False)
                future.add_done_callback(partial(_note, ended, name))
                futures[name] = future
                running += 1
            if not running and not slots.refused:
                break
            if slots.refused and not running and slots.refused != told:
                told = slots.refused
                crew.say(told, "waits for a device that another run holds")
            try:
                name = ended.get(timeout=POLL_SECONDS)
            except Empty:
                continue
            running -= 1
            slots.give_back(name)
            outcome = _outcome(name, futures[name])
            ledger.settle(outcome)
            if board:
                board.progress(len(ledger.outcomes), len(ledger.nodes))
            if outcome.result != "unchanged":
                console.print(summary.line(outcome, len(ledger.outcomes), len(ledger.nodes)))
    finally:
        if any(outcome.result != "unchanged" for outcome in ledger.in_order):
            console.print(summary.table(ledger.in_order))


def _note(ended: SimpleQueue[str], stage: str, _future: PrefectFuture[Any]) -> None:
    ended.put(stage)


def _outcome(name: str, future: PrefectFuture[Outcome]) -> Outcome:
    result = future.result(raise_on_failure=False)
    if isinstance(result, Outcome):
        return result
    if isinstance(result, StageFailed):
        return result.outcome
    return Outcome(name, "failed", code=1, message=f"Prefect could not run it: {result!r}", attempts=1)
