"""What an encoder's weights are made of: one small file each, the same until its own source changes."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from stages import ingest, params, sources
from stages.artifacts.dataset import Dataset

RunStage = Callable[..., subprocess.CompletedProcess[str]]


def encoder(weights: object) -> dict[str, object]:
    return {"arch": "test_byobnet", "weights": weights, "layers": ["pooled"]}


def test_each_origin_has_its_key(project: Path, write_params: Callable[..., Path], run_stage: RunStage) -> None:
    (project / "data" / "raw" / "weights" / "mine.safetensors").write_bytes(b"some weights")
    write_params(
        encoders={
            "trained": encoder({"pretrain": "digits"}), "own": encoder({"file": "data/raw/weights/mine.safetensors"}),
            "fetched": encoder("hub"), "blank": encoder("random"),
        }
    )  # fmt: skip
    ingest.main(params.load(), "digits")
    done = run_stage("sources")
    assert done.returncode == 0, done.stderr
    found = {path.name: path.read_text() for path in (project / "data" / "sources").iterdir()}
    assert found.keys() == {"trained.json", "own.json", "fetched.json", "blank.json"}
    assert json.loads(found["trained.json"]) == {"dataset": "digits", "identity": Dataset.open("digits").identity}
    assert json.loads(found["own.json"]) == {"sha256": hashlib.sha256(b"some weights").hexdigest()}
    assert found["fetched.json"] == found["blank.json"] == "{}\n"


def test_a_removed_encoder_leaves_no_file(project: Path, write_params: Callable[..., Path]) -> None:
    write_params(encoders={"one": encoder("random"), "two": encoder("random")})
    sources.main(params.load(), "")
    write_params(encoders={"two": encoder("random")})
    sources.main(params.load(), "")
    assert [path.name for path in (project / "data" / "sources").iterdir()] == ["two.json"]


def test_only_the_source_that_changed_changes(project: Path, write_params: Callable[..., Path]) -> None:
    files = [project / "data" / "raw" / "weights" / name for name in ("a.pth", "b.pth")]
    for path in files:
        path.write_bytes(path.name.encode())
    write_params(encoders={path.stem: encoder({"file": f"data/raw/weights/{path.name}"}) for path in files})
    sources.main(params.load(), "")
    before = {path.name: path.read_bytes() for path in (project / "data" / "sources").iterdir()}
    files[0].write_bytes(b"other")
    sources.main(params.load(), "")
    after = {path.name: path.read_bytes() for path in (project / "data" / "sources").iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"a.json"}


def test_a_missing_file_names_its_neighbours(project: Path, write_params: Callable[..., Path], run_stage: RunStage) -> None:
    (project / "data" / "raw" / "weights" / "mine.safetensors").write_bytes(b"")
    write_params(encoders={"own": encoder({"file": "data/raw/weights/mime.safetensors"})})
    done = run_stage("sources")
    assert done.returncode == 2
    assert "encoders.own.weights.file: data/raw/weights/mime.safetensors does not exist" in done.stderr
    assert "nearest valid: mine.safetensors" in done.stderr
    assert "Next: edit params.yaml, then `transferscope check`" in done.stderr


def test_a_file_outside_the_watched_folder_is_refused(
    project: Path, write_params: Callable[..., Path], run_stage: RunStage
) -> None:
    (project / "data" / "raw" / "mine.pth").write_bytes(b"")
    for path in ("data/raw/mine.pth", "data/raw/weights/../mine.pth", str(project / "data" / "raw" / "mine.pth")):
        write_params(encoders={"own": encoder({"file": path})})
        done = run_stage("sources")
        assert done.returncode == 2
        assert "is outside data/raw/weights, the folder that DVC watches" in done.stderr


def test_a_dataset_that_is_not_there_names_the_stage(write_params: Callable[..., Path], run_stage: RunStage) -> None:
    write_params(encoders={"trained": encoder({"pretrain": "digits"})})
    done = run_stage("sources")
    assert done.returncode == 2
    assert "Next: dvc repro" in done.stderr
    assert not Path("data/sources").exists()
