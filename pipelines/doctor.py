"""What this machine lacks, told before a long run and not in the middle of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from stages import params
from stages.errors import InputProblem

LOCK = Path("requirements.lock")
DATA = Path("data")
MEMORY = 1.5  # GiB that the largest stage of the default holds, with room
DISK = 5.0  # GiB: the default's artifacts, DVC's cache of them and scratch take two
# In a process of its own: the command line never imports torch, and a broken one must not end it.
DEVICES = """import torch
print(torch.cuda.get_device_name() if torch.cuda.is_available() else "")
print(torch.backends.mps.is_available())"""


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what was found, and the next step where that is not enough."""

    thing: str
    found: str
    next_step: str | None = None


def examine() -> Iterator[Finding]:
    """Look at everything, one finding at a time."""
    yield _python()
    yield _git()
    yield from _packages()
    yield from _params()
    yield _memory()
    yield _disk()
    yield _device()


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", version, None if sys.version_info >= (3, 11) else "make PYTHON=python3.11 (or newer)")


def _git() -> Finding:
    found = shutil.which("git")
    return Finding("git", found or "not found", None if found else "install git: DVC keeps its own files beside git's")


def _packages() -> Iterator[Finding]:
    wanted = [Requirement(line) for line in LOCK.read_text(encoding="utf-8").splitlines() if line[:1].isalnum()]
    wanted = [requirement for requirement in wanted if requirement.marker is None or requirement.marker.evaluate()]
    wrong = []
    for requirement in wanted:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, pinned {requirement.specifier}")
    shown = "; ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
    yield Finding("packages", shown or f"{len(wanted)} as pinned", "pip install -r requirements.lock" if wrong else None)


def _params() -> Iterator[Finding]:
    try:
        settings = params.load()
    except InputProblem as problem:
        yield Finding("params.yaml", problem.what, problem.next_step)
        return
    counted = f"{len(settings.all_datasets)} datasets, {len(settings.candidates)} encoders, {len(settings.targets)} targets"
    absent = [name for name, entry in settings.datasets.files.items() if not Path(str(entry.options["path"])).exists()]
    if absent:
        yield Finding("params.yaml", f"{counted}; no files for {', '.join(absent)}", params.EDIT)
    else:
        yield Finding("params.yaml", counted)


def _memory() -> Finding:
    free, cores = psutil.virtual_memory().available / 2**30, os.cpu_count() or 1
    found = f"{free:.1f} GiB free, {cores} cores"
    return Finding("memory", found, None if free >= MEMORY else f"free {MEMORY - free:.1f} GiB more: a stage may need them")


def _disk() -> Finding:
    DATA.mkdir(exist_ok=True)
    free = shutil.disk_usage(DATA).free / 2**30
    try:
        with tempfile.TemporaryDirectory(dir=DATA) as folder:
            (Path(folder) / "one").touch()
            os.link(Path(folder) / "one", Path(folder) / "two")
        links = "hard links"
    except OSError as error:
        if not os.access(DATA, os.W_OK):
            return Finding("disk", f"{DATA} cannot be written ({error.strerror})", f"chown or chmod {DATA}")
        links = "no hard links: work in progress is copied, at twice the space"
    found = f"{free:.0f} GiB free, {links}"
    return Finding("disk", found, None if free >= DISK else "free some space, or `transferscope drop-store`")


def _device() -> Finding:
    done = subprocess.run([sys.executable, "-c", DEVICES], capture_output=True, text=True, check=False)
    if done.returncode:
        return Finding("device", "torch cannot be imported", f"{sys.executable} -c 'import torch' says why")
    cuda, mps = done.stdout.splitlines()
    found = cuda or ("Apple GPU" if mps == "True" else "no GPU: everything runs on the CPU")
    try:
        asked = params.load().run.device
    except InputProblem:  # `_params` has said it
        asked = "auto"
    there = {"auto": True, "cpu": True, "cuda": bool(cuda), "mps": mps == "True"}[asked]
    return Finding("device", found, None if there else f"run.device asks for {asked}: set it to auto or cpu in params.yaml")
