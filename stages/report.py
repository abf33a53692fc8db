"""DVC entry: `python -m stages.report` writes one self-contained page: the answers first, then a figure for each."""

from __future__ import annotations

import html
import json
from importlib import metadata
from pathlib import Path
from string import Template
from typing import Any

import polars as pl
import vl_convert
from great_tables import GT

from stages import entry
from stages.artifacts import atomic, tables
from stages.params import Params
from stages.prune.savings import smallest_fraction
from stages.questions import by_question
from stages.sections import Results, Section, sections

REPORT = Path("data/reports")
PAGE = Path(__file__).with_name("page.html")
VERSIONS = ("torch", "timm", "scikit-learn", "polars", "faiss-cpu", "dvc", "statsmodels", "babel")
FEW = 6  # a question with no more answers than this is shown unfolded


def main(settings: Params, _name: str) -> None:
    """Write the page, the plots' data for DVC and the metrics."""
    results = {name: tables.load(name) for name in tables.SCHEMAS}
    atomic.write_text(REPORT / "index.html", page(settings, results, _checks()))
    with atomic.new_folder(REPORT / "plots") as folder:
        results["probe_curves"].write_csv(folder / "probe_curves.csv")
        results["pruning_outcomes"].write_csv(folder / "pruning_outcomes.csv")
    atomic.write_text(REPORT / "metrics.json", json.dumps(metrics(settings, results), indent=1, sort_keys=True) + "\n")


def _checks() -> str:
    checks = json.loads((REPORT / "validation" / "checks.json").read_text(encoding="utf-8"))
    return f"{len(checks)} checks of {len({check['artifact'] for check in checks})} artifacts passed"


def metrics(settings: Params, results: Results) -> dict[str, Any]:
    """Return the numbers that `dvc metrics show` and `dvc metrics diff` compare between runs."""
    trust = results["agreement"].filter(pl.col("metric") == settings.recommend.metric)
    best = results["finetuned"].group_by("target", "encoder", "mode").agg(pl.col("accuracy").mean())
    best = best.group_by("target").agg(pl.col("accuracy").max()).sort("target")
    misses = results["language_predictions"].with_columns(miss=(pl.col("predicted") - pl.col("score")).abs())
    misses = misses.group_by("model").agg(pl.col("miss").mean()).sort("model")
    first = results["source_languages"].filter(pl.col("rank") == 1)
    kept = smallest_fraction(results["pruning_outcomes"], settings.prune.tolerance)
    return {
        "rank": {
            str(mode): {
                "mean_weighted_kendall": _rounded(group["weighted_kendall"].mean()),
                "mean_top1_regret": _rounded(group["top1_regret"].mean()),
            }
            for (mode,), group in trust.sort("mode", "target").group_by(["mode"], maintain_order=True)
        },
        "best_accuracy": {target: _rounded(accuracy) for target, accuracy in best.iter_rows()},
        "smallest_fraction": {
            f"{source} for {target}, {method}": _rounded(fraction)
            for source, target, method, fraction in kept.select("source", "target", "method", "keep_fraction").iter_rows()
        },
        "languages": {
            "mean_regret_of_first_source": _rounded(first["regret"].mean()),
            "mean_absolute_error": {model: _rounded(miss) for model, miss in misses.iter_rows()},
        },
    }


def _rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 6)


def page(settings: Params, results: Results, checks: str) -> str:
    """Return the page's HTML, which needs no network: scripts, styles and data are inside."""
    found = sections(settings, results)
    charts = {f"{section.key}-{index}": chart.to_dict() for section in found for index, chart in enumerate(section.charts)}
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in VERSIONS)
    counted = f"{len(settings.all_datasets)} datasets, {len(settings.encoders)} encoders, seed {settings.run.seed}"
    return Template(PAGE.read_text(encoding="utf-8")).substitute(
        links="".join(f'<a href="#{section.key}">{section.heading}</a>' for section in found),
        answers=answers(results["recommendations"]),
        sections="\n".join(_section(section) for section in found),
        inputs=html.escape(f"{counted}. {checks}. Made with {versions}."),
        charts=json.dumps(charts, sort_keys=True).replace("</", "<\\/"),
        script=vl_convert.javascript_bundle(snippet="window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script"),
    )


def _section(section: Section) -> str:
    figures = "".join(f'<figure id="{section.key}-{index}" class="figure"></figure>' for index in range(len(section.charts)))
    sentence = html.escape(section.sentence)
    return f'<section id="{section.key}"><h2>{section.heading}</h2><p class="number">{sentence}</p>{figures}</section>'


def answers(recommendations: pl.DataFrame) -> str:
    """Return the recommendations as one HTML table a question."""
    parts = []
    for question, group in by_question(recommendations):
        shown = group.select("target", "answer", "evidence", "margin", "warning").with_columns(pl.col("warning").fill_null(""))
        table = (
            GT(shown, id=question.replace(" ", "-"))
            .fmt_number("margin", decimals=3)
            .sub_missing("margin", missing_text="")
            .tab_options(table_width="100%")
        )
        unfolded = " open" if len(group) <= FEW else ""
        summary = f"{question.capitalize()}? <small>{len(group)} answer{'s' if len(group) > 1 else ''}</small>"
        parts.append(f'<details{unfolded}><summary>{summary}</summary><div class="wide">{table.as_raw_html()}</div></details>')
    return "\n".join(parts)


if __name__ == "__main__":
    entry.run("report", main)
