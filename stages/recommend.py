"""DVC entry: `python -m stages.recommend` turns the result tables into one answer per question and target."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from stages import entry
from stages.artifacts import tables
from stages.params import Params
from stages.prune import smallest_fraction
from stages.questions import ENCODER, HEAD, SOURCE_DATA, SOURCE_LANGUAGE, TARGET_EXAMPLES

Row = dict[str, Any]

CONTROLS = ("random", "reversed")  # what a pruning method has to beat


def main(settings: Params, _name: str) -> None:
    """Write `recommendations` from the other result tables."""
    load = tables.load
    chosen = list(encoders(load("transferability"), load("finetuned"), load("agreement"), settings.recommend.metric))
    picked = {row["target"]: str(row["answer"]).partition(", layer ")[0] for row in chosen}
    rows = [
        *chosen,
        *heads(load("probe_curves"), load("probe_crossover"), picked, settings.recommend.labels_at_hand),
        *source_data(load("pruning_outcomes"), settings.prune.tolerance),
        *source_languages(load("source_languages")),
        *target_examples(load("fewshot_curves"), settings.languages.goal),
    ]
    schema = {name: column.dtype for name, column in tables.SCHEMAS["recommendations"].columns.items()}
    tables.write("recommendations", pl.DataFrame(rows, schema=schema))


def _answer(question: str, target: str, answer: str, evidence: str, margin: float | None, warning: str | None) -> Row:
    return {
        "question": question, "target": target, "answer": answer, "evidence": evidence, "margin": margin, "warning": warning,
    }  # fmt: skip


def encoders(scores: pl.DataFrame, finetuned: pl.DataFrame, agreement: pl.DataFrame, metric: str) -> Iterator[Row]:
    """Yield, per target, the encoder and layer that `metric` ranks first, and what fine-tuning says of that choice."""
    ranked = scores.filter(pl.col("metric") == metric).sort("target", "rank", nulls_last=True)
    truth = finetuned.group_by("target", "encoder", "mode").agg(pl.col("accuracy").mean())
    for (target,), group in ranked.group_by(["target"], maintain_order=True):
        first = group.row(0, named=True)
        if first["score"] is None:
            yield _answer(ENCODER, str(target), "no answer", f"{metric} is not defined for any encoder", None, first["warning"])
            continue
        others = group.filter((pl.col("encoder") != first["encoder"]) & pl.col("score").is_not_null())
        margin = abs(first["score"] - others["score"][0]) if len(others) else None
        notes = [] if first["warning"] is None else [str(first["warning"])]
        parts = [f"{metric} {first['score']:.3f}"]
        for mode in truth.filter(pl.col("target") == target)["mode"].unique().sort():
            of_mode = truth.filter((pl.col("target") == target) & (pl.col("mode") == mode)).sort(
                "accuracy", "encoder", descending=[True, False]
            )
            got = of_mode.filter(pl.col("encoder") == first["encoder"])["accuracy"]
            best = of_mode.row(0, named=True)
            if len(got):
                parts.append(f"{mode} fine-tuning {got[0]:.3f} (best {best['accuracy']:.3f}, {best['encoder']})")
        trust = agreement.filter((pl.col("target") == target) & (pl.col("metric") == metric)).sort("mode")
        for row in trust.iter_rows(named=True):
            if row["weighted_kendall"] is not None:
                interval = "" if row["ci_low"] is None else f" [{row['ci_low']:.2f}, {row['ci_high']:.2f}]"
                parts.append(f"agreement with {row['mode']} {row['weighted_kendall']:.2f}{interval}")
                if row["ci_low"] is not None and row["ci_low"] <= 0:
                    notes.append(f"on {row['n_encoders']} encoders the agreement with {row['mode']} may be chance")
        answer = f"{first['encoder']}, layer {first['layer']}"
        yield _answer(ENCODER, str(target), answer, "; ".join(parts), margin, "; ".join(notes) or None)


def error_at(curve: pl.DataFrame, m: int) -> float:
    """Return the mean error at `m` labels, linear in log m between the measured sizes, the nearest one outside them.

    Args:
        curve: columns m and error, any number of seeds.
        m: labels, >= 1.
    """
    mean = curve.group_by("m").agg(pl.col("error").mean()).sort("m")
    return float(np.interp(np.log(m), np.log(mean["m"].to_numpy()), mean["error"].to_numpy()))


def heads(curves: pl.DataFrame, crossover: pl.DataFrame, picked: dict[str, str], labels: int) -> Iterator[Row]:
    """Yield, per target, the head with the least expected error at `labels` labels on the encoder picked for it."""
    for target, encoder in sorted(picked.items()):
        mine = curves.filter((pl.col("target") == target) & (pl.col("encoder") == encoder))
        if mine.is_empty():
            continue
        errors = {
            str(head): error_at(group, labels)
            for (head,), group in mine.sort("head", "m").group_by(["head"], maintain_order=True)
        }
        order = sorted(errors, key=lambda head: (errors[head], head))
        margin = errors[order[1]] - errors[order[0]] if len(order) > 1 else None
        crossing = crossover.filter((pl.col("target") == target) & (pl.col("encoder") == encoder)).row(0, named=True)
        evidence = f"on {encoder} at {labels} labels: " + ", ".join(f"{head} error {errors[head]:.3f}" for head in order)
        evidence += f"; regime {crossing['regime']}"
        if crossing["m_star"] is not None:
            interval = "" if crossing["ci_low"] is None else f" [{crossing['ci_low']:.0f}, {crossing['ci_high']:.0f}]"
            evidence += f", crossing at {crossing['m_star']:.0f} labels{interval}"
        low, high = int(mine["m"].min()), int(mine["m"].max())  # type: ignore[arg-type]  # m is never null
        outside = None if low <= labels <= high else f"{labels} labels lie outside the measured {low} to {high}"
        yield _answer(HEAD, target, order[0], evidence, margin, outside)


def source_data(outcomes: pl.DataFrame, tolerance: float) -> Iterator[Row]:
    """Yield, per source and target, the smallest share of source classes that costs at most `tolerance` of accuracy.

    A method is preferred to chance at the same share; the reversed order is a control and never the answer.
    """
    found = smallest_fraction(outcomes, tolerance)
    for (source, target), group in found.group_by(["source", "target"], maintain_order=True):
        pair = f"{source} for {target}"
        enough = group.filter(pl.col("keep_fraction").is_not_null()).with_columns(
            control=pl.col("method").is_in(CONTROLS)
        ).sort("keep_fraction", "control", "accuracy_gap", "method")  # fmt: skip
        answers = enough.filter(pl.col("method") != "reversed")
        if answers.is_empty():
            evidence = f"no method stays within {tolerance} of the full source's accuracy at the shares tried"
            yield _answer(SOURCE_DATA, pair, "keep everything", evidence, None, None)
            continue
        best = answers.row(0, named=True)
        evidence = (
            f"accuracy {abs(best['accuracy_gap']):.3f} {'below' if best['accuracy_gap'] > 0 else 'above'} the full source's"
        )
        if best["gap_low"] is not None:
            evidence += f" (loss {best['gap_low']:+.3f} to {best['gap_high']:+.3f})"
        evidence += f"; {best['steps_saved']:.0%} of the pre-training steps saved"
        notes = []
        if best["gap_high"] is None or best["gap_high"] > tolerance:
            notes.append(f"the interval does not rule out a loss above {tolerance}")
        controls = enough.filter(pl.col("control") & (pl.col("keep_fraction") <= best["keep_fraction"]))["method"].to_list()
        if controls:
            notes.append(f"{' and '.join(controls)} selection is as good: which classes are kept does not show here")
        answer = f"keep {best['keep_fraction']:.0%} of the classes by {best['method']}"
        yield _answer(SOURCE_DATA, pair, answer, evidence, tolerance - best["accuracy_gap"], "; ".join(notes) or None)


def source_languages(ranked: pl.DataFrame) -> Iterator[Row]:
    """Yield, per task and target language, the source predicted best without any measurement on that target."""
    for (task, target), group in ranked.sort("task", "target", "rank").group_by(["task", "target"], maintain_order=True):
        first = group.row(0, named=True)
        margin = first["predicted"] - group["predicted"][1] if len(group) > 1 else None
        covered = group.filter(pl.col("conformal_set"))["source"].to_list()
        evidence = (
            f"predicted {first['predicted']:.3f}, measured {first['measured']:.3f}, {first['regret']:.3f} below the best source"
        )
        warning = None
        if len(covered) > 1:
            warning = f"the 90% set holds {len(covered)} of {len(group)} sources"
        yield _answer(SOURCE_LANGUAGE, f"{task}/{target}", str(first["source"]), evidence, margin, warning)


def target_examples(curves: pl.DataFrame, goal: float) -> Iterator[Row]:
    """Yield, per task and target language, the labelled examples that lead to the goal, or why none can be named."""
    for row in curves.sort("task", "target").iter_rows(named=True):
        answer = "no number" if row["n_for_goal"] is None else f"{row['n_for_goal']:,} for a score of {goal}"
        evidence = f"score = {row['offset']:.3f} + {row['slope_per_decade']:.3f} log10(1 + n)"
        if row["slope_low"] is not None:
            evidence += f", slope [{row['slope_low']:.3f}, {row['slope_high']:.3f}]"
        if row["r2_log"] is not None:
            evidence += f", R2 {row['r2_log']:.2f}"
        yield _answer(TARGET_EXAMPLES, f"{row['task']}/{row['target']}", answer, evidence, None, row["warning"])


if __name__ == "__main__":
    entry.run("recommend", main)
