"""Fixtures: a project folder of its own for every test that touches disk, and the real inputs where they are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared" / "real"


@pytest.fixture
def real_inputs() -> Path:
    """The folder of real photographs, weights and language results."""
    if not REAL.is_dir():
        pytest.skip(f"the real inputs are not at {REAL}")
    return REAL


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder as working directory: entries and artifacts read and write below it."""
    (tmp_path / "data" / "raw" / "weights").mkdir(parents=True)
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write_params(project: Path) -> Callable[..., Path]:
    """Write params.yaml into the project folder: a valid minimum, with whole sections replaced by keyword."""

    def write(**sections: object) -> Path:
        content: dict[str, object] = {
            "datasets": {"packaged": {"digits": {"kind": "sklearn", "name": "digits"}}},
            "targets": ["digits"],
            "encoders": {
                "tiny": {
                    "arch": "test_byobnet",
                    "arch_args": {"in_chans": 1},
                    "weights": "random",
                    "input_size": 32,
                    "layers": ["pooled"],
                }
            },
            "rank": {"metrics": ["logme"]},
            "languages": {"tasks": ["entity_type"], "languages": ["en", "es", "pt"]},
        }
        path = project / "params.yaml"
        path.write_text(yaml.safe_dump({**content, **sections}, sort_keys=False), encoding="utf-8")
        return path

    return write


@pytest.fixture
def run_stage(project: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a stage entry as DVC does, as a process in the project folder: run_stage("ingest", "--dataset", "digits")."""

    def run(stage: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, "-m", f"stages.{stage}", *arguments],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run
