"""What a scheduled run shows in Prefect's dashboard: its progress, the stages, the answers and where the report is."""

from __future__ import annotations

from collections.abc import Sequence

from prefect.artifacts import create_link_artifact, create_progress_artifact, create_table_artifact, update_progress_artifact

from pipelines import project, summary
from pipelines.crew import Outcome
from stages.artifacts import tables


class Dashboard:
    """The artifacts of one flow run; make it inside the run."""

    def __init__(self) -> None:
        self._progress = create_progress_artifact(key="progress", progress=0.0, description="stages that have ended")

    def progress(self, done: int, total: int) -> None:
        """Show how many of the stages have ended."""
        update_progress_artifact(self._progress, progress=100.0 * done / total)  # type: ignore[arg-type]  # no coroutine here: a flow is not async

    def leave(self, outcomes: Sequence[Outcome]) -> None:
        """Leave the table of the stages, the recommendations and a link to the report, as far as they exist."""
        self.progress(sum(outcome.result != "not run" for outcome in outcomes), len(outcomes))
        rows = [{"stage": o.stage, "result": o.result, "seconds": round(o.seconds, 1), "message": o.message} for o in outcomes]
        create_table_artifact(key="stages", table=rows, description=summary.counts(outcomes))
        if tables.result_path("recommendations").is_file():
            answers = tables.load("recommendations").to_dicts()
            create_table_artifact(key="recommendations", table=answers, description="data/results/recommendations.parquet")
        if project.REPORT.is_file():
            create_link_artifact(key="report", link=project.REPORT.absolute().as_uri(), link_text="the report")
