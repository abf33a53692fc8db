"""The whole graph on a small scale, as DVC runs it: every stage, its outputs, the no-op, a removed encoder, the page."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml

from stages.artifacts import tables

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow

GLYPHS = {"kind": "glyphs", "scripts": ["latin"], "classes": 8, "images_per_class": 30, "size": 16}
NET = {"arch": "test_byobnet", "arch_args": {"in_chans": 1}, "input_size": 32, "layers": ["pooled", "stages.1"]}
DEFAULT = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
SMALL = {
    **DEFAULT,
    "datasets": {
        "packaged": {"glyphs": GLYPHS, "hebrew": {**GLYPHS, "scripts": ["hebrew"], "classes": 6}},
        "files": {},
    },
    "targets": ["hebrew"],
    "encoders": {"trained": {**NET, "weights": {"pretrain": "glyphs"}}, "untrained": {**NET, "weights": "random"}},
    "pretrain": {"epochs": 1},
    "finetune": {"seeds": 1, "epochs": 1, "max_train": 60},
    "rank": {**DEFAULT["rank"], "metrics": ["tmi", "logme", "leep"]},
    "prune": {
        **DEFAULT["prune"],
        "pairs": [{"source": "glyphs", "target": "hebrew", "surrogate": "trained"}],
        "methods": ["label_mapping", "random"], "fractions": [0.25, 0.5], "seeds": 1, "epochs": 1,
    },
    "probe": {**DEFAULT["probe"], "seeds": 2, "sizes": [20, 40, 80]},
    "simulation": {**DEFAULT["simulation"], "classes": [2], "dims": [10, 20, 40], "seeds": 2},
    "languages": {
        **DEFAULT["languages"],
        "tasks": ["entity_type"], "languages": ["en", "es", "pt", "fr", "it", "ru"], "shots": [0, 30], "seeds": 2, "goal": 0.5,
    },
    "recommend": {"metric": "logme", "labels_at_hand": 50},
    "profiles": {},
}  # fmt: skip


def dvc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}  # as most machines are
    environment = {**inherited, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(folder)}
    return subprocess.run(["dvc", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def files(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file of the project but those of DVC, the store, the timings and Python's own."""
    skipped = re.compile(r"^(\.dvc/|data/store/|data/timings/)|__pycache__|\.egg-info")
    paths = [path for path in folder.rglob("*") if path.is_file()]
    named = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in named.items() if not skipped.search(name)}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with the repository's code and graph and small params, run once."""
    folder = tmp_path_factory.mktemp("small")
    for name in ("stages", "dvc.yaml", "requirements.lock", ".dvcignore"):
        source = ROOT / name
        copied = shutil.copytree if source.is_dir() else shutil.copy
        copied(source, folder / name)
    for name in ("weights", "accuracies", "languages"):
        (folder / "data" / "raw" / name).mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(SMALL, sort_keys=False), encoding="utf-8")
    assert dvc(folder, "init", "--no-scm", "-q").returncode == 0
    listed = dvc(folder, "stage", "list", "--name-only").stdout.split()  # in the order of dvc.yaml: what comes before is ready
    written, before = {}, files(folder)
    for stage in listed:
        done = dvc(folder, "repro", "--single-item", stage)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        after = files(folder)
        written[stage] = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
        before = after
    (folder / "written.json").write_text(json.dumps(written), encoding="utf-8")
    return folder


def test_every_table_is_made_and_sorted(small: Path) -> None:
    for name, schema in tables.SCHEMAS.items():
        frame = pl.read_parquet(small / "data" / "results" / f"{name}.parquet")
        assert len(frame), name
        assert frame.equals(frame.sort(list(schema.keys))), name


def test_a_stage_writes_its_declared_outputs_alone(small: Path) -> None:
    lock = yaml.safe_load((small / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    written = json.loads((small / "written.json").read_text(encoding="utf-8"))
    assert set(written) == set(lock)
    for stage, names in written.items():
        declared = [entry["path"] for entry in lock[stage]["outs"]]
        stray = [name for name in names if not any(name == path or name.startswith(f"{path}/") for path in declared)]
        assert stray == ["dvc.lock"], stage


def test_running_again_runs_nothing(small: Path) -> None:
    before = files(small)
    again = dvc(small, "repro")
    assert again.returncode == 0
    assert "Running stage" not in again.stdout
    assert "up to date" in again.stdout
    assert files(small) == before


@pytest.mark.parametrize("command", [["status"], ["dag"], ["metrics", "show"], ["plots", "show"]])
def test_dvc_commands_work(small: Path, command: list[str]) -> None:
    done = dvc(small, *command)
    assert done.returncode == 0, done.stderr
    if command == ["metrics", "show"]:
        assert "best_accuracy.hebrew" in done.stdout


def test_the_page_needs_no_network(small: Path) -> None:
    page = (small / "data" / "reports" / "index.html").read_text(encoding="utf-8")
    without_scripts = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", without_scripts)
    charts = json.loads(re.search(r'id="charts">(.*?)</script>', page, flags=re.DOTALL)[1].replace("<\\/", "</"))  # type: ignore[index]
    assert set(re.findall(r'<figure id="([^"]+)"', page)) == set(charts)
    for name in ("rank", "extract", "prune", "probe", "languages"):
        assert f'<section id="{name}">' in page


def test_a_removed_encoder_leaves_every_table(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fewer"
    shutil.copytree(small, folder, symlinks=True)
    fewer = {**SMALL, "encoders": {"trained": SMALL["encoders"]["trained"]}}  # type: ignore[index]
    (folder / "params.yaml").write_text(yaml.safe_dump(fewer, sort_keys=False), encoding="utf-8")
    done = dvc(folder, "repro")
    assert done.returncode == 0, done.stderr[-3000:]
    for stage in ("weights@trained", "extract@trained", "finetune@trained"):  # nothing of what stays is computed again
        assert f"Running stage '{stage}'" not in done.stdout
    for name in tables.SCHEMAS:
        frame = pl.read_parquet(folder / "data" / "results" / f"{name}.parquet")
        if "encoder" in frame.columns:
            assert set(frame["encoder"]) == {"trained"}, name


def test_a_mistake_stops_before_anything_runs(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "wrong"
    shutil.copytree(small, folder, symlinks=True)
    wrong = {**SMALL, "encoders": {"trained": {**NET, "weights": {"pretrain": "glyphs"}, "layers": ["pooled", "stages.9"]}}}
    (folder / "params.yaml").write_text(yaml.safe_dump(wrong, sort_keys=False), encoding="utf-8")
    done = dvc(folder, "repro")
    assert done.returncode != 0
    assert "stages.9" in done.stderr
    assert "exited with 2" in done.stderr
    assert done.stdout.count("Running stage") == 1


def test_a_section_left_out_is_named(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "without"
    shutil.copytree(small, folder, symlinks=True)
    without = {name: section for name, section in SMALL.items() if name != "ingest"}
    (folder / "params.yaml").write_text(yaml.safe_dump(without, sort_keys=False), encoding="utf-8")
    done = dvc(folder, "repro", "check")
    assert done.returncode != 0
    assert "ingest is left out" in done.stderr
