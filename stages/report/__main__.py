"""DVC entry: `python -m stages.report` writes the page, the data of DVC's plots and the metrics."""

from __future__ import annotations

import json
from pathlib import Path

from stages import entry
from stages.artifacts import atomic, tables
from stages.params import Params
from stages.report import prune
from stages.report.metrics import agreement, metrics
from stages.report.page import page
from stages.report.thumbnails import thumbnails

REPORT = Path("data/reports")


def main(settings: Params, _name: str) -> None:
    """Write the page, the plots' data for DVC and the metrics."""
    results = {name: tables.load(name) for name in tables.SCHEMAS}
    ends = prune.ends(results["pruning_scores"]).select("source", "group").unique()
    results["thumbnails"] = thumbnails(ends, settings.ingest.max_pixels)
    atomic.write_text(REPORT / "index.html", page(settings, results, _checks()))
    with atomic.new_folder(REPORT / "plots") as folder:
        agreement(results["agreement"]).write_csv(folder / "agreement.csv")
        results["probe_curves"].write_csv(folder / "probe_curves.csv")
        results["pruning_outcomes"].write_csv(folder / "pruning_outcomes.csv")
    atomic.write_text(REPORT / "metrics.json", json.dumps(metrics(settings, results), indent=1, sort_keys=True) + "\n")


def _checks() -> str:
    checks = json.loads((REPORT / "validation" / "checks.json").read_text(encoding="utf-8"))
    return f"{len(checks)} checks of {len({check['artifact'] for check in checks})} artifacts passed"


if __name__ == "__main__":
    entry.run("report", main)
