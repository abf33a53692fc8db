"""docs/extending.md is true: each of its blocks is run as it stands, and its method goes through the real stage."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image

from stages import extract, ingest, params, sources, weights
from stages.artifacts import tables
from stages.artifacts.dataset import Dataset
from stages.artifacts.features import FeatureSet
from stages.datasets import KINDS
from stages.languages import MODELS, PAIR_FEATURES, PROTOCOLS
from stages.objectives import OBJECTIVES
from stages.probe import HEADS
from stages.prune import PRUNERS
from stages.rank import METRICS

REGISTRIES = (METRICS, PRUNERS, HEADS, KINDS, PAIR_FEATURES, OBJECTIVES, MODELS, PROTOCOLS)
ROOT = Path(__file__).resolve().parents[1]
LONGEST = 10  # lines of one example, blank ones and imports left out


def block(kind: str, language: str = "python") -> str:
    """Return the one block of docs/extending.md marked with `kind`."""
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    found = re.findall(rf"```{language} {kind}\n(.*?)```", text, flags=re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def run(code: str) -> None:
    """Run a block as a module of its own."""
    exec(compile(code, "docs/extending.md", "exec", dont_inherit=True), {"__name__": "example"})


@pytest.fixture
def registries_restored() -> Iterator[None]:
    """Take out again what a test has registered."""
    before = {id(registry): set(registry) for registry in REGISTRIES}
    yield
    for registry in REGISTRIES:
        for name in set(registry) - before[id(registry)]:
            registry.remove(name)


@pytest.fixture
def features(write_params: Callable[..., Path]) -> Callable[..., params.Params]:
    """Extract features of digits with a small random encoder, with the params that the method under test needs."""

    def make(**sections: object) -> params.Params:
        write_params(**sections)
        settings = params.load()
        for name in settings.all_datasets:
            ingest.main(settings, name)
        sources.main(settings, "")
        weights.main(settings, "tiny")
        extract.main(settings, "tiny")
        return settings

    return make


@pytest.mark.parametrize("kind", ["metric", "pruner", "objective", "head", "dataset", "feature", "stage"])
def test_examples_are_short(kind: str) -> None:
    lines = [line for line in block(kind).splitlines() if line.strip() and not line.startswith(("import ", "from "))]
    assert len(lines) <= LONGEST


@pytest.mark.usefixtures("registries_restored")
def test_metric(features: Callable[..., params.Params]) -> None:
    run(block("metric"))
    settings = features(rank={"metrics": ["spread", "logme"]}, recommend={"metric": "logme"})
    from stages.rank.__main__ import main

    main(settings, "tiny")
    rows = tables.load_parts("transferability", ["tiny"]).filter(pl.col("metric") == "spread")
    expected = FeatureSet.open("tiny", "digits").features("pooled", "train").astype(np.float64)
    assert rows["score"].item() == pytest.approx((expected - expected.mean(axis=0)).var())


@pytest.mark.usefixtures("registries_restored")
def test_head(features: Callable[..., params.Params]) -> None:
    run(block("head"))
    heads = ["naive_bayes", "logistic", "smooth_gaussian"]
    settings = features(probe={"heads": heads, "seeds": 2, "sizes": [30, 100, 300]})
    from stages.probe.__main__ import main

    main(settings, "tiny")
    curves = tables.load_parts("probe_curves", ["tiny"])
    assert set(curves["head"]) == set(heads)
    assert curves.filter(pl.col("head") == "smooth_gaussian").height == 6


@pytest.mark.usefixtures("registries_restored")
def test_pruner(write_params: Callable[..., Path]) -> None:
    run(block("pruner"))
    glyphs = {"kind": "glyphs", "scripts": ["digits"], "images_per_class": 10}
    encoder = {"arch": "test_byobnet", "arch_args": {"in_chans": 1}, "weights": {"pretrain": "glyphs"}, "input_size": 32}
    write_params(
        datasets={"packaged": {"digits": {"kind": "sklearn", "name": "digits"}, "glyphs": glyphs}},
        encoders={"tiny": {**encoder, "layers": ["pooled"]}},
        pretrain={"epochs": 1},
        prune={"pairs": [{"source": "glyphs", "target": "digits", "surrogate": "tiny"}], "methods": ["first_come"]},
    )
    settings = params.load()
    for name in settings.all_datasets:
        ingest.main(settings, name)
    sources.main(settings, "")
    weights.main(settings, "tiny")
    extract.main(settings, "tiny")
    from stages.prune.__main__ import main

    main(settings, "")
    assert tables.load("pruning_scores").sort("rank")["group"].to_list() == Dataset.open("glyphs").classes


@pytest.mark.usefixtures("registries_restored")
def test_objective(write_params: Callable[..., Path]) -> None:
    run(block("objective"))
    aim = {"pretrain": "digits", "objective": "smoothed", "smoothing": 0.9}
    encoder = {"arch": "test_byobnet", "arch_args": {"in_chans": 1}, "weights": aim, "input_size": 32, "layers": ["pooled"]}
    settings = params.load(write_params(encoders={"tiny": encoder}, pretrain={"epochs": 1}))
    ingest.main(settings, "digits")
    weights.main(settings, "tiny")
    told = json.loads(Path("data/weights/tiny.json").read_text(encoding="utf-8"))["training"]
    assert (told["objective"], told["smoothing"]) == ("smoothed", 0.9)
    entropy = -(0.19 * np.log(0.19) + 0.81 * np.log(0.09))  # of the smoothed labels: no model gets below
    assert told["final_loss"] > entropy


@pytest.mark.usefixtures("registries_restored")
def test_dataset_kind(project: Path, write_params: Callable[..., Path]) -> None:
    run(block("dataset"))
    folder = project / "data" / "raw" / "shades"
    folder.mkdir()
    for index in range(40):
        shade, name = (40, "dark") if index % 2 else (200, "light")
        image = Image.new("L", (8, 8), shade)
        image.putpixel((0, 0), index)  # no two alike: equal images share a split
        image.save(folder / f"{name}-{index}.png")
    write_params(
        datasets={"files": {"shades": {"kind": "named_files", "path": "data/raw/shades"}}},
        targets=["shades"],
        ingest={"max_quarantine_fraction": 0.0},
    )
    ingest.main(params.load(), "shades")
    dataset = Dataset.open("shades")
    assert dataset.classes == ["dark", "light"]
    assert len(dataset.rows) == 40


@pytest.mark.usefixtures("registries_restored")
def test_language_feature(write_params: Callable[..., Path]) -> None:
    run(block("feature"))
    write_params(languages={"tasks": ["entity_type"], "languages": ["en", "es", "pt"], "shots": [0, 10], "seeds": 1})
    from stages import transfer

    transfer.main(params.load(), "")
    pairs = tables.load("language_pairs")
    assert pairs["length_gap"].null_count() == 0
    assert pairs.filter(pl.col("source") == pl.col("target"))["length_gap"].to_list() == pytest.approx([0.0] * 3)


@pytest.mark.usefixtures("registries_restored")
def test_transfer_model_and_protocol() -> None:
    run(block("model"))
    run(block("protocol"))
    from stages.languages.predict import held_out_predictions

    rows = [("t", source, target, 0.1 * i) for i, (source, target) in enumerate(("ab", "ac", "ba", "bc", "ca", "cb"))]
    pairs = pl.DataFrame(rows, schema=["task", "source", "target", "score"], orient="row")
    found = held_out_predictions(pairs, protocol="leave_one_pair_out", models=["median", "global_mean"])
    medians = found.filter(pl.col("model") == "median").sort("score")
    assert medians["predicted"].to_list() == pytest.approx([0.3, 0.3, 0.3, 0.2, 0.2, 0.2])
    assert set(found["model"]) == {"median", "global_mean", "chosen"}


def test_stage(project: Path, write_params: Callable[..., Path]) -> None:
    write_params()
    shutil.copytree(ROOT / "stages", project / "stages")
    (project / "stages" / "split_counts.py").write_text(block("stage"), encoding="utf-8")
    stage = yaml.safe_load(block("stage", "yaml"))
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": stage}), encoding="utf-8")
    ingest.main(params.load(), "digits")
    environment = {**os.environ, "PYTHONPATH": str(project), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in (["dvc", "init", "--no-scm", "-q"], ["dvc", "repro", "-q"]):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    counted = pl.read_csv(project / "data" / "split_counts.csv")
    assert counted["count"].sum() == 1797
    assert set(counted["split"]) == {"train", "val", "test"}
