"""docs/tutorial.md is true: its commands, and no others, lead from a folder of images to a recommendation."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared" / "real" / "images" / "sign_digits"
PROJECT = (
    ".dvc", ".dvcignore", ".gitignore", "Makefile", "data/raw", "dvc.yaml", "params.yaml", "pipelines", "pyproject.toml",
    "requirements.in", "requirements.lock", "stages",
)  # fmt: skip
CLASSES, OF_CLASS, SIDE = 3, 20, 32

pytestmark = pytest.mark.slow


def commands() -> list[str]:
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A home folder with photographs of hand signs where the real inputs are, else with stripes of three widths."""
    home = tmp_path / "home"
    generator = np.random.default_rng(0)
    for label in range(CLASSES):
        folder = home / "photos" / f"sign {label}"
        folder.mkdir(parents=True)
        if REAL.is_dir():
            for path in sorted((REAL / "train" / str(label)).iterdir())[:OF_CLASS]:
                shutil.copy(path, folder)
        else:
            stripes = 127 + 100 * np.sign(np.sin(np.arange(SIDE) * (label + 1) / 2))
            for number in range(OF_CLASS):
                pixels = stripes + generator.normal(0, 20, (SIDE, SIDE))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return home


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A fresh copy of the project whose environment is installed already, with grids that take seconds."""
    folder = tmp_path / "project"
    for name in PROJECT:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "cache", "tmp"))
        else:
            shutil.copy(source, target)
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (folder / ".venv" / "installed").touch()
    text = (folder / "params.yaml").read_text(encoding="utf-8")
    for was, small in (
        ("seeds: 2, epochs: 10,", "seeds: 1, epochs: 1,"),
        ("seeds: 5, epsilon", "seeds: 2, epsilon"),
        ("[100, 200, 400]", "[10, 20]"),
    ):
        assert was in text
        text = text.replace(was, small)
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    model = timm.create_model("test_resnet", num_classes=4)
    torch.nn.init.constant_(model.get_parameter("fc.bias"), 0.5)
    save_file(model.state_dict(), folder / "data" / "raw" / "weights" / "mine.safetensors")
    return folder


def test_five_commands_lead_to_a_recommendation(copied: Path, photos: Path) -> None:
    lines = commands()
    assert len(lines) == 5
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "DVC_"))}
    environment = inherited | {"HOME": str(photos), "PYTHONPATH": str(copied), "COLUMNS": "100", "DVC_NO_ANALYTICS": "1"}
    before = yaml.safe_load((copied / "params.yaml").read_text(encoding="utf-8"))
    script = "\n".join(["set -e", *lines])
    done = subprocess.run(["bash", "-c", script], cwd=copied, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    assert f"photos: {CLASSES * OF_CLASS} images in {CLASSES} classes" in done.stdout
    answers = pl.read_parquet(copied / "data" / "results" / "recommendations.parquet")
    assert set(answers["target"]) == {"photos"}
    (encoder,) = answers.filter(pl.col("question") == "which encoder and layer")["answer"]
    assert encoder.partition(",")[0] in {"test_resnet", "test_vit"}
    assert encoder in " ".join(done.stdout.split())
    assert done.stdout.splitlines()[-1] == "data/reports/index.html"
    assert (copied / "data" / "reports" / "index.html").is_file()
    kept = yaml.safe_load((copied / "data" / "params.yaml.before").read_text(encoding="utf-8"))
    assert kept == before
