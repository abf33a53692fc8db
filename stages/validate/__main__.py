"""DVC entry: `python -m stages.validate` checks every artifact with Great Expectations and names the rows that fail."""

from __future__ import annotations

from pathlib import Path

from stages import entry
from stages.artifacts import atomic
from stages.errors import InputProblem, Problem
from stages.params import Params
from stages.validate import pages
from stages.validate.expect import Outcome, run
from stages.validate.suites import DATASET, suites

REPORT = Path("data/reports/validation")


def main(settings: Params, _name: str) -> None:
    """Check all artifacts and write Data Docs with `checks.json`; fail naming the first rows that are wrong.

    The pages are written in either case: they show every failing row. DVC keeps them only where nothing failed.

    Raises:
        InputProblem: a dataset breaks its contract, or an artifact is absent or damaged.
        Problem: features, weights or a table that a stage made break their contract.
    """
    outcomes = list(run(suites(settings)))
    with atomic.new_folder(REPORT) as folder:
        pages.write(folder, outcomes)
    checks = [check for outcome in outcomes for check in outcome.checks]
    failed = [check for check in checks if not check.passed]
    if failed:
        raise _problem(outcomes, len(failed), len(checks))
    print(f"validate: {len(checks)} checks of {len(outcomes)} artifacts passed")


def _problem(outcomes: list[Outcome], failed: int, total: int) -> Problem:
    outcome = next(outcome for outcome in outcomes if not outcome.passed)
    wrong = [check for check in outcome.checks if not check.passed]
    first = max(wrong, key=lambda check: check.failing > 0)  # the first that names rows, if any does
    named = f", for instance {'; '.join(first.examples)}" if first.examples else ""
    found = f" ({first.found})" if first.found else ""
    rows = f": {first.failing} rows{named}" if first.failing else ""
    page = REPORT / pages.page_name(outcome.artifact)
    kind, next_step = Problem, "this is a bug in the stage that made it, unless `transferscope verify` finds damaged files"
    if outcome.artifact.startswith(DATASET):
        kind, next_step = InputProblem, "`transferscope verify` tells damaged files; else look at the files of this dataset"
    return kind(
        f"{failed} of {total} checks failed; first {first.expectation} of {first.columns}{rows}{found}; all rows: {page}",
        where=outcome.artifact,
        next_step=next_step,
    )


if __name__ == "__main__":
    entry.run("validate", main)
