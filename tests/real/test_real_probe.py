"""Naive Bayes or logistic regression on photographs of hand signs, through three pretrained encoders and random weights."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from stages.artifacts import tables

Run = Callable[..., subprocess.CompletedProcess[str]]
ENCODERS = ["v1", "v2", "birds", "chance"]
SIZES = [20, 40, 80, 160, 320, 640]
SEEDS = 3


@pytest.mark.real
def test_curves_crossings_and_assumptions_of_real_encoders(
    real_inputs: Path, real_encoders: Callable[..., dict[str, object]], write_params: Callable[..., Path], run_stage: Run
) -> None:
    """What holds whatever the numbers come to: pretraining helps, and no real feature is what naive Bayes assumes."""
    write_params(
        datasets={"files": {"signs": {"kind": "imagefolder", "path": str(real_inputs / "images" / "sign_digits")}}},
        targets=["signs"], encoders=real_encoders(ENCODERS, size=128),
        run={"threads": 1}, probe={"seeds": SEEDS, "sizes": SIZES},
    )  # fmt: skip
    stages = [("ingest", "--dataset", ["signs"])]
    stages += [(stage, "--encoder", ENCODERS) for stage in ("weights", "extract", "probe", "assumptions")]
    for stage, option, names in stages:
        for name in names:
            result = run_stage(stage, option, name)
            assert result.returncode == 0, result.stderr

    curves = tables.load_parts("probe_curves", ENCODERS)
    mean = curves.group_by("encoder", "head", "m").agg(pl.col("error").mean()).sort("encoder", "head", "m")
    most = dict(mean.filter(m=SIZES[-1], head="logistic").select("encoder", "error").iter_rows())
    assert max(most["v1"], most["v2"]) < most["birds"] < most["chance"] < 0.9  # the first two are a few photographs apart
    checked = {row["encoder"]: row for row in tables.load_parts("probe_assumptions", ENCODERS).to_dicts()}
    crossing = {row["encoder"]: row for row in tables.load_parts("probe_crossover", ENCODERS).to_dicts()}
    for name, row in checked.items():
        assert row["divergence_per_dim"] > 0.1
        assert row["mean_absolute_correlation"] > row["correlation_by_chance"]
        assert 0 < row["effective_rank_share"] < 0.5
        assert row["regime"] == crossing[name]["regime"]
        errors = {head: mean.filter(encoder=name, head=head)["error"].to_list() for head in ("naive_bayes", "logistic")}
        assert row["naive_bayes_error"] == pytest.approx(errors["naive_bayes"][-1])
        ahead = "naive_bayes" if errors["naive_bayes"][0] < errors["logistic"][0] else "logistic"
        assert row["winner_at_fewest"] in (ahead, None)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=250):
        print(mean.pivot("m", index=["encoder", "head"], values="error"))
        print(pl.DataFrame(list(crossing.values())))
        print(pl.DataFrame(list(checked.values())))
