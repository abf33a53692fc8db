"""Every metric against fine-tuned accuracy: three pretrained encoders and two at random, three layers each, real photographs.

`pytest -s -m real tests/real/test_real_ranking.py` prints the agreement of each, as it comes out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from stages import extract, finetune, ingest, params, seeds, weights
from stages.artifacts import tables
from stages.rank import METRICS
from stages.rank.__main__ import main as rank
from stages.rank.compare import agreements, verdicts
from stages.tables import add_rank, join_pools, pairs, profiles
from stages.trust import choices, kinds

V1, V2 = "mobilenetv1_100", "mobilenetv2_100"
LAYERS = {V1: ["blocks.1", "blocks.3", "pooled"], V2: ["blocks.2", "blocks.4", "pooled"]}  # early, late, last
ENCODERS = ["v1", "v2", "birds", "random_v1", "random_v2"]


@pytest.mark.real
def test_every_metric_against_fine_tuned_accuracy(
    real_inputs: Path,
    real_encoders: Callable[..., dict[str, object]],
    write_params: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_params(
        datasets={"files": {"signs": {"kind": "imagefolder", "path": str(real_inputs / "images" / "sign_digits")}}},
        targets=["signs"], encoders=real_encoders(ENCODERS, size=96, layers=LAYERS),
        finetune={"modes": ["linear"], "seeds": 1, "max_train": 800},
        rank={"metrics": list(METRICS)}, recommend={"metric": "auto"},
    )  # fmt: skip
    settings = params.load()
    ingest.main(settings, "signs")
    for name in ENCODERS:
        for stage in (weights.main, extract.main, finetune.main, rank):
            stage(settings, name)

    scores = add_rank(join_pools(tables.load_parts("transferability", ENCODERS), list(METRICS)))
    probes = tables.load_parts("layer_probes", ENCODERS)
    compared = pairs(scores, tables.load_parts("finetuned", ENCODERS), probes, dict.fromkeys(ENCODERS, "pooled"))
    seed = partial(seeds.integer_seed, 0)
    agreed = tables.frame("agreement", agreements(compared, seed)).filter(pl.col("mode") == "layers")
    headless = {"random_v1", "random_v2"}
    judged = tables.frame("metric_verdicts", verdicts(compared, kinds(scores), headless, seed))
    with (
        capsys.disabled(),
        pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, float_precision=3, tbl_hide_dataframe_shape=True),
    ):
        print()
        print(probes.select("encoder", "layer", "d", "accuracy").sort("accuracy", descending=True))
        print(
            agreed.select(
                "metric", "n_candidates", "pearson", "kendall", "weighted_kendall", "ci_low", "ci_high", "relative_at_1",
                "relative_at_3", "top1_regret",
            ).sort("weighted_kendall", descending=True, nulls_last=True)
        )  # fmt: skip
        of_layers = judged.filter(pl.col("aspect") == "mode", pl.col("level") == "layers")
        print(of_layers.select("place", "metric", "p_chance", "p_adjusted", "verdict").sort("place", nulls_last=True))

    # Every layer of every encoder is a candidate, and each has a score or a reason.
    per_metric = scores.group_by("metric").len()
    assert set(per_metric["metric"]) == set(METRICS)
    assert per_metric["len"].unique().to_list() == [15]
    assert scores.filter(pl.col("score").is_null(), pl.col("warning").is_null()).is_empty()
    # What needs a source head has no score for encoders without one, and still ranks the others.
    needs = [name for name in METRICS if METRICS[name].needs_source_probabilities]
    assert {"leep", "nce"} <= set(needs)
    without = scores.filter(pl.col("metric").is_in(needs), pl.col("encoder").is_in(sorted(headless)))
    assert without["score"].null_count() == len(without) == 6 * len(needs)
    assert without["warning"].str.contains("source head").all()
    for name in needs:
        ranks = scores.filter(pl.col("metric") == name)["rank"].drop_nulls().sort().to_list()
        assert ranks == list(range(1, 10))
    # The accuracies are those of useful and useless encoders, and the honest baseline can tell.
    accuracy = dict(probes.filter(pl.col("layer") == "pooled").select("encoder", "accuracy").iter_rows())
    assert min(accuracy["v1"], accuracy["v2"]) > accuracy["birds"] > max(accuracy["random_v1"], accuracy["random_v2"])
    assert agreed.filter(pl.col("metric") == "knn")["weighted_kendall"].item() > 0.5
    assert agreed.filter(~pl.col("metric").is_in(needs))["n_candidates"].unique().to_list() == [15]
    assert choices("auto", list(METRICS), scores, judged)["signs"].metric not in needs
    profile = profiles(scores, probes).filter(pl.col("encoder") == "v2").sort("depth")
    assert profile["layer"].to_list() == LAYERS[V2]
