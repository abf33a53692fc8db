"""Scheduled deployments: cron, timezone and what a run does from params.yaml, one run at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipelines import graph, server
from stages import params
from stages.errors import InputProblem
from stages.params import Schedule

DEPLOYMENT = "scheduled"


def serve(settings: Schedule, port: int | None = None) -> None:
    """Register the deployment `reproduce/scheduled` and run what is due until stopped.

    Uses the server that `PREFECT_API_URL` names, else one of its own for as long as this lasts.

    Args:
        settings: when, and what a run does.
        port: of its own server; Prefect's usual 4200 by default.

    Raises:
        InputProblem: cron or timezone are not understood, or there is no remote to pull from or push to.
        TryAgain: the server did not start.
    """
    if settings.pull or settings.push:
        graph.require_remote()
    with server.running(scheduler=True, port=port) as wait:
        schedule = _schedule(settings)
        from prefect.types.entrypoint import EntrypointType

        from pipelines.reproduce import reproduce

        url = wait()
        print(f"Prefect's API is {url}; its dashboard {url.removesuffix('/api')}", flush=True)
        reproduce.serve(
            name=DEPLOYMENT,
            schedules=[schedule],
            parameters=_parameters(settings),
            # One here, and one over all hosts that serve the same deployment; a run that comes due meanwhile waits.
            limit=1,
            global_limit=1,
            entrypoint_type=EntrypointType.MODULE_PATH,
        )


def of_params() -> dict[str, Any]:
    """Return what `pipelines/prefect.yaml` fills in, a build step of `prefect deploy`.

    Raises:
        InputProblem: as `params.load` and `serve`.
    """
    settings = params.load().schedule
    if settings.pull or settings.push:
        graph.require_remote()
    return {"cron": settings.cron, "timezone": settings.timezone, "folder": str(Path.cwd()), **_parameters(settings)}


def _parameters(settings: Schedule) -> dict[str, Any]:
    return {"jobs": settings.jobs, "pull": settings.pull, "push": settings.push}


def _schedule(settings: Schedule) -> Any:
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.schedules import Cron

    try:
        CronSchedule(cron=settings.cron, timezone=settings.timezone)  # as Prefect's server will check it
    except ValidationError as error:
        first = error.errors()[0]
        raise InputProblem(
            f"{first['loc'][0]}: {first['msg']}", where="params.yaml: schedule", next_step="edit params.yaml, then start again"
        ) from None
    return Cron(settings.cron, timezone=settings.timezone)
