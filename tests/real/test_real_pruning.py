"""What would be kept: Omniglot's alphabets for handwritten digits, and ImageNet's and iNaturalist's classes for hand signs."""

from __future__ import annotations

import io
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageFilter, ImageOps
from scipy import stats

from stages.artifacts import tables
from stages.artifacts.features import FeatureSet
from stages.artifacts.pruning import Pruning
from stages.prune import keep, label_mapping

Run = Callable[..., subprocess.CompletedProcess[str]]
METHODS = ["label_mapping", "feature_mapping", "feature_mapping_clusters", "moderate", "near_duplicates_in_clusters"]


def unpack(archive: Path, folder: Path) -> None:
    """Write the drawn characters as the digits are, light on dark, cut out and 8 x 8, in one folder a character.

    As they come, thin dark strokes in a wide frame, a surrogate trained on them takes every digit for one and the same class.
    """
    with zipfile.ZipFile(archive) as content:
        for name in content.namelist():
            if name.endswith(".png"):
                _, alphabet, character, file = name.split("/")
                target = folder / f"{alphabet}-{character[-2:]}" / file
                target.parent.mkdir(parents=True, exist_ok=True)
                strokes = ImageOps.invert(Image.open(io.BytesIO(content.read(name))).convert("L"))
                thick = strokes.crop(strokes.getbbox()).filter(ImageFilter.MaxFilter(5))
                thick.resize((8, 8), Image.Resampling.BOX).save(target)


@pytest.mark.real
def test_alphabets_are_chosen_for_digits(
    real_inputs: Path, project: Path, write_params: Callable[..., Path], run_stage: Run
) -> None:
    unpack(real_inputs / "images" / "omniglot_images_background_small1.zip", project / "data" / "raw" / "omniglot")
    write_params(
        datasets={
            "files": {"omniglot": {"kind": "imagefolder", "path": "data/raw/omniglot"}},
            "packaged": {"digits": {"kind": "sklearn", "name": "digits"}},
        },
        encoders={
            "tiny": {
                "arch": "test_byobnet", "arch_args": {"in_chans": 1}, "weights": {"pretrain": "omniglot"}, "input_size": 32,
            }
        },
        pretrain={"epochs": 12, "batch_size": 64},
        run={"device": "cpu", "threads": 1},
        prune={
            "pairs": [{"source": "omniglot", "target": "digits", "surrogate": "tiny"}],
            "methods": METHODS, "clusters": [20, 136], "fractions": [0.2, 0.5], "seeds": 1,
        },
    )  # fmt: skip
    for stage in (
        ("ingest", "--dataset", "omniglot"), ("ingest", "--dataset", "digits"), ("sources",),
        ("weights", "--encoder", "tiny"), ("extract", "--encoder", "tiny"), ("prune",),
    ):  # fmt: skip
        done = run_stage(*stage)
        assert done.returncode == 0, done.stderr

    n_digits = len(FeatureSet.open("tiny", "digits").where("train"))
    scores = tables.load("pruning_scores").filter(pl.col("level") == "class")
    by_method = {
        method: scores.filter(pl.col("method") == method).sort("group") for method in ("label_mapping", "feature_mapping")
    }
    alphabets = pl.col("group").str.split("-").list.first()
    for method, votes in by_method.items():
        assert (len(votes), votes["score"].sum()) == (136, n_digits)
        print(method, votes.sort("rank").head(10).select("group", "score").rows())
        print(votes.group_by(alphabets).agg(pl.col("score").sum(), kept=(pl.col("rank") <= 27).sum(), n=pl.len()).sort("group"))
        assert (votes["score"] == 0).mean() > 0.2  # many classes resemble no digit at all
    agreement = stats.spearmanr(*(votes["score"].to_numpy() for votes in by_method.values())).statistic
    print("agreement of label and feature mapping", agreement)
    assert agreement > 0.3
    kept = Pruning.open("omniglot", "digits", "near_duplicates_in_clusters_20", verify=True)
    print(kept.scores.tail(5).select("group", "score", "reason").rows())


@pytest.mark.real
def test_classes_of_public_encoders_are_chosen_for_hand_signs(
    real_inputs: Path, project: Path, write_params: Callable[..., Path], run_stage: Run
) -> None:
    files = {
        "imagenet": "mobilenetv2_100.coral_qat_in1k.safetensors",
        "birds": "mobilenetv2_100.coral_qat_inat_birds.safetensors",
    }
    chosen = {}
    for name, file in files.items():
        link = project / "data" / "raw" / "weights" / file
        link.symlink_to(real_inputs / "weights" / file)
        chosen[name] = {
            "arch": "mobilenetv2_100", "arch_args": {"pad_type": "same"}, "weights": {"file": str(link.relative_to(project))},
            "input_size": 128, "mean": 0.5, "std": 0.5,
        }  # fmt: skip
    write_params(
        datasets={"files": {"signs": {"kind": "imagefolder", "path": str(real_inputs / "images" / "sign_digits")}}},
        targets=["signs"], encoders=chosen, run={"threads": 1},
    )  # fmt: skip
    stages = [("ingest", "--dataset", "signs"), *((s, "--encoder", name) for name in files for s in ("weights", "extract"))]
    for stage in stages:
        done = run_stage(*stage)
        assert done.returncode == 0, done.stderr

    from timm.data import ImageNetInfo

    birds = (real_inputs / "weights" / "inat_bird_labels.txt").read_text(encoding="utf-8").splitlines()
    for name, names in (("imagenet", [ImageNetInfo().index_to_description(index) for index in range(1000)]), ("birds", birds)):
        features = FeatureSet.open(name, "signs")
        probabilities = features.probabilities("train")
        assert probabilities is not None
        votes = label_mapping(probabilities, probabilities.shape[1])
        order = keep(votes, 1.0)
        print(name, [(names[group], int(votes.scores[group])) for group in order[:12]], int((votes.scores > 0).sum()))
        assert votes.scores.sum() == len(features.where("train"))
        half = np.searchsorted(np.cumsum(votes.scores[order]), votes.scores.sum() / 2) + 1
        print(name, "classes that hold half of the votes:", half)
        assert half < 0.05 * len(names)  # photographs of hands look like few of a thousand things
