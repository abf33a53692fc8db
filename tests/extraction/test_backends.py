"""One contract for everything that writes shards: the same bytes, going on from what is there, one message where one fails.

Ray runs on a cluster of two nodes on this machine; `pip install -e .[ray]` makes that test run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import polars as pl
import pytest
import torch

from stages import ingest, params, weights
from stages.artifacts import manifest
from stages.artifacts.dataset import Dataset, dataset_path
from stages.errors import InputProblem, TryAgain
from stages.extraction import Job, Writer, extract_shards, job_for, on_devices, pick_devices, planned
from stages.extraction.devices import split
from stages.extraction.timing import Clock

IMAGES, SHARD, BATCH = 203, 25, 10
VIT = {
    "arch": "test_vit", "arch_args": {"in_chans": 1, "img_size": 32}, "weights": "random", "input_size": 32,
    "layers": ["pooled", "blocks.3"],
}  # fmt: skip
MakeWriter = Callable[[params.Params, str, Path], Writer]


@pytest.fixture
def settings(project: Path, write_params: Callable[..., Path]) -> params.Params:
    """Params of a small encoder, a small dataset `few`, and `broken`, in which the last image is none any more."""
    write_params(
        run={"threads": 1, "workers": 2}, encoders={"vit": VIT}, extract={"batch_size": BATCH, "shard_images": SHARD},
        datasets={"packaged": {"digits": {"kind": "sklearn", "name": "digits"}}, "files": {}},
    )  # fmt: skip
    loaded = params.load()
    ingest.main(loaded, "digits")
    weights.main(loaded, "vit")
    whole = Dataset.open("digits")
    rows = whole.rows.head(IMAGES)
    for name in ("few", "broken"):
        folder = dataset_path(name)
        folder.mkdir()
        rows.write_parquet(folder / "manifest.parquet")
        content = pl.DataFrame(list(whole.chosen(rows["id"]).items()), schema=["id", "bytes"], orient="row")
        spoilt = pl.when((pl.col("id") == rows["id"][-1]) & (name == "broken")).then(pl.lit(b"none")).otherwise("bytes")
        content.with_columns(spoilt.alias("bytes")).write_parquet(folder / "images-00000.parquet")
        manifest.write(folder, kind="dataset", version=1, inputs={}, classes=whole.classes)
    return loaded


def two_processes(settings: params.Params, dataset: str, work: Path) -> Writer:
    return partial(on_devices, partial(job_for, settings, "vit", dataset), ["cpu", "cpu"], dataset, work, 1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made.address
    made.shutdown()


@pytest.fixture(params=["two processes", pytest.param("ray", marks=pytest.mark.slow)])
def backend(request: pytest.FixtureRequest) -> MakeWriter:
    if request.param == "two processes":
        return two_processes
    address = request.getfixturevalue("cluster")
    from stages.extraction.on_ray import on_ray

    def make(settings: params.Params, dataset: str, work: Path) -> Writer:
        return partial(on_ray, partial(job_for, settings, "vit", dataset), address, "cpu", dataset, work, 1)

    return make


def contents(work: Path) -> dict[str, bytes]:
    return {path.relative_to(work).as_posix(): path.read_bytes() for path in sorted(work.rglob("*.npy"))}


def test_the_bytes_of_one_process_going_on_from_half_and_one_message(
    settings: params.Params, project: Path, backend: MakeWriter
) -> None:
    job, dataset = job_for(settings, "vit", "few", "cpu"), Dataset.open("few")
    alone, work, torn = (project / "data" / "work" / name for name in ("alone", "shared", "torn"))
    for folder in (alone, work, torn):
        folder.mkdir(parents=True)
    extract_shards(job, dataset, alone)
    shards = planned(IMAGES, SHARD)
    assert len(contents(alone)) == 2 * len(shards) == 18

    for start, _ in (shards[0], shards[3], shards[8]):
        shutil.copytree(alone / f"{start:012d}", work / f"{start:012d}")
    kept = {path: path.stat().st_mtime_ns for path in work.rglob("*.npy")}
    clock, written = Clock(), []
    missing = [rows for rows in shards if not (work / f"{rows[0]:012d}").is_dir()]
    backend(settings, "few", work.relative_to(project))(missing, written.append, clock)
    assert contents(work) == contents(alone)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert sum(written) == clock.images == IMAGES - 2 * SHARD - 3
    assert clock.seconds["forward"] > 0

    with pytest.raises(InputProblem, match=r"cannot be decoded any more") as caught:
        backend(settings, "broken", torn.relative_to(project))(shards, lambda _images: None, Clock())
    assert caught.value.where == "vit on broken"
    assert "transferscope verify" in (caught.value.next_step or "")
    assert contents(torn).items() < contents(alone).items()  # whole shards of the other images, and nothing else


@pytest.mark.slow
def test_a_worker_of_the_cluster_that_dies(settings: params.Params, project: Path, cluster: str) -> None:
    from stages.extraction.on_ray import on_ray

    def dies(_device: str, _beside: int) -> Job:
        os._exit(3)

    with pytest.raises(TryAgain, match=r"a worker of the cluster died[\s\S]*goes on from them"):
        on_ray(dies, cluster, "cpu", "few", Path("data"), 1, planned(60, 25), lambda _images: None, Clock())


def test_a_cluster_that_is_not_there(project: Path) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from stages.extraction.on_ray import on_ray

    with pytest.raises(TryAgain, match=r"extract\.ray: 127\.0\.0\.1:9: the cluster cannot be joined [\s\S]*ray start --head"):
        on_ray(partial(print), "127.0.0.1:9", "cpu", "few", project, 1, planned(60, 25), lambda _images: None, Clock())


def test_a_bug_ends_all_with_its_traceback(settings: params.Params, project: Path) -> None:
    with pytest.raises(RuntimeError, match=r"on cpu \(process \d+\): Traceback[\s\S]*stages/extraction/build.py"):
        build = partial(job_for, settings, "vit", "few", loaded=("no model", None))
        on_devices(build, ["cpu", "cpu"], "few", project, 1, planned(60, 25), lambda _images: None, Clock())


@pytest.mark.parametrize("parts", [1, 2, 3, 8, 20])
def test_shares_are_whole_even_and_in_order(parts: int) -> None:
    shards = planned(203, 25)
    shares = split(shards, parts)
    assert [rows for share in shares for rows in share] == shards
    sizes = [len(share) for share in shares]
    assert len(shares) == min(parts, len(shards))
    assert max(sizes) - min(sizes) <= 1


def test_devices_are_checked_and_found() -> None:
    run = params.Run(device="cpu")
    assert pick_devices(run, "auto") == ["cpu"]
    assert pick_devices(run, ["cpu", "cpu"]) == ["cpu", "cpu"]
    number = torch.cuda.device_count()
    with pytest.raises(InputProblem, match=rf"no device 'cuda:{number}': this machine has {number} of its kind"):
        pick_devices(run, [f"cuda:{number}"])


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        (["cpu", "cuda:0"], "cpu, cuda:0 are of several kinds"),
        (["gpu"], "is neither auto nor a list"),
        ([], "is neither auto nor"),
    ],
)
def test_devices_of_params(write_params: Callable[..., Path], devices: list[str], said: str) -> None:
    write_params(extract={"devices": devices})
    with pytest.raises(InputProblem, match=r"extract\.devices") as caught:
        params.load()
    assert said in str(caught.value)


def test_where_features_are_computed_is_not_what_they_are() -> None:
    here, there = params.Extract(), params.Extract(devices=["cpu", "cpu"], ray="auto")
    assert here.what_matters() == there.what_matters()


def test_without_ray_the_message_says_how_to_install_it(
    settings: params.Params, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    from stages.extraction.on_ray import on_ray

    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not there
    build = partial(job_for, settings, "vit", "few")
    with pytest.raises(InputProblem, match=r"extract\.ray: Ray is not installed\nNext: pip install -e '\.\[ray\]'"):
        on_ray(build, "auto", "cpu", "few", project, 1, planned(60, 25), lambda _images: None, Clock())
