"""Damage is found where DVC does not look, and the command that mends it does mend it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
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
    "folder": {"cmd": "mkdir out && cp file.txt out/a && echo b > out/b", "deps": ["file.txt"], "outs": ["out"]},
}
CARD = weights.Card("arch", {}, 0, (1, 8, 8), (0.0,), (1.0,), "bilinear", 1.0, "random", "0", "", [], {})


def flip(path: Path) -> None:
    """Change one byte of a file in place, size and time kept."""
    facts = path.stat()
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    path.chmod(facts.st_mode)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def truncate(path: Path) -> None:
    """Cut a file in half."""
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size // 2)


def lose(path: Path) -> None:
    """Delete the object in DVC's cache that holds what a file holds."""
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    (next(folder for folder in path.parents if folder.name == "toy") / verify.CACHE / md5[:2] / md5[2:]).unlink()


@pytest.mark.parametrize(
    ("damaged", "damage"), [("file.txt", flip), ("out/b", flip), ("out/b", truncate), ("file.txt", lose), ("out/b", lose)]
)
def test_damage_that_dvc_does_not_see_is_found_and_mended(
    make_toy: MakeToy, damaged: str, damage: Callable[[Path], None]
) -> None:
    toy = make_toy("toy", STAGES)
    toy.dvc("config", "cache.type", "hardlink")
    assert toy.dvc("repro").returncode == 0
    good = {name: (toy.path / name).read_bytes() for name in ("file.txt", "out/a", "out/b")}
    assert toy.transferscope("verify").stdout == "4 checked, none damaged\n"

    damage(toy.path / damaged)  # the workspace and the cache are one file
    found = toy.transferscope("verify")
    assert found.returncode == 1
    assert damaged.split("/")[0] in found.stderr
    assert "Traceback" not in found.stderr

    mend = found.stderr.splitlines()[-1].removeprefix("Next: ")
    environment = toy.environment | {"PATH": f"{Path(sys.executable).parent}:{toy.environment['PATH']}"}
    done = subprocess.run(mend, shell=True, cwd=toy.path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {name: (toy.path / name).read_bytes() for name in good} == good
    assert toy.transferscope("verify").returncode == 0
    assert "up to date" in toy.dvc("status").stdout


def test_each_kind_of_artifact_is_hashed_again(project: Path) -> None:
    with atomic.new_folder(features_path("tiny", "digits")) as folder:
        np.save(folder / "pooled.npy", np.zeros((3, 2), dtype=np.float32))
        manifest.write(folder, kind="features", version=VERSION, inputs={}, layers={"pooled": "pooled.npy"})
    path = weights.weights_path("tiny")
    path.parent.mkdir(parents=True)
    save_file({"a": np.ones(3, dtype=np.float32)}, path)
    weights.card_path("tiny").write_text(json.dumps(asdict(CARD) | {"sha256": manifest.sha256(path)}))
    effect = {"task": "a", "term": "b", "beta_standardised": 0.5, "ci_low": None, "ci_high": None, "p_value": None, "vif": None}
    tables.write("language_effects", pl.DataFrame([effect]))
    table = tables.result_path("language_effects")
    outs = [
        {"path": "data/features/tiny", "md5": "0.dir"},
        {"path": table.as_posix(), "md5": hashlib.md5(table.read_bytes()).hexdigest()},
    ]
    (project / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"all": {"outs": outs}}}))
    assert verify.everything() == (4, [])

    flip(features_path("tiny", "digits") / "pooled.npy")
    flip(path)
    flip(table)
    number, damaged = verify.everything()
    assert number == 4
    assert [(damage.where, damage.remove) for damage in damaged] == [
        ("data/results/language_effects.parquet", ("data/results/language_effects.parquet",)),
        ("data/features/tiny/digits/pooled.npy", ("data/features/tiny",)),
        ("data/weights/tiny.safetensors", ("data/weights/tiny.safetensors", "data/weights/tiny.json")),
    ]

    card = weights.card_path("tiny")
    card.write_bytes(card.read_bytes()[:40])
    number, damaged = verify.everything()
    assert number == 4
    assert [damage.where for damage in damaged] == [
        "data/results/language_effects.parquet", "data/features/tiny/digits/pooled.npy", "data/weights/tiny.json",
    ]  # fmt: skip
    assert damaged[-1].remove == ("data/weights/tiny.safetensors", "data/weights/tiny.json")
