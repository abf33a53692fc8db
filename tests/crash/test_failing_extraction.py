"""What fails inside an extraction: memory, disk and files; each ends in a message and a state from which a rerun goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from stages import extract, extraction, ingest, params, weights
from stages.artifacts import manifest
from stages.artifacts.features import FeatureSet
from stages.errors import InputProblem

ROOT = Path(__file__).resolve().parents[2]
SHARD_IMAGES = 128
TOTAL = 1797
ENCODER = {"arch": "test_byobnet", "arch_args": {"in_chans": 1}, "weights": "random", "input_size": 16, "layers": ["pooled"]}

# Full memory is the kernel's own refusal: the process may not map more than it has mapped after a small pass.
SMALL_MEMORY = """
import resource
from dataclasses import replace
import psutil, torch
torch.set_num_threads(1)
from stages import extraction
from stages.encoders import Preprocess, Tapped, build, data_config
from stages.params import Encoder

entry = Encoder(arch="test_byobnet", weights="random", input_size=96)
model = build(entry.arch, {}, num_classes=0, seed=0)
job = extraction.Job(
    Tapped(model, ["pooled"]), Preprocess.of(data_config(entry, model)), torch.device("cpu"), "auto", 1024, 1024, "float32", 0,
    10**6, keep_probabilities=False, label="it",
)
batch = torch.randint(0, 256, (1024, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
(free,) = extraction.run_encoder(job, [batch])
list(extraction.run_encoder(replace(job, batch_size=8), [batch[:8]]))
_, hard = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 150 * 2**20, hard))
narrow = list(extraction.run_encoder(job, [batch, batch[:600]]))
torch.testing.assert_close(torch.from_numpy(narrow[0]["pooled"]), torch.from_numpy(free["pooled"]), rtol=1e-4, atol=1e-5)
torch.testing.assert_close(torch.from_numpy(narrow[1]["pooled"]), torch.from_numpy(free["pooled"][:600]), rtol=1e-4, atol=1e-5)
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits on address space are Linux's own")
def test_a_batch_that_does_not_fit_is_halved() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SMALL_MEMORY], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("it: out of memory, going on with ")]
    sizes = [int(line.split()[7]) for line in said]
    assert sizes, done.stderr
    assert sizes == [512 >> step for step in range(len(sizes))]  # said once for each halving, not once a batch


@pytest.fixture
def ready(project: Path, write_params: Callable[..., Path]) -> params.Params:
    """Params, and the inputs of one extraction."""
    write_params(run={"threads": 1}, encoders={"net": ENCODER}, extract={"batch_size": 64, "shard_images": SHARD_IMAGES})
    ingest.main(params.load(), "digits")
    weights.main(params.load(), "net")
    return params.load()


@pytest.fixture
def small_disk(project: Path) -> Iterator[Path]:
    """A file system of 16 MiB under data/."""
    data = project / "data"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16M", "none", data], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        yield data
    finally:
        subprocess.run(["umount", data], check=True)


def test_a_disk_that_fills(
    small_disk: Path, ready: params.Params, run_stage: Callable[..., subprocess.CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 1_000_000))  # the features are two times 1.8 MB
    ended = run_stage("extract", "--encoder", "net")
    assert ended.returncode == 75, ended.stderr
    assert "the disk is full" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (small_disk / "features").exists()
    kept = {path: path.stat().st_mtime_ns for path in (small_disk / "store" / "features").glob("*/*/0*/pooled.npy")}
    assert 0 < len(kept) < -(-TOTAL // SHARD_IMAGES)
    filler.unlink()

    seen: list[dict[Path, int]] = []
    join = extraction.shards.join_shards

    def look(*arguments: Any) -> None:
        seen.append({path: path.stat().st_mtime_ns for path in kept})
        join(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(extraction.shards, "join_shards", look)
        extract.main(ready, "net")
    assert seen == [kept]  # what was finished was not computed again
    resumed = contents(small_disk / "features")
    shutil.rmtree(small_disk / "features")
    shutil.rmtree(small_disk / "store")
    extract.main(ready, "net")
    assert contents(small_disk / "features") == resumed


def test_a_file_that_vanishes_in_mid_run(ready: params.Params, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project / "data" / "datasets" / "digits"
    _cut_in_two(folder)
    extract.main(ready, "net")
    whole = contents(project / "data" / "features")
    shutil.rmtree(project / "data" / "features")
    shutil.rmtree(project / "data" / "store")

    second, aside = folder / "images-00001.parquet", project / "aside.parquet"
    written = extraction.shards._write_shard

    def then_gone(*arguments: Any) -> None:
        written(*arguments)
        if second.exists():
            second.rename(aside)

    with monkeypatch.context() as patched:
        patched.setattr(extraction.shards, "_write_shard", then_gone)
        with pytest.raises(InputProblem, match=r"images-00001\.parquet: is gone\nNext: `dvc checkout`"):
            extract.main(ready, "net")
    kept = list((project / "data" / "store" / "features").glob("*/*/0*"))
    assert 0 < len(kept) < -(-TOTAL // SHARD_IMAGES)
    assert not (project / "data" / "features").exists()
    aside.rename(second)
    extract.main(ready, "net")
    assert contents(project / "data" / "features") == whole
    assert FeatureSet.open("net", "digits", verify=True).layer("pooled").shape[0] == TOTAL


def _cut_in_two(folder: Path) -> None:
    """Give the dataset a second shard of images, from its row 1,500 on."""
    rows = pl.read_parquet(folder / "manifest.parquet").with_row_index()
    rows = rows.with_columns(shard=(pl.col("index") >= 1500).cast(pl.Int64)).drop("index")
    images = pl.read_parquet(folder / "images-00000.parquet")
    for shard in (0, 1):
        ids = rows.filter(pl.col("shard") == shard)["id"].to_list()
        images.filter(pl.col("id").is_in(ids)).write_parquet(folder / f"images-{shard:05d}.parquet")
    rows.write_parquet(folder / "manifest.parquet")
    (folder / "manifest.json").unlink()
    manifest.write(folder, kind="dataset", version=1, inputs={}, classes=[str(digit) for digit in range(10)])
