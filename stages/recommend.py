"""DVC entry: `python -m stages.recommend` turns the result tables into one answer per question and target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from stages import entry
from stages.artifacts import tables
from stages.languages.guards import BROKEN
from stages.languages.predict import COVERAGE
from stages.params import Params
from stages.probe.expected import Expected, expected_error
from stages.prune.savings import CONFIDENCE
from stages.questions import CONTROLS, ENCODER, HEAD, MODES, SOURCE_DATA, SOURCE_LANGUAGE, SOURCE_SET, TARGET_EXAMPLES, picks
from stages.trust import Choice, choices

Row = dict[str, Any]

NO_ANSWER = "no answer"
SAME = 1e-12  # spread of differences of error that is rounding; all labels are one draw, whatever the seed
HEAD_NAMES = {"naive_bayes": "naive Bayes", "logistic": "logistic regression"}
MORE = 10  # times the labels at hand: what they would buy


def main(settings: Params, _name: str) -> None:
    """Write `recommendations` from the other result tables."""
    load, wanted = tables.load, settings.recommend
    scores = load("transferability")
    layers = {name: encoder.head_layer for name, encoder in settings.candidates.items()}
    chosen = choices(wanted.metric, settings.rank.metrics, scores, load("metric_verdicts"))
    picked = picks(scores, {target: choice.metric for target, choice in chosen.items()})
    rows = [
        *encoders(scores, load("finetuned"), load("layer_probes"), load("agreement"), chosen, layers),
        *heads(load("probe_curves"), load("probe_crossover"), picked, wanted.labels_at_hand, settings.probe.layer),
        *source_data(load("pruning_savings"), settings.prune.tolerance),
        *source_languages(load("source_languages"), load("language_warnings")),
        *source_sets(load("source_sets")),
        *target_examples(load("fewshot_curves"), settings.languages.goal),
    ]
    schema = {name: column.dtype for name, column in tables.SCHEMAS["recommendations"].columns.items()}
    tables.write("recommendations", pl.DataFrame(rows, schema=schema))


def _answer(question: str, target: str, answer: str, evidence: str, margin: float | None, warning: str | None) -> Row:
    return {
        "question": question, "target": target, "answer": answer, "evidence": evidence, "margin": margin, "warning": warning,
    }  # fmt: skip


def encoders(
    scores: pl.DataFrame,
    finetuned: pl.DataFrame,
    probes: pl.DataFrame,
    agreement: pl.DataFrame,
    chosen: Mapping[str, Choice],
    layers: Mapping[str, str],
) -> Iterator[Row]:
    """Yield, per target, the encoder and layer that its metric ranks first, and what fine-tuning says of that choice.

    Args:
        scores: `transferability` rows.
        finetuned: `finetuned` rows, which are of encoders.
        probes: `layer_probes` rows, which are of layers.
        agreement: `agreement` rows.
        chosen: target -> the metric to go by.
        layers: encoder -> its head layer, which `finetuned` in mode `linear` is of; a pick of another one says so.
    """
    truth = finetuned.group_by("target", "encoder", "mode").agg(pl.col("accuracy").mean())
    heads = probes.group_by("target", "encoder", "layer").agg(pl.col("accuracy").mean())
    for target, choice in sorted(chosen.items()):
        metric = choice.metric
        group = scores.filter((pl.col("target") == target) & (pl.col("metric") == metric)).sort("rank", nulls_last=True)
        picked = picks(group, {target: metric})
        if target not in picked:
            warning = None if group.is_empty() else group["warning"][0]
            yield _answer(ENCODER, target, NO_ANSWER, f"{metric} is not defined for any encoder", None, warning)
            continue
        first = group.row(0, named=True)
        encoder, layer = picked[target]
        others = group.filter((pl.col("encoder") != encoder) & pl.col("score").is_not_null())
        margin = abs(first["score"] - others["score"][0]) if len(others) else None
        notes = [str(note) for note in (choice.warning, first["warning"]) if note is not None]
        parts = [f"{metric} {first['score']:.3f}", *([] if choice.reason is None else [choice.reason])]
        on_layer = _against_best(heads.filter(pl.col("target") == target), encoder, layer)
        if layer != layers[encoder]:
            if on_layer is None:
                notes.append(f"accuracy and agreement are of layer {layers[encoder]}")
            else:
                parts.append(f"a linear head on this layer {on_layer}")
        for mode in truth.filter(pl.col("target") == target)["mode"].unique().sort():
            said = _against_best(truth.filter((pl.col("target") == target) & (pl.col("mode") == mode)), encoder)
            if said is not None:
                name = MODES.get(mode, mode)
                parts.append(f"{name} {said}" if layer == layers[encoder] or mode != "linear" else
                             f"{name} of layer {layers[encoder]} {said}")  # fmt: skip
        trust = agreement.filter((pl.col("target") == target) & (pl.col("metric") == metric)).sort("mode")
        for row in trust.iter_rows(named=True):
            if row["weighted_kendall"] is not None:
                interval = "" if row["ci_low"] is None else f" [{row['ci_low']:.2f}, {row['ci_high']:.2f}]"
                parts.append(f"agreement with {row['mode']} {row['weighted_kendall']:.2f}{interval}")
                if row["ci_low"] is not None and row["ci_low"] <= 0:
                    notes.append(f"on {row['n_encoders']} encoders the agreement with {row['mode']} may be chance")
        yield _answer(ENCODER, target, f"{encoder}, layer {layer}", "; ".join(parts), margin, "; ".join(notes) or None)


def _against_best(truth: pl.DataFrame, encoder: str, layer: str | None = None) -> str | None:
    """Return the accuracy of one encoder, or of one of its layers, and the best of all, in words; None where it has none."""
    mine = truth.filter((pl.col("encoder") == encoder) & (pl.lit(True) if layer is None else pl.col("layer") == layer))
    if mine.is_empty():
        return None
    keys = ["encoder"] if layer is None else ["encoder", "layer"]
    best = truth.sort("accuracy", *keys, descending=[True] + [False] * len(keys)).row(0, named=True)
    return f"{mine['accuracy'][0]:.3f} (best {best['accuracy']:.3f}, {' '.join(best[key] for key in keys)})"


def errors_at(curve: pl.DataFrame, m: int) -> dict[int, float]:
    """Return seed -> error at `m` labels, linear in log m between the measured sizes, the nearest one outside them.

    Args:
        curve: columns m, seed and error of one head.
        m: labels, >= 1.
    """
    return {
        int(seed): float(np.interp(np.log(m), np.log(group["m"].to_numpy()), group["error"].to_numpy()))
        for (seed,), group in curve.sort("seed", "m").group_by(["seed"], maintain_order=True)
    }


def heads(
    curves: pl.DataFrame, crossover: pl.DataFrame, picked: dict[str, tuple[str, str]], labels: int, layer: str
) -> Iterator[Row]:
    """Yield, per target, the head with the least expected error at `labels` labels on the encoder picked for it.

    Args:
        curves: `probe_curves` rows, all measured on `layer`.
        crossover: `probe_crossover` rows.
        picked: target -> (encoder, layer), as `picks` gives it; a target that is not in it gets no answer.
        labels: that are at hand.
        layer: whose features the heads were fitted on.
    """
    for target in curves["target"].unique().sort().to_list():
        if target not in picked:
            evidence = "no encoder is picked for this target, because the metric is not defined for any"
            yield _answer(HEAD, target, NO_ANSWER, evidence, None, None)
            continue
        encoder, best_layer = picked[target]
        mine = curves.filter((pl.col("target") == target) & (pl.col("encoder") == encoder))
        by_head = {
            str(head): errors_at(group, labels)
            for (head,), group in mine.sort("head").group_by(["head"], maintain_order=True)
        }  # fmt: skip
        errors = {head: sum(found.values()) / len(found) for head, found in by_head.items()}
        order = sorted(errors, key=lambda head: (errors[head], head))
        margin = errors[order[1]] - errors[order[0]] if len(order) > 1 else None
        crossing = crossover.filter((pl.col("target") == target) & (pl.col("encoder") == encoder)).row(0, named=True)
        low, high = int(mine["m"].min()), int(mine["m"].max())  # type: ignore[arg-type]  # m is never null
        evidence = f"on {encoder}, layer {layer}, at {labels:,} labels: "
        evidence += ", ".join(
            f"{HEAD_NAMES.get(head, head)} error {errors[head]:.3f}{_interval(expected_error(mine, head, labels))}"
            for head in order
        )
        if labels < high:
            later, error, at = _with_more(mine, min(MORE * labels, high))
            evidence += f"; with {at:,} labels {HEAD_NAMES.get(later, later)} error {error:.3f}"
        evidence += f"; regime {crossing['regime']}"
        if crossing["m_star"] is not None:
            evidence += f", crossing at {crossing['m_star']:,.0f} labels"
            if crossing["ci_low"] is not None:
                evidence += f" [{crossing['ci_low']:,.0f}, {crossing['ci_high']:,.0f}] of the resamples that cross"
        answer = f"with {labels:,} labels take {HEAD_NAMES.get(order[0], order[0])}, error {errors[order[0]]:.2f}"
        if {"naive_bayes", "logistic"} <= errors.keys():
            answer += f"; {overtaking(crossing, labels, high)}"
        notes = []
        if best_layer != layer:
            notes.append(f"the heads were measured on layer {layer}, the picked layer is {best_layer}")
        if not low <= labels <= high:
            notes.append(f"{labels} labels lie outside the measured {low} to {high}")
        if len(order) > 1:
            notes += _doubt(by_head[order[0]], by_head[order[1]], HEAD_NAMES.get(order[1], order[1]))
        yield _answer(HEAD, target, answer, evidence, margin, "; ".join(notes) or None)


def _interval(expected: Expected | None) -> str:
    """Write the interval of an expected error, where there is one."""
    return "" if expected is None or expected.low is None else f" [{expected.low:.3f}, {expected.high:.3f}]"


def _with_more(curves: pl.DataFrame, labels: int) -> tuple[str, float, int]:
    """Return the head with the least mean error at `labels` labels, that error, and `labels`."""
    means = {
        str(head): float(np.mean(list(errors_at(group, labels).values())))
        for (head,), group in curves.sort("head").group_by(["head"], maintain_order=True)
    }
    best = min(means, key=lambda head: (means[head], head))
    return best, means[best], labels


def overtaking(crossing: Row, labels: int, most: int) -> str:
    """Say when logistic regression overtakes naive Bayes.

    Args:
        crossing: a row of `probe_crossover`.
        labels: that are at hand; they decide between "overtakes" and "overtook".
        most: labels measured.
    """
    if crossing["regime"] == "logistic_always":
        return "naive Bayes is never ahead"
    if crossing["m_star"] is None:
        return f"logistic regression is not ahead at all {most:,}"
    verb = "overtakes" if labels < crossing["m_star"] else "overtook naive Bayes"
    low, high = crossing["ci_low"], crossing["ci_high"]
    if low is None or _rounded(low) == _rounded(high):
        return f"logistic regression {verb} at about {_rounded(crossing['m_star']):,}"
    return f"logistic regression {verb} at {_rounded(low):,} to {_rounded(high):,}"


def _rounded(labels: float) -> int:
    """Round to two digits, which is more than an interval over a few seeds knows."""
    return int(float(f"{labels:.1e}"))


def _doubt(first: dict[int, float], second: dict[int, float], name: str) -> list[str]:
    """Return a warning where the errors of two heads, seed by seed, do not show that the first is better."""
    gaps = np.array([second[seed] - first[seed] for seed in sorted(first.keys() & second.keys())])
    if len(gaps) < 2:
        return [f"one seed does not tell whether {name} is worse"]
    if np.ptp(gaps) < SAME:
        return [f"every seed finds the same difference to {name}, which leaves its interval unknown"]
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(gaps) - 1) * gaps.std(ddof=1) / np.sqrt(len(gaps)))
    low, high = float(gaps.mean()) - half, float(gaps.mean()) + half
    if low > 0:
        return []
    return [f"{name} may be as good: its error is {low:+.3f} to {high:+.3f} above over {len(gaps)} seeds"]


def source_data(savings: pl.DataFrame, tolerance: float) -> Iterator[Row]:
    """Yield, per source, target and mode, the smallest share of the source's groups that costs at most `tolerance` of accuracy.

    A method is preferred to chance at the same share; the reversed order is a control and never the answer.

    Args:
        savings: rows of the table `pruning_savings`.
        tolerance: that they were made with.
    """
    for (source, target, mode), group in savings.group_by(["source", "target", "mode"], maintain_order=True):
        pair = f"{source} for {target}, {MODES.get(str(mode), mode)}"
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
        notes = []
        if best["gap_low"] is not None:
            evidence += f" (loss {best['gap_low']:+.3f} to {best['gap_high']:+.3f}, {best['n_seeds']} seeds)"
            low, high = best["fraction_low"], best["fraction_high"]
            evidence += f"; smallest share {low:.0%}" + (f" to {high:.0%}" if high > low else "") + " when seeds are resampled"
            if high > best["keep_fraction"]:
                notes.append(f"resampled seeds ask for up to {high:.0%}")
        evidence += f"; {best['steps_saved']:.0%} of the pre-training steps saved"
        if best["gap_high"] is None or best["gap_high"] > tolerance:
            notes.append(f"the interval does not rule out a loss above {tolerance}")
        controls = enough.filter(pl.col("control") & (pl.col("keep_fraction") <= best["keep_fraction"]))["method"].to_list()
        if controls:
            notes.append(f"{' and '.join(controls)} selection is as good: which groups are kept does not show here")
        answer = f"keep {best['keep_fraction']:.0%} of the source's groups by {best['method']}"
        yield _answer(SOURCE_DATA, pair, answer, evidence, tolerance - best["accuracy_gap"], "; ".join(notes) or None)


def source_languages(ranked: pl.DataFrame, warnings: pl.DataFrame) -> Iterator[Row]:
    """Yield, per task and target language, the source predicted best without any measurement on that target.

    Of `language_warnings` those on the target and on the whole task are passed on.
    """
    for (task, target), group in ranked.sort("task", "target", "rank").group_by(["task", "target"], maintain_order=True):
        first = group.row(0, named=True)
        margin = first["predicted"] - group["predicted"][1] if len(group) > 1 else None
        covered = group.filter(pl.col("conformal_set"))["source"].to_list()
        interval = "" if first["interval_low"] is None else f" [{first['interval_low']:.3f}, {first['interval_high']:.3f}]"
        evidence = f"predicted {first['predicted']:.3f}{interval}, measured {first['measured']:.3f}, "
        evidence += f"{first['regret']:.3f} below the best source"
        notes = []
        if len(covered) > 1:
            notes.append(f"the {COVERAGE:.0%} set holds {len(covered)} of {len(group)} sources")
        told = warnings.filter((pl.col("task") == task) & pl.col("subject").is_in([target, "*"]) & (pl.col("kind") != BROKEN))
        notes += [f"{kind.replace('_', ' ')}: {detail}" for kind, detail in told.select("kind", "detail").iter_rows()]
        yield _answer(SOURCE_LANGUAGE, f"{task}/{target}", str(first["source"]), evidence, margin, "; ".join(notes) or None)


def source_sets(sets: pl.DataFrame) -> Iterator[Row]:
    """Yield, per task, the sources to take together at the largest budget, and the cheapest that serve every target."""
    for (task,), group in sets.sort("task", "rule", "budget").group_by(["task"], maintain_order=True):
        budgeted = group.filter(pl.col("rule") != "cover")
        last = budgeted.filter(pl.col("budget") == pl.col("budget").max())
        rows = {row["rule"]: row for row in last.iter_rows(named=True)}
        best = rows.get("exact") or rows.get("greedy")
        cover = group.filter(pl.col("rule") == "cover")
        everything = f"all targets take {cover['sources'][0]} at cost {cover['cost'][0]:g}" if len(cover) else ""
        if best is None:
            yield _answer(SOURCE_SET, str(task), NO_ANSWER, everything, None, "no source costs as little as the budget")
            continue
        others = {
            rule: row["measured"]
            for rule, row in rows.items()
            if rule not in (best["rule"], "greedy") and row["measured"] is not None
        }  # fmt: skip
        evidence = f"at cost {best['cost']:g} for {best['n_targets']} targets: measured {best['measured']:.3f}, "
        evidence += f"{best['covered']:.0%} of the targets within the tolerance of their best source"
        evidence += "".join(f"; {rule} {measured:.3f}" for rule, measured in others.items())
        evidence += f"; {everything}" if everything else ""
        ahead = {rule: measured for rule, measured in others.items() if measured > best["measured"] + SAME}
        warning = f"{' and '.join(sorted(ahead))} measured better" if ahead else None
        margin = None if not others else best["measured"] - max(others.values())
        yield _answer(SOURCE_SET, str(task), str(best["sources"]), evidence, margin, warning)


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
