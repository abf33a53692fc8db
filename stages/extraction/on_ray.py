"""The hosts of a Ray cluster, behind the interface of `devices`: an optional extra, `pip install -e .[ray]`.

The hosts see the project under the same path, on a file system that they share: datasets and weights are read there, and
shards are written there, by the same code as on one host. So one run may begin on a laptop and end on a cluster.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from stages import entry
from stages.artifacts.dataset import Dataset
from stages.errors import InputProblem, TryAgain
from stages.extraction.devices import RERUN, Build, split
from stages.extraction.job import Rows
from stages.extraction.outcome import Outcome, attempt, settle
from stages.extraction.shards import write_shards
from stages.extraction.timing import Clock

GROUP = 8  # shards handed to a worker at once: few enough to even out slow hosts, enough to keep its stages overlapping
REACHED_SECONDS = 10  # that the cluster's head may take to answer
QUEUED = 2  # groups that a worker has been given, so that it never waits for the next

Place = tuple[str, float, float, int]  # node, CPUs, GPUs of one worker, and workers of that node


class Worker:
    """One process of the cluster, with the model loaded once."""

    def __init__(self, project: str, build: Build, device: str, beside: int, threads: int) -> None:
        self.seen = os.path.isdir(project)
        if self.seen:
            os.chdir(project)
        entry.limit_threads(threads)
        self.build, self.device, self.beside = build, device, beside
        self.job: Any = None

    def write(self, dataset: str, work: Path, shards: list[Rows]) -> Outcome:
        """Write some shards and return how it ended."""

        def write(clock: Clock) -> None:
            if not self.seen or not work.is_dir():
                raise InputProblem(
                    f"host {os.uname().nodename} does not see {work}",
                    next_step="put the project on a file system that all hosts share, under one path",
                )
            self.job = self.job or self.build(self.device, self.beside)
            write_shards(self.job, Dataset.open(dataset), work, shards, lambda _images: None, clock)

        return attempt(write)


def on_ray(
    build: Build, address: str, kind: str, dataset: str, work: Path, threads: int,
    shards: Sequence[Rows], advance: Callable[[int], None], clock: Clock,
) -> None:  # fmt: skip
    """Write the shards as `write_shards` does, on every host of a Ray cluster.

    Args:
        build: makes the job; it must be picklable.
        address: of the cluster: host:port, or "auto" for the one that this host belongs to.
        kind: "cuda": a worker for each GPU of the cluster; "cpu": one for each host. `extract.devices: [cuda]` asks for GPUs
            where the host that asks has none.
        dataset, work, threads, shards, advance, clock: as of `devices.on_devices`.

    Raises:
        Problem: what one of the workers ended with; the others are ended then.
        TryAgain: the cluster cannot be reached, or a worker or its host died.
    """
    ray = _ray()
    ours = not ray.is_initialized()
    if ours:
        _join(ray, address)
    workers: dict[Any, str] = {}
    try:
        places = _places(ray.nodes(), kind)
        if not places:
            what = f"the cluster has no {'GPU' if kind == 'cuda' else 'CPU'}"
            raise InputProblem(what, where=address, next_step="start a node with one, or set run.device in params.yaml")
        for node, cpus, gpus, beside in places:
            on_node = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
            made = ray.remote(Worker).options(
                num_cpus=cpus, num_gpus=gpus, max_restarts=0, scheduling_strategy=on_node,
                runtime_env={"env_vars": {"PYTHONPATH": _code()}},
            )  # fmt: skip
            workers[made.remote(os.getcwd(), build, kind, beside, threads)] = f"node {node[:8]}"
        _share_out(ray, workers, dataset, work, shards, advance, clock)
    except ray.exceptions.RayError as error:
        said = str(error).strip().splitlines()[0]
        raise TryAgain(f"a worker of the cluster died ({said})", where=f"extract {dataset}", next_step=RERUN) from None
    finally:
        for worker in workers:
            ray.kill(worker)
        if ours:
            ray.shutdown()


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anyone
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError:
        next_step = "pip install -e '.[ray]', or leave extract.ray out of params.yaml"
        raise InputProblem("Ray is not installed", where="params.yaml: extract.ray", next_step=next_step) from None
    return ray


def _join(ray: Any, address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        if port.isdecimal():  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), REACHED_SECONDS).close()
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        next_step = "start it (`ray start --head` on one host, `ray start --address=...` on the others), then `dvc repro`"
        raise TryAgain(f"the cluster cannot be joined ({said})", where=f"extract.ray: {address}", next_step=next_step) from None


def _code() -> str:
    """Return PYTHONPATH of the workers: the project's code as this process sees it."""
    return os.pathsep.join(filter(None, [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")]))


def _places(nodes: Sequence[dict[str, Any]], kind: str) -> list[Place]:
    """Return one place a GPU, or one a host that takes all its CPUs."""
    places: list[Place] = []
    for node in sorted((node for node in nodes if node["Alive"]), key=lambda node: str(node["NodeID"])):
        cpus, gpus = node["Resources"].get("CPU", 0.0), int(node["Resources"].get("GPU", 0))
        if kind == "cuda":
            places += [(node["NodeID"], cpus // gpus, 1.0, gpus)] * gpus
        elif cpus >= 1:
            places.append((node["NodeID"], cpus, 0.0, 1))
    return places


def _share_out(
    ray: Any, workers: dict[Any, str], dataset: str, work: Path,
    shards: Sequence[Rows], advance: Callable[[int], None], clock: Clock,
) -> None:  # fmt: skip
    groups: Iterator[list[Rows]] = iter(split(shards, max(len(workers), -(-len(shards) // GROUP))))
    running: deque[Any] = deque()
    given: dict[Any, tuple[Any, list[Rows]]] = {}

    def give(worker: Any) -> None:
        group = next(groups, None)
        if group is not None:
            task = worker.write.remote(dataset, work, group)
            given[task] = (worker, group)
            running.append(task)

    for _ in range(QUEUED):
        for worker in workers:
            give(worker)
    while running:
        (done,), left = ray.wait(list(running))
        running = deque(left)
        worker, group = given.pop(done)
        settle(ray.get(done), clock, workers[worker])
        advance(sum(stop - start for start, stop in group))
        give(worker)
