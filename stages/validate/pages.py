"""Data Docs: Great Expectations' own rendering of its results, without its scripts, which come from the network."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from stages.validate.expect import Outcome

HERE = Path(__file__).parent
STYLE = "style.css"
TIMES = ("batch_markers", "run_id")  # of a result's meta: the same rows give the same bytes


def page_name(artifact: str) -> str:
    """Return the file name of an artifact's page."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", artifact).strip("-") + ".html"


def write(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """Write one page an artifact, `index.html` over them, the style that they share, and `checks.json` with all checks."""
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    view = DefaultJinjaPageView(custom_views_directory=str(HERE))
    view.env.filters["generate_html_element_uuid"] = lambda prefix: prefix  # which is random, and for the scripts alone
    renderer = ValidationResultsPageRenderer()
    for outcome in outcomes:
        for one in outcome.result.results:
            one.result = _escaped(one.result)
        outcome.result.meta = {name: value for name, value in (outcome.result.meta or {}).items() if name not in TIMES}
        page = view.render(renderer.render(outcome.result), template="artifact.j2", outcome=outcome)
        (folder / page_name(outcome.artifact)).write_text(_lean(page), encoding="utf-8")
    failed = sum(not check.passed for outcome in outcomes for check in outcome.checks)
    index = view.env.get_template("artifacts.j2").render(outcomes=outcomes, failed=failed, page_name=page_name)
    (folder / "index.html").write_text(_lean(index), encoding="utf-8")
    (folder / STYLE).write_bytes((HERE / STYLE).read_bytes())
    content: list[dict[str, Any]] = [asdict(check) for outcome in outcomes for check in outcome.checks]
    (folder / "checks.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _escaped(value: Any) -> Any:
    """Escape what was found, names of files among it: Great Expectations puts cells into its pages as they are."""
    if isinstance(value, dict):
        return {key: _escaped(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(inner) for inner in value]
    return escape(value) if isinstance(value, str) else value


def _lean(page: str) -> str:
    """Drop the blank lines and indents of the templates, which are most of a page."""
    return "\n".join(line.strip() for line in page.splitlines() if line.strip()) + "\n"
