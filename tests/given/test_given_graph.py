"""Texts without an image anywhere, through every stage that serves them: CLDR's names, by three models of character n-grams."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from stages import params
from stages.artifacts import tables
from stages.artifacts.pruning import Pruning
from stages.languages.cldr import names

ROOT = Path(__file__).resolve().parents[2]
MODELS = {"trigrams": ((1, 3), 48), "letters": ((1, 1), 12)}
STAGES = ("given", "finetune", "rank", "probe", "assumptions")
PAIR = {"source": "english", "target": "german", "surrogate": "trigrams"}
PRUNE = {"pairs": [PAIR], "methods": ["feature_mapping", "moderate", "random"], "fractions": [0.4, 0.6], "seeds": 1}


@pytest.fixture
def settings(project: Path, write_params: Callable[..., Path]) -> params.Params:
    raw = project / "data" / "raw"
    texts = {}
    for language, code in (("english", "en"), ("german", "de")):
        rows = [(f"{kind}/{entity}", text, kind) for kind, found in names(code).items() for entity, text in found.items()]
        texts[language] = pl.DataFrame(rows, schema=["id", "text", "label"], orient="row")
        texts[language].write_parquet(raw / f"{language}.parquet")
    for model, (ngrams, d) in MODELS.items():
        (raw / "features" / model).mkdir(parents=True)
        vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=ngrams, min_df=2).fit(pl.concat(texts.values())["text"])
        svd = TruncatedSVD(d, random_state=0).fit(vectors.transform(texts["english"]["text"]))
        for language, frame in texts.items():
            embedded = svd.transform(vectors.transform(frame["text"])).astype(np.float32)
            column = pl.Series("embedding", embedded, dtype=pl.Array(pl.Float32, d))
            shuffled = frame.with_columns(column).sample(fraction=1, shuffle=True, seed=5)
            shuffled.write_parquet(raw / "features" / model / f"{language}.parquet")
    files = {language: {"kind": "table", "path": f"data/raw/{language}.parquet"} for language in texts}
    write_params(
        datasets={"packaged": {}, "files": files}, targets=["german"], encoders={},
        features={model: {"path": f"data/raw/features/{model}"} for model in MODELS},
        rank={"metrics": ["logme", "lda", "leep"]}, finetune={"seeds": 1, "max_train": 300},
        probe={"sizes": [20, 80, 300], "seeds": 2}, prune=PRUNE,
    )  # fmt: skip
    return params.load()


def test_three_stages_of_evidence_and_a_pruning(settings: params.Params, capsys: pytest.CaptureFixture[str]) -> None:
    for dataset in settings.all_datasets:
        import_module("stages.ingest").main(settings, dataset)
    import_module("stages.sources").main(settings, "")
    for stage in STAGES:
        for model in MODELS:
            module = f"stages.{stage}" if stage in ("finetune", "assumptions") else f"stages.{stage}.__main__"
            import_module(module).main(settings, model)
    import_module("stages.tables").main(settings)
    import_module("stages.prune.__main__").main(settings)
    import_module("stages.prune_proof").main(settings)

    scores = tables.load("transferability")
    ranked = scores.filter(pl.col("metric") == "lda").sort("rank")["encoder"].to_list()
    accuracy = tables.load("finetuned").group_by("encoder", "mode").agg(pl.col("accuracy").mean()).sort("accuracy")
    assert accuracy["mode"].to_list() == ["linear", "linear"]  # no network, so no full fine-tuning
    assert ranked == accuracy["encoder"].to_list()[::-1] == ["trigrams", "letters"]
    assert accuracy["accuracy"][1] > 0.45  # five kinds of names, the largest of which are 41%
    assert scores.filter(pl.col("metric") == "leep")["score"].null_count() == 2  # there is no head to have probabilities
    assert set(tables.load("probe_curves")["encoder"]) == set(MODELS)
    assert tables.load("layer_probes").is_empty()
    kept = Pruning.open("english", "german", "feature_mapping").kept(0.4)
    assert set(kept["group"]) < {"territory", "language", "currency", "unit", "script"}
    assert len(Pruning.open("english", "german", "moderate").kept(0.4)) > 300
    assert tables.load("pruning_outcomes").is_empty()
    assert "english -> german: left out, for 'trigrams' is features computed elsewhere" in capsys.readouterr().err


def test_the_graph_has_stages_for_them_and_none_that_need_a_network(project: Path, settings: params.Params) -> None:
    for name in ("stages", "dvc.yaml", "requirements.lock", ".dvcignore"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, project / name)
    written = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    default = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    (project / "params.yaml").write_text(yaml.safe_dump({**default, **written}, sort_keys=False), encoding="utf-8")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def dvc(*arguments: str) -> str:
        return subprocess.run(
            ["dvc", *arguments], cwd=project, env=environment, capture_output=True, text=True, check=True
        ).stdout

    dvc("init", "--no-scm", "-q")
    of_models = {name for name in dvc("stage", "list", "--name-only").split() if "@" in name and "ingest" not in name}
    groups = ("extract_given", "finetune_given", "rank_given", "probe_given", "assumptions_given")
    assert of_models == {f"{group}@{model}" for group in groups for model in MODELS}
