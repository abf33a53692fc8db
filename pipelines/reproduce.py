"""The flow: one Prefect task per DVC stage, independent stages side by side, each through `dvc repro --single-item`.

DVC is the only cache: it decides whether a stage runs, and where its outputs come from. Prefect schedules, shows and
records. Nothing here keeps a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.runtime import deployment
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from pipelines import graph, mend, project, summary
from pipelines.crew import Crew, Outcome
from pipelines.ledger import Ledger
from stages.errors import Problem

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
def reproduce(targets: list[str] | None = None, jobs: int = 1, retry_seconds: float = 5.0) -> dict[str, str]:
    """Bring the targets and everything they need up to date, and return what became of each stage.

    Args:
        targets: as of `dvc repro`; None for all of dvc.yaml.
        jobs: stages that may run at the same time.
        retry_seconds: first pause before a stage that said "try again later" is tried again.

    Raises:
        RunFailed: a stage failed; only those that need it were not run.
        InputProblem, TryAgain: nothing was run, see `graph.read` and `project.one_run`.
    """
    project.require()
    with project.one_run():
        for done in mend.records():
            get_run_logger().warning(done)
        ledger = Ledger(graph.read(targets))
        _work_through(ledger, jobs, retry_seconds)
        if deployment.id:
            _leave_artifacts(ledger)
    if ledger.failed:
        raise RunFailed(ledger.failed)
    return {outcome.stage: outcome.result for outcome in ledger.in_order}


def _work_through(ledger: Ledger, jobs: int, retry_seconds: float) -> None:
    served = bool(deployment.id)
    console = summary.console()
    logger = get_run_logger()

    def say(stage: str, text: str) -> None:
        if served:
            logger.info("%s: %s", stage, text)
        else:
            console.print(f"{stage}: {text}", markup=False)

    crew = Crew(say, retry_seconds)

    @task(task_run_name="{stage}", cache_policy=NO_CACHE, persist_result=False, retries=0)
    def run_stage(stage: str) -> Outcome:
        outcome = crew.run(stage)
        if not outcome.good:
            raise StageFailed(outcome)
        return outcome

    futures: dict[str, PrefectFuture[Outcome]] = {}
    ended: SimpleQueue[str] = SimpleQueue()
    running = 0
    try:
        while True:
            while running < jobs and (name := ledger.take()) is not None:
                if ledger.kept(name):
                    ledger.settle(Outcome(name, "unchanged"))
                    continue
                needs = [futures[need] for need in ledger.nodes[name].needs if need in futures]
                future = run_stage.submit(name, wait_for=needs, return_state=False)
                future.add_done_callback(partial(_note, ended, name))
                futures[name] = future
                running += 1
            if not running:
                break
            name = ended.get()
            running -= 1
            outcome = _outcome(name, futures[name])
            ledger.settle(outcome)
            if outcome.result != "unchanged":
                console.print(summary.line(outcome, len(ledger.outcomes), len(ledger.nodes)))
    finally:
        crew.stop()
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


def _leave_artifacts(ledger: Ledger) -> None:
    """Show in Prefect's dashboard what became of the stages, and the answers."""
    from prefect.artifacts import create_table_artifact

    from stages.artifacts import tables

    rows = [
        {"stage": o.stage, "result": o.result, "seconds": round(o.seconds, 1), "message": o.message} for o in ledger.in_order
    ]
    create_table_artifact(key="stages", table=rows, description=summary.counts(ledger.in_order))
    if tables.result_path("recommendations").is_file():
        answers = tables.load("recommendations").to_dicts()
        create_table_artifact(key="recommendations", table=answers, description="data/results/recommendations.parquet")
