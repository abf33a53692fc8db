"""The report's sections, in the order in which a person asks."""

from __future__ import annotations

from stages.params import Params
from stages.report import extract, languages, probe, prune, rank
from stages.report.section import Results, Section

__all__ = ["Results", "Section", "sections"]


def sections(settings: Params, results: Results) -> list[Section]:
    """Return the five answers, one module a family."""
    return [family.section(settings, results) for family in (rank, extract, prune, probe, languages)]
