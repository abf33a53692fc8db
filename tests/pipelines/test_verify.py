"""Damage is found where DVC does not look, and the command that mends it does mend it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from pipelines import verify
from stages.artifacts import atomic, manifest, tables, weights
from stages.artifacts.features import VERSION, features_path

MakeToy = Callable[..., Any]
STAGES = {
    "file": {"cmd": "echo content > file.txt", "params": ["x"], "outs": ["file.txt"]},
    "folder": {
        "cmd": "mkdir -p data/out && cp file.txt data/out/a && echo b > data/out/b",
        "deps": ["file.txt"],
        "outs": ["data/out"],
    },
}


def flip(path: Path) -> None:
    """Change one byte of a file in place, size and time kept."""
    facts = path.stat()
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    path.chmod(facts.st_mode)
    import os

    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


@pytest.mark.parametrize("damaged", ["file.txt", "data/out/b"])
def test_a_flipped_byte_in_the_cache_is_found_and_mended(make_toy: MakeToy, damaged: str) -> None:
    toy = make_toy("toy", STAGES)
    toy.dvc("config", "cache.type", "hardlink")
    assert toy.dvc("repro").returncode == 0
    good = (toy.path / damaged).read_bytes()
    assert toy.transferscope("verify").stdout == "4 checked, none damaged\n"

    flip(toy.path / damaged)  # the workspace and the cache are one file
    assert "up to date" in toy.dvc("status").stdout, "DVC itself does not see it"
    found = toy.transferscope("verify")
    assert found.returncode == 1
    assert "1 of 4 are damaged" in found.stderr
    assert "Traceback" not in found.stderr

    mend = next(line for line in found.stderr.splitlines() if line.startswith("Mend: ")).removeprefix("Mend: ")
    path = f"{Path(__import__('sys').executable).parent}:{toy.environment['PATH']}"
    done = subprocess.run(
        mend, shell=True, cwd=toy.path, env=toy.environment | {"PATH": path}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert toy.transferscope("verify").returncode == 0
    assert (toy.path / damaged).read_bytes() == good


def test_each_kind_of_artifact_is_hashed_again(project: Path) -> None:
    (project / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  extract@tiny:\n    outs: [{path: data/features/tiny, md5: 0.dir}]\n"
        "  weights@tiny:\n    outs: [{path: data/weights/tiny.safetensors, md5: '1'}]\n"
    )
    with atomic.new_folder(features_path("tiny", "digits")) as folder:
        np.save(folder / "pooled.npy", np.zeros((3, 2), dtype=np.float32))
        manifest.write(folder, kind="features", version=VERSION, inputs={}, layers={"pooled": "pooled.npy"})
    path = weights.weights_path("tiny")
    path.parent.mkdir(parents=True)
    save_file({"a": np.ones(3, dtype=np.float32)}, path)
    card = weights.Card(
        "arch", {}, 0, (1, 8, 8), (0.0,), (1.0,), "bilinear", 1.0, "random", "0", manifest.sha256(path), [], {}
    )  # fmt: skip
    import json
    from dataclasses import asdict

    weights.card_path("tiny").write_text(json.dumps(asdict(card)))
    tables.write("language_effects", pl.DataFrame({
        "task": ["a"], "term": ["b"], "beta_standardised": [0.5], "ci_low": [None], "ci_high": [None], "p_value": [None], "vif": [None],
    }))  # fmt: skip
    assert verify.everything() == (3, [])

    flip(features_path("tiny", "digits") / "pooled.npy")
    flip(path)
    flip(tables.result_path("language_effects"))
    number, damaged = verify.everything()
    assert number == 3
    assert [(damage.where, damage.mend) for damage in damaged] == [
        ("data/features/tiny/digits/pooled.npy", "dvc repro --force --single-item extract@tiny"),
        ("data/weights/tiny.safetensors", "dvc repro --force --single-item weights@tiny"),
        ("data/results/language_effects.parquet", "dvc repro"),
    ]
