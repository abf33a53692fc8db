"""The report as one self-contained page: the answers first, then a section for each."""

from __future__ import annotations

import html
import json
from importlib import metadata
from pathlib import Path
from string import Template

import polars as pl
import vl_convert
from great_tables import GT

from stages.params import Encoder, FileWeights, Params, PretrainWeights
from stages.questions import by_question
from stages.report import Results, Section, sections
from stages.report.section import Table

PAGE = Path(__file__).with_name("page.html")

VERSIONS = ("torch", "timm", "scikit-learn", "polars", "faiss-cpu", "dvc", "statsmodels", "babel")

FEW = 6  # a question with no more answers than this is shown unfolded


def page(settings: Params, results: Results, checks: str) -> str:
    """Return the page's HTML, which needs no network: scripts, styles and data are inside."""
    found = sections(settings, results)
    charts = {f"{section.key}-{index}": chart.to_dict() for section in found for index, chart in enumerate(section.charts)}
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in VERSIONS)
    return Template(PAGE.read_text(encoding="utf-8")).substitute(
        links="".join(f'<a href="#{section.key}">{section.heading}</a>' for section in found),
        answers=answers(results["recommendations"]),
        sections="\n".join(_section(section) for section in found),
        inputs=_inputs(settings, checks, versions),
        charts=json.dumps(charts, sort_keys=True).replace("</", "<\\/"),
        script=vl_convert.javascript_bundle(snippet="window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script"),
    )


def _inputs(settings: Params, checks: str, versions: str) -> str:
    """Return what the answers were made of: datasets, encoders, seed, checks, packages."""
    datasets = ", ".join(f"{name} ({entry.kind})" for name, entry in settings.all_datasets.items())
    named = [f"{name} ({encoder.arch}, {_origin(encoder)})" for name, encoder in settings.encoders.items()]
    encoders = ", ".join(named + [f"{name} (features computed elsewhere)" for name in settings.features])
    lines = [
        f"Datasets: {datasets}. Targets: {', '.join(settings.targets)}. Seed {settings.run.seed}.",
        f"Encoders: {encoders}.",
        f"Made with {versions}.",
    ]
    said = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    return f'{said}<p><a href="validation/index.html">{html.escape(checks)}</a></p>'


def _origin(encoder: Encoder) -> str:
    weights = encoder.weights
    if isinstance(weights, PretrainWeights):
        return f"pre-trained on {weights.pretrain}"
    return f"weights of {weights.file.name}" if isinstance(weights, FileWeights) else f"weights: {weights}"


def _section(section: Section) -> str:
    figures = "".join(f'<figure id="{section.key}-{index}" class="figure"></figure>' for index in range(len(section.charts)))
    sentence = html.escape(section.sentence)
    figures += "".join(_table(section.key, table) for table in section.tables)
    return f'<section id="{section.key}"><h2>{section.heading}</h2><p class="number">{sentence}</p>{figures}</section>'


def _table(section: str, table: Table) -> str:
    shown = table.rows.with_columns(pl.col(name).fill_null("") for name, kind in table.rows.schema.items() if kind == pl.String)
    floats = [name for name, kind in shown.schema.items() if kind.is_float()]
    made = GT(shown, id=f"{section}-{table.key}").fmt_number(floats, decimals=3).sub_missing(missing_text="")
    content = made.tab_options(table_width="100%").as_raw_html()
    summary = f"{html.escape(table.title)} <small>{len(shown)} rows</small>"
    return f'<details><summary>{summary}</summary><div class="wide rows">{content}</div></details>'


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
        parts.append(
            f'<details class="answers"{unfolded}><summary>{summary}</summary>'
            f'<div class="wide">{table.as_raw_html()}</div></details>'
        )
    return "\n".join(parts)
