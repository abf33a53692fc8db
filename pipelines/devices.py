"""One stage per GPU: a file lock that all runs of this host share, and the server's limit of the same device.

A stage says in dvc.yaml which param names its device (`meta: {device: run.device}`). Where that resolves to an
accelerator, the stage starts when one is free and sees that one alone.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pipelines import graph, server
from stages.params import PARAMS_FILE, Params

NAMED = "TRANSFERSCOPE_DEVICES"  # devices to use instead of all that are found, as for CUDA_VISIBLE_DEVICES
VISIBLE = "CUDA_VISIBLE_DEVICES"
LEASE_SECONDS = 60.0  # the least that Prefect allows: how long a server counts the device of a killed run as taken
_UUID = re.compile(r"\(UUID: ((?:GPU|MIG)-[^)]+)\)")


def found() -> list[str]:
    """Return the devices of this host that stages may use: UUIDs of NVIDIA's, `mps` for Apple's, or as named."""
    if NAMED in os.environ:
        return [name.strip() for name in os.environ[NAMED].split(",") if name.strip()]
    if sys.platform == "darwin":
        return ["mps"] if platform.machine() == "arm64" else []
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return visible(done.stdout if done.returncode == 0 else "", os.environ.get(VISIBLE))


def visible(listed: str, wanted: str | None) -> list[str]:
    """Return the UUIDs of what `nvidia-smi -L` lists: a device's parts where it is split, and only those wanted.

    Args:
        listed: the output of `nvidia-smi -L`.
        wanted: CUDA_VISIBLE_DEVICES: indices or beginnings of UUIDs, up to the first that does not exist; None for all.
    """
    whole: list[str] = []
    usable: list[str] = []
    for name in _UUID.findall(listed):
        if name.startswith("GPU-"):
            whole.append(name)
        elif usable and usable[-1] == whole[-1]:
            usable.pop()  # CUDA does not open a device that is split
        usable.append(name)
    if wanted is None:
        return usable
    chosen: list[str] = []
    for part in wanted.split(","):
        part = part.strip()
        match = (
            whole[int(part) : int(part) + 1] if part.isdigit() else [name for name in usable if part and name.startswith(part)]
        )
        if not match:
            break
        chosen += match[:1]
    return chosen


class Slots:
    """The devices of this host, and which stage of this run holds which.

    Attributes:
        refused: the last stage that found no free device since this was set to None.
    """

    def __init__(self, nodes: Mapping[str, graph.Node]) -> None:
        keys = {name: node.device for name, node in nodes.items() if node.device is not None}
        asked = {key: _asked(key) for key in set(keys.values())}
        self._on_device = {name for name, key in keys.items() if asked[key] != "cpu"}
        self._devices = found() if self._on_device else []
        self._held: dict[str, tuple[str, int]] = {}
        self.refused: str | None = None

    def take(self, stage: str) -> bool:
        """Hold a device for a stage that needs one; False where all are taken, by this run or another."""
        if stage not in self._on_device or not self._devices:
            return True
        taken = {device for device, _ in self._held.values()}
        for device in self._devices:
            if device not in taken and (handle := _locked(device)) is not None:
                self._held[stage] = device, handle
                return True
        self.refused = stage
        return False

    def give_back(self, stage: str) -> None:
        """Let the stage's device go, if it held one."""
        if stage in self._held:
            os.close(self._held.pop(stage)[1])

    def handles(self, stage: str) -> list[int]:
        """Return the file descriptors that keep the stage's device locked as long as any process has them open."""
        return [self._held[stage][1]] if stage in self._held else []

    def environment(self, stage: str) -> dict[str, str]:
        """Return the variables that show the stage its own device alone."""
        return {VISIBLE: self._held[stage][0]} if stage in self._held and self._held[stage][0] != "mps" else {}

    @contextmanager
    def counted(self, stage: str) -> Iterator[None]:
        """Count the stage's device as taken on a server that others use too; waits while it says that another has it."""
        if stage not in self._held or server.own():
            yield
            return
        from prefect.client.orchestration import get_client
        from prefect.concurrency.sync import concurrency

        limit = f"device {self._held[stage][0]}"
        with get_client(sync_client=True) as client:
            client.upsert_global_concurrency_limit_by_name(limit, 1)
        with concurrency(limit, lease_duration=LEASE_SECONDS, strict=True, raise_on_lease_renewal_failure=False):
            yield


def _asked(key: str) -> str:
    """Return a param that names a device, `run.device` for instance, or its default."""
    section, _, name = key.partition(".")
    written = (graph.parse(PARAMS_FILE) or {}).get(section) or {}
    model = Params.model_fields[section].annotation
    return str(written.get(name, model.model_fields[name].default))  # type: ignore[union-attr]  # every section is a model


def _locked(device: str) -> int | None:
    """Return an open file that holds the device's lock, or None where another process holds it.

    The lock belongs to the open file: it goes when the last process that has it open closes it or dies.
    """
    folder = Path(tempfile.gettempdir()) / "transferscope-devices"
    if not folder.is_dir():
        folder.mkdir(exist_ok=True)
        with suppress(OSError):
            folder.chmod(0o1777)  # for every user of this host
    path = folder / re.sub(r"[^\w.-]", "_", device)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)  # enough for a lock, and allowed on another user's file
    except FileNotFoundError:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle
