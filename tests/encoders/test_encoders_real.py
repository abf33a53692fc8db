"""The real pretrained encoders through the same doors: weights stage from a file, then features of real photographs."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from stages import extract, ingest, params, weights
from stages.artifacts.features import FeatureSet
from stages.artifacts.weights import read_card
from stages.encoders import Preprocess, load

pytestmark = pytest.mark.real
FILES = {
    "v1_100": "mobilenetv1_100.coral_qat_in1k",
    "v2_100": "mobilenetv2_100.coral_qat_in1k",
    "birds": "mobilenetv2_100.coral_qat_inat_birds",
}


@pytest.fixture
def photographs(project: Path, real_inputs: Path, write_params: Callable[..., Path]) -> params.Params:
    """Twelve photographs a class, and the three encoders at 128 pixels."""
    for folder in sorted((real_inputs / "images" / "sign_digits").glob("t*/*")):
        target = project / "data" / "raw" / "signs" / folder.parent.name / folder.name
        target.mkdir(parents=True)
        for image in sorted(folder.iterdir())[:6]:
            shutil.copy(image, target)
    encoders = {}
    for name, stem in FILES.items():
        shutil.copy(real_inputs / "weights" / f"{stem}.safetensors", project / "data" / "raw" / "weights")
        encoders[name] = {
            "arch": stem.partition(".")[0], "arch_args": {"pad_type": "same"}, "mean": 0.5, "std": 0.5, "input_size": 128,
            "weights": {"file": f"data/raw/weights/{stem}.safetensors"}, "layers": ["pooled", "blocks.3"],
        }  # fmt: skip
    signs = {"signs": {"kind": "imagefolder", "path": "data/raw/signs"}}
    write_params(datasets={"files": signs}, targets=["signs"], encoders=encoders)
    return params.load()


@pytest.mark.parametrize("name", FILES)
def test_real_weights_give_finite_features_and_probabilities(
    name: str, photographs: params.Params, real_inputs: Path, run_stage: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    checked = run_stage("check")
    assert checked.returncode == 0, checked.stderr
    ingest.main(photographs, "signs")
    weights.main(photographs, name)  # raises unless every key of the file matches
    extract.main(photographs, name)

    facts = json.loads((real_inputs / "weights" / f"{FILES[name]}.json").read_text())
    card = read_card(name)
    assert card.num_classes == len(card.classes) == (965 if name == "birds" else 1000)
    assert card.mean == card.std == (0.5, 0.5, 0.5)
    assert card.source == "file"
    assert facts

    found = FeatureSet.open(name, "signs", verify=True)
    pooled, middle = found.layer("pooled"), found.layer("blocks.3")
    assert pooled.shape == (120, 1024 if name == "v1_100" else 1280)
    assert middle.shape[0] == 120
    assert np.isfinite(pooled).all()
    assert np.isfinite(middle).all()
    assert pooled.std(axis=0).max() > 0.1
    probabilities = found.probabilities()
    assert probabilities is not None
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=5e-3)  # float16
    assert len(set(probabilities.argmax(axis=1))) > 1


def test_a_real_encoder_is_used_at_its_own_resolution_by_default(photographs: params.Params) -> None:
    whole = photographs.encoders["v1_100"].model_copy(update={"input_size": None})
    settings = photographs.model_copy(update={"encoders": {"v1_100": whole}})
    weights.main(settings, "v1_100")
    model, card = load("v1_100")
    assert card.input_size == (3, 224, 224)
    assert Preprocess.of(card).channels == 3
    assert not model.training
    ingest.main(settings, "signs")
    extract.main(settings, "v1_100")
    found = FeatureSet.open("v1_100", "signs", verify=True)
    transform = create_transform(
        (3, 224, 224), interpolation=card.interpolation, crop_pct=card.crop_pct, mean=(0.5,) * 3, std=(0.5,) * 3
    )
    for row in (0, 57, 119):
        image = Image.open(Path("data/raw/signs") / found.index["id"][row]).convert("RGB")
        with torch.inference_mode():
            expected = model.forward_head(model.forward_features(transform(image)[None]), pre_logits=True)[0].numpy()
        np.testing.assert_allclose(found.layer("pooled")[row], expected, rtol=1e-3, atol=1e-4)
