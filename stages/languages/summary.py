"""What the languages stage prints: the numbers that a person looks for first."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from stages.languages.explain import Effects
from stages.languages.guards import BROKEN
from stages.languages.holdout import BY_REGRET, CHOSEN
from stages.languages.predict import PROTOCOL

LONGEST = 80  # characters of a set of sources, which may be mixes of many languages
CLAIM = "syntax, morphology and phonology predict more than lexical similarity"


def lines(made: Mapping[str, pl.DataFrame], explained: Effects, protocols: Sequence[str]) -> Iterator[str]:
    """Yield the lines in the order in which a person asks: is the table sound, why, how sure, which source."""
    for row in made["language_warnings"].iter_rows(named=True):
        consequence = "; left out" if row["kind"] == BROKEN else ""
        yield f"{row['task']}: {row['kind'].replace('_', ' ')} {row['subject']}: {row['detail']}{consequence}"
    yield from explained.notes
    for task, share in explained.r2.items():
        yield f"{task}: features explain R2 {share:.2f} of the zero-shot scores"
    for row in made["language_claims"].iter_rows(named=True):
        found = ""
        if row["difference"] is not None:
            interval = f"{row['ci_low']:+.3f} to {row['ci_high']:+.3f}"
            found = f" (R2 {row['typological']:.3f} against {row['lexical']:.3f}, difference {interval})"
        yield f"{row['task']}: claim that {CLAIM}, {row['measure']}: {row['verdict']}{found}"
    for row in made["language_quality"].iter_rows(named=True):
        if row["split_protocol"] != PROTOCOL and row["model"] != CHOSEN:
            continue  # the table has them; here the protocols are compared by one model
        covered = "no interval" if row["coverage"] is None else f"interval covers {row['coverage']:.2f}"
        r2 = "undefined" if row["r2"] is None else f"{row['r2']:.2f}"
        yield f"{row['task']}: {row['split_protocol']:20} {row['model']:22} MAE {row['mae']:.3f}  R2 {r2}  {covered}"
    answered = made["language_quality"].select("task", "split_protocol").unique().rows()
    for task in explained.r2:
        for protocol in protocols:
            if (task, protocol) not in answered:
                yield f"{task}: {protocol}: no answer, there is too little left when a unit is held out"
    for row in made["language_anchors"].filter(pl.col("model") == CHOSEN).iter_rows(named=True):
        if row["mae"] is not None:
            yield f"{row['task']}: with {row['n_anchors']} measured sources of a new target MAE {row['mae']:.3f}"
    for row in made["language_choices"].filter(pl.col("split_protocol") == PROTOCOL).iter_rows(named=True):
        order = "" if row["ndcg_at_3"] is None else f", NDCG@3 {row['ndcg_at_3']:.2f}"
        yield f"{row['task']}: choosing by {row['rule']:18} costs {row['mean_regret']:.3f}{order}"
    yield from _against_english(made["language_choices"])
    sets = made["source_sets"]
    last = pl.col("budget") == pl.col("budget").filter(pl.col("rule") != "cover").max().over("task")
    for row in sets.filter((pl.col("rule") == "cover") | last).iter_rows(named=True):
        if row["measured"] is not None:
            named = textwrap.shorten(row["sources"] or "drawn", LONGEST)
            found = f"{row['measured']:.3f} measured, {row['covered']:.0%} of targets covered ({named})"
            yield f"{row['task']}: sources by {row['rule']:9} for {row['budget']:g}: {found}"


def _against_english(choices: pl.DataFrame) -> Iterator[str]:
    for (task,), rows in choices.filter(pl.col("split_protocol") == PROTOCOL).group_by("task", maintain_order=True):
        regret = dict(rows.select("rule", "mean_regret").iter_rows())
        if BY_REGRET in regret and "english" in regret:
            verb = "beat" if regret[BY_REGRET] < regret["english"] else "do not beat"
            yield f"{task}: the sources chosen {verb} always English ({regret[BY_REGRET]:.3f} against {regret['english']:.3f})"
