"""The proof: pre-training again on what is kept, resumable, each run paid for once."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image
from pydantic import ValidationError

from stages import encoders, finetune, params
from stages.artifacts import manifest, pruning, tables, weights
from stages.artifacts.dataset import MANIFEST_SCHEMA, QUARANTINE_SCHEMA, dataset_path
from stages.errors import InputProblem
from stages.prune_proof import Bench, Run, main, plan

ROOT = Path(__file__).resolve().parents[1]
SIZE, N_SOURCE, N_TARGET = 32, 6, 3  # pixels, classes
CLASSES = [f"bars_{angle}" for angle in range(N_SOURCE)]


def bars(angle: float, stream: np.random.Generator) -> bytes:
    """One PNG of stripes at an angle, at a random phase, under noise."""
    y, x = np.mgrid[:SIZE, :SIZE]
    wave = np.sin(0.9 * (x * np.cos(angle) + y * np.sin(angle)) + stream.uniform(0, 2 * np.pi))
    pixels = np.clip(128 + 70 * wave + 25 * stream.normal(size=wave.shape), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_dataset(name: str, n_classes: int, per_class: int, seed: int) -> None:
    """Write the artifact that `ingest` leaves behind: 60% train, 40% test."""
    stream = np.random.default_rng(seed)
    rows, images = [], []
    for index in range(n_classes):
        for number in range(per_class):
            identity, data = f"{index}-{number:02d}", bars(np.pi * index / n_classes, stream)
            split = "train" if number % 5 < 3 else "test"
            rows.append((identity, split, f"bars_{index}", index, identity, SIZE, SIZE, 0))
            images.append((identity, data))
    folder = dataset_path(name)
    folder.mkdir(parents=True)
    pl.DataFrame(rows, schema=MANIFEST_SCHEMA, orient="row").sort("shard", "id").write_parquet(folder / "manifest.parquet")
    pl.DataFrame(images, schema={"id": pl.String, "bytes": pl.Binary}, orient="row").write_parquet(
        folder / "images-00000.parquet"
    )
    pl.DataFrame(schema=QUARANTINE_SCHEMA).write_parquet(folder / "quarantine.parquet")
    manifest.write(
        folder, kind="dataset", version=1, inputs={}, classes=[f"bars_{index}" for index in range(n_classes)], channels=1
    )


def write_pruning(method: str, draws: list[list[int]], fractions: list[float], target: str = "patches") -> None:
    """Write the artifact that `prune` leaves behind; each draw lists the classes, best first."""
    rows = pl.read_parquet(dataset_path("stripes") / "manifest.parquet").filter(pl.col("split") == "train")
    made = []
    for order in draws:
        ranks = {CLASSES[group]: rank for rank, group in enumerate(order, 1)}
        images = rows.select("id", group=pl.col("label"), rank=pl.col("label").replace_strict(ranks))
        scores = pl.DataFrame(
            {"group": list(ranks), "score": [-1.0 * rank for rank in ranks.values()], "rank": list(ranks.values())}
        ).with_columns(soft_mass=0.0, n_images=12)
        kept = {part: images.filter(pl.col("rank") <= round(part * N_SOURCE)) for part in fractions}
        made.append(pruning.Draw(scores, kept))
    folder = pruning.pruning_path("stripes", target, method)
    pruning.write(folder, made, inputs={}, source="stripes", target="patches", method=method, surrogate="tiny", layer="pooled")


@pytest.fixture
def settings(write_params: Callable[..., Path]) -> Callable[..., params.Params]:
    """Make both datasets, the surrogate's weights and three prunings; return a function that writes and reads params."""
    write_dataset("stripes", N_SOURCE, 20, seed=0)
    write_dataset("patches", N_TARGET, 15, seed=1)
    model = encoders.build("test_byobnet", {"in_chans": 1}, num_classes=N_SOURCE, seed=0)
    card = weights.Card(
        arch="test_byobnet", arch_args={"in_chans": 1}, num_classes=N_SOURCE, input_size=(1, SIZE, SIZE), mean=(0.5,),
        std=(0.5,), interpolation="bilinear", crop_pct=1.0, source="pretrain", origin="stripes", sha256="", classes=CLASSES,
        training={},
    )  # fmt: skip
    weights.write("tiny", model.state_dict(), card)
    fractions = [1 / 3, 0.5, 5 / 6]
    write_pruning("label_mapping", [[0, 2, 4, 1, 3, 5]], fractions)
    write_pruning("feature_mapping", [[2, 0, 1, 4, 3, 5]], fractions)  # a third of the classes: the same two
    write_pruning("random", [[5, 3, 1, 0, 2, 4], [1, 3, 0, 5, 2, 4]], fractions)

    def load(**section: Any) -> params.Params:
        write_params(
            datasets={"packaged": {"stripes": {"kind": "glyphs"}, "patches": {"kind": "glyphs"}}},
            targets=["patches"],
            encoders={"tiny": {"arch": "test_byobnet", "arch_args": {"in_chans": 1}, "weights": {"pretrain": "stripes"}}},
            pretrain={"epochs": 2, "batch_size": 16},
            finetune={"epochs": 2, "batch_size": 8, "max_train": 20},
            run={"device": "cpu", "threads": 1},
            prune={
                "pairs": [{"source": "stripes", "target": "patches", "surrogate": "tiny"}],
                **{"fractions": [1 / 3, 0.5], "seeds": 2, **section},
            },
        )
        return params.load()

    return load


def kept_runs() -> dict[str, int]:
    """Return when each finished run in the store was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in Path("data/store/proof").glob("*/outcome.json")}


def test_every_run_has_its_row_and_equal_runs_are_paid_for_once(settings: Callable[..., params.Params]) -> None:
    main(settings())
    table = tables.load("pruning_outcomes")
    assert len(table) == 2 * 2 * (2 + 3 * 2)
    assert set(table["mode"]) == {"linear", "full"}
    full = table.filter(pl.col("method") == "full")
    assert full.select("keep_fraction", "n_classes", "n_images").unique().rows() == [(1.0, 6, 72)]
    assert full["downstream_accuracy"].equals(full["full_source_accuracy"].alias("downstream_accuracy"))
    none = table.filter(pl.col("method") == "none")
    assert none.select("keep_fraction", "n_classes", "n_images", "pretrain_steps").unique().rows() == [(0.0, 0, 0, 0)]
    half = table.filter(pl.col("keep_fraction") == 0.5)
    assert half.select("n_classes", "n_images").unique().rows() == [(3, 36)]
    assert half["pretrain_steps"].max() < full["pretrain_steps"].min()  # same epochs, fewer steps
    for row in table.iter_rows(named=True):
        same_seed = full.filter(pl.col("seed") == row["seed"], pl.col("mode") == row["mode"])
        assert row["full_source_accuracy"] == same_seed["downstream_accuracy"].item()
    # At a third, label and feature mapping keep the same two classes: one run instead of two, for each seed and mode.
    assert len(kept_runs()) == len(table) - 2 * 2
    third = table.filter(pl.col("keep_fraction") < 0.4, pl.col("method") != "random", pl.col("keep_fraction") > 0)
    third = third.sort("seed", "mode", "method").filter(pl.col("method").is_in(["label_mapping", "feature_mapping"]))
    assert third["downstream_accuracy"].to_list()[::2] == third["downstream_accuracy"].to_list()[1::2]
    assert not list(Path("data/store/proof").rglob("*.pt"))


def test_a_new_fraction_costs_only_itself_and_the_store_may_be_lost(settings: Callable[..., params.Params]) -> None:
    small = {"methods": ["label_mapping"], "seeds": 1}
    main(settings(**small))
    first, before, savings = tables.load("pruning_outcomes"), kept_runs(), tables.load("pruning_savings")
    main(settings(**small, fractions=[1 / 3, 0.5, 5 / 6]))
    after = kept_runs()
    assert len(after) == len(before) + 2  # modes
    assert {key: after[key] for key in before} == before
    for path in Path("data/store/proof").glob("*/outcome.json"):
        path.unlink()
    main(settings(**small))
    assert tables.load("pruning_outcomes").equals(first)
    assert tables.load("pruning_savings").equals(savings)


def test_a_damaged_outcome_is_measured_again(
    settings: Callable[..., params.Params], capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"methods": ["label_mapping"], "seeds": 1}
    main(settings(**small))
    first, before = tables.load("pruning_outcomes"), kept_runs()
    cut, changed = sorted(Path("data/store/proof").glob("*/outcome.json"))[:2]
    cut.write_bytes(cut.read_bytes()[:30])
    changed.write_bytes(changed.read_bytes().replace(b'"n_images": ', b'"n_images": 1'))
    capsys.readouterr()
    main(settings(**small))
    said = capsys.readouterr().err
    assert {path for path in (cut, changed) if f"{path}: is damaged" in said} == {cut, changed}
    assert 1 <= said.count("prune_proof stripes -> patches") <= 2  # the two may be modes of one run
    assert tables.load("pruning_outcomes").equals(first)
    assert kept_runs().keys() == before.keys()


def test_a_killed_run_goes_on_where_it_was(settings: Callable[..., params.Params], run_stage: Callable[..., Any]) -> None:
    settings(methods=["label_mapping"], seeds=2)
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.prune_proof"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while len(kept_runs()) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = kept_runs()
    assert 2 <= len(finished) < 16
    assert not tables.result_path("pruning_outcomes").exists()
    again = run_stage("prune_proof")
    assert again.returncode == 0, again.stderr
    after = kept_runs()
    assert {key: after[key] for key in finished} == finished
    assert len(after) == 16
    resumed = tables.result_path("pruning_outcomes").read_bytes()
    for path in Path("data/store/proof").glob("*/outcome.json"):
        path.unlink()
    assert run_stage("prune_proof").returncode == 0
    assert tables.result_path("pruning_outcomes").read_bytes() == resumed
    timings = [json.loads(line) for line in Path("data/timings/prune_proof_runs.jsonl").read_text().splitlines()]
    assert {line["method"] for line in timings} == {"full", "none", "label_mapping"}


def test_every_repetition_sees_its_own_random_draw_and_deterministic_methods_the_same(
    settings: Callable[..., params.Params],
) -> None:
    chosen = settings()
    bench = Bench(chosen, chosen.prune.pairs[0])
    runs = list(plan(chosen, bench.pair, tuple(bench.source_rows["id"])))
    kept = {(run.method, run.seed): {name[0] for name in run.ids} for run in runs if run.keep_fraction == 0.5}
    assert kept["random", 0] == {"5", "3", "1"}
    assert kept["random", 1] == {"1", "3", "0"}
    assert kept["label_mapping", 0] == kept["label_mapping", 1] == {"0", "2", "4"}
    assert len({bench.key(run) for run in runs if run.method == "label_mapping"}) == 4  # two fractions, two seeds
    assert [len(run.ids) for run in runs if run.method == "full"] == [72, 72]


def test_accuracy_is_that_of_a_linear_head_on_the_test_images(settings: Callable[..., params.Params]) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    chosen = settings(methods=["label_mapping"], seeds=1)
    bench = Bench(chosen, chosen.prune.pairs[0])
    run = next(run for run in plan(chosen, bench.pair, ()) if run.method == "none")
    model, facts = bench.pretrain(run, Path("unused"))
    assert facts == {"n_classes": 0, "n_images": 0, "pretrain_steps": 0}
    found = bench.adapt(model, run, "linear", Path("unused"))
    model = encoders.build("test_byobnet", {"in_chans": 1}, num_classes=0, seed=bench.seed_of(run)).eval()
    train, test = (bench.target.rows.filter(pl.col("split") == split) for split in ("train", "test"))
    assert (len(train), len(test)) == (27, 18)
    assert train.filter(pl.col("id").is_in(bench.target_ids[0]))["class_index"].n_unique() == N_TARGET
    assert len(bench.target_ids[0]) == 20
    (pixels, labels), (test_pixels, truth) = bench.target_train, bench.target_test
    seen = train["id"].is_in(bench.target_ids[0]).to_torch()
    train_x, test_x = (model(bench.preprocess.normalise(images)).detach().numpy() for images in (pixels[seen], test_pixels))
    head = make_pipeline(MinMaxScaler(), LogisticRegression(C=1.0, tol=1e-6, max_iter=5000)).fit(train_x, labels[seen])
    assert found == pytest.approx(head.score(test_x, truth), abs=1 / len(truth))


def test_fine_tuning_is_that_of_stage_finetune_and_leaves_the_encoder_alone(settings: Callable[..., params.Params]) -> None:
    chosen = settings(methods=["label_mapping"], seeds=1)
    bench = Bench(chosen, chosen.prune.pairs[0])
    run = next(run for run in plan(chosen, bench.pair, tuple(bench.source_rows["id"])) if run.method == "full")
    model, facts = bench.pretrain(run, Path("data/store/pretrain"))
    assert facts == {"n_classes": 6, "n_images": 72, "pretrain_steps": 2 * 5}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = bench.adapt(model, run, "full", Path("data/store/tune"))
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())

    # The same by stage finetune: the encoder's weights as an artifact, its seed in place of finetune's own.
    weights.write("tuned", model.state_dict(), dataclasses.replace(bench.card, sha256=""))
    other = finetune.Bench(chosen, "tuned", bench.target)
    other._seed = lambda _seed: bench.seed_of(run)  # type: ignore[method-assign]
    assert other.ids[0] == bench.target_ids[0]
    assert other._full(0, Path("data/store/again")).accuracy == found


def test_what_is_kept_for_several_targets_is_proved_on_each(settings: Callable[..., params.Params]) -> None:
    chosen = settings(seeds=1, methods=["label_mapping", "random"], fractions=[1 / 3, 0.5])
    write_pruning("label_mapping", [[5, 4, 3, 2, 1, 0]], [1 / 3, 0.5], target="both")
    plain = chosen.prune.pairs[0].model_dump()
    both = {"source": "stripes", "targets": ["patches", "stripes"]}
    told = chosen.prune.model_dump() | {"pairs": [plain, {**plain, "target": "stripes"}], "combine": {"both": both}}
    combined = params.Params.model_validate({**chosen.model_dump(), "prune": told})
    runs = list(plan(combined, combined.prune.pairs[0], ()))
    assert [run.method for run in runs[2:]] == [
        name for name in ("label_mapping", "random", "label_mapping for both") for _ in range(2)
    ]
    assert {name[0] for name in runs[-2].ids} == {"5", "4"}


def test_kept_images_need_not_be_whole_classes(settings: Callable[..., params.Params]) -> None:
    """A method that chooses single images: half of the images of four classes, one image of a fifth."""
    chosen = settings(methods=["label_mapping"], seeds=1)
    bench = Bench(chosen, chosen.prune.pairs[0])
    kept = (*(row for row in bench.source_rows["id"] if row[0] in "0123" and int(row[2:]) % 2), "5-00")
    run = Run("of_samples", 0.5, 0, kept)
    model, facts = bench.pretrain(run, Path("data/store/pretrain"))
    assert facts["n_classes"] == 5
    assert facts["n_images"] == len(kept) == 4 * 6 + 1
    assert model.get_classifier().out_features == 5  # type: ignore[operator]
    assert 0 <= bench.adapt(model, run, "linear", Path("unused")) <= 1
    with pytest.raises(InputProblem, match="two images or more, not 1"):
        bench.pretrain(Run("of_samples", 0.1, 0, ("5-00",)), Path("data/store/one"))


@pytest.mark.parametrize("objective", ["supervised", "simclr", "adversarial"])
def test_every_objective_is_proved_by_its_own_pre_training(settings: Callable[..., params.Params], objective: str) -> None:
    chosen = settings(methods=["label_mapping"], seeds=1, modes=["linear"])
    supervised = Bench(chosen, chosen.prune.pairs[0])
    mine = {"arch": "test_byobnet", "arch_args": {"in_chans": 1}, "weights": {"pretrain": "stripes", "objective": objective}}
    told = params.Params.model_validate({**chosen.model_dump(), "encoders": {"tiny": mine}})
    bench = Bench(told, told.prune.pairs[0])
    run = next(run for run in plan(chosen, bench.pair, tuple(bench.source_rows["id"])) if run.keep_fraction == 0.5)
    assert (bench.key(run) == supervised.key(run)) == (objective == "supervised")
    model, facts = bench.pretrain(run, Path("data/store/pretrain"))
    assert facts == {"n_classes": 3, "n_images": 36, "pretrain_steps": 2 * 3}
    assert getattr(model, "num_classes", None) == (0 if objective == "simclr" else 3)
    assert 0 <= bench.adapt(model, run, "linear", Path("unused")) <= 1
    assert 0 <= bench.adapt(model, run, "full", Path("data/store/tune")) <= 1


def test_the_proof_may_have_fewer_epochs_than_the_surrogate(settings: Callable[..., params.Params]) -> None:
    chosen = settings(methods=["label_mapping"], seeds=1, epochs=1)
    bench, whole = (Bench(told, told.prune.pairs[0]) for told in (chosen, settings(methods=["label_mapping"], seeds=1)))
    run = Run("full", 1.0, 0, tuple(bench.source_rows["id"]))
    assert bench.pretrain(run, Path("data/store/pretrain"))[1]["pretrain_steps"] == 5  # of 16 images
    assert bench.key(run) != whole.key(run)
    assert whole.recipe.epochs == chosen.pretrain.epochs == 2


def test_another_encoder_than_the_surrogate_may_be_proved(settings: Callable[..., params.Params]) -> None:
    chosen = settings(methods=["label_mapping"], seeds=1, modes=["linear"])
    pair = {**chosen.prune.pairs[0].model_dump(), "encoder": "other"}
    other = {"arch": "test_resnet", "arch_args": {"in_chans": 1}, "weights": "random"}
    told = params.Params.model_validate(
        {**chosen.model_dump(), "encoders": {**chosen.model_dump()["encoders"], "other": other}, "prune": {"pairs": [pair]}}
    )
    card = weights.read_card("tiny")
    model = encoders.build("test_resnet", {"in_chans": 1}, num_classes=0, seed=0)
    weights.write("other", model.state_dict(), dataclasses.replace(card, arch="test_resnet", num_classes=0, classes=[]))
    bench = Bench(told, told.prune.pairs[0])
    proved, _ = bench.pretrain(Run("full", 1.0, 0, tuple(bench.source_rows["id"])), Path("data/store/pretrain"))
    assert type(proved) is type(model)
    with pytest.raises(ValidationError, match=r"encoder: there is no 'othr'"):
        params.Params.model_validate({**chosen.model_dump(), "prune": {"pairs": [{**pair, "encoder": "othr"}]}})


def test_one_class_of_the_target_is_an_answer(settings: Callable[..., params.Params]) -> None:
    settings()
    shutil.rmtree(dataset_path("patches"))
    write_dataset("patches", 1, 15, seed=1)
    with pytest.raises(InputProblem, match="of one class"):
        main(settings(methods=["label_mapping"], seeds=1))


def test_no_pairs_make_an_empty_table(settings: Callable[..., params.Params]) -> None:
    main(settings(pairs=[]))
    assert tables.load("pruning_outcomes").is_empty()
    assert tables.load("pruning_savings").is_empty()
