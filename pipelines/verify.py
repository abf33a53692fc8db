"""Re-hash what is on the disk: DVC's cache, the artifacts, the result tables; name what is damaged and how to mend it."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from pipelines import graph
from stages import progress
from stages.artifacts import manifest, pruning, tables, weights
from stages.artifacts.dataset import DATASETS, Dataset
from stages.artifacts.features import FEATURES, FeatureSet
from stages.errors import InputProblem

LOCK = Path("dvc.lock")
CACHE = Path(".dvc/cache/files/md5")


@dataclass(frozen=True)
class Damage:
    """Something that is not what it was written as.

    Attributes:
        where: the file or folder.
        what: what is wrong with it.
        mend: shell commands that bring it back.
    """

    where: str
    what: str
    mend: str


def everything() -> tuple[int, list[Damage]]:
    """Check all that exists; return how many things were checked, and the damaged ones.

    What has not been made is no damage. DVC keeps a damaged object of its cache and links it again even after a forced
    run, so the cache is checked first, and mending it is part of mending an artifact.
    """
    checks = list(_checks(Makers.read()))
    found: list[Damage] = []
    with progress.bar("verify", len(checks), "things") as advance:
        for check in checks:
            damage = check()
            if damage is not None:
                found.append(damage)
            advance(1)
    return len(checks), found


@dataclass(frozen=True)
class Makers:
    """Which DVC stage makes what, from dvc.lock.

    Attributes:
        paths: output path -> stage.
        objects: md5 of a file in DVC's cache -> stage; outputs of the present dvc.lock only.
    """

    paths: dict[str, str]
    objects: dict[str, str]

    @classmethod
    def read(cls) -> Self:
        """Read dvc.lock and the folder listings in DVC's cache."""
        makers = cls({}, {})
        lock = graph.parse(LOCK) if LOCK.is_file() else {}
        for stage, record in lock.get("stages", {}).items():
            for out in record.get("outs", []):
                makers.paths[out["path"]] = stage
                makers.objects[out["md5"]] = stage
                if out["md5"].endswith(".dir"):
                    for entry in _listing(_object(out["md5"])):
                        makers.objects[entry] = stage
        return makers

    def rerun(self, path: Path) -> str:
        """Return the command that makes a path again."""
        for candidate in (path, *path.parents):
            if candidate.as_posix() in self.paths:
                return f"dvc repro --force --single-item {self.paths[candidate.as_posix()]}"
        return "dvc repro"


def _object(md5: str) -> Path:
    return CACHE / md5[:2] / md5[2:]


def _listing(path: Path) -> list[str]:
    try:
        return [entry["md5"] for entry in json.loads(path.read_bytes())]
    except (OSError, ValueError, KeyError, TypeError):  # gone, or damaged: then it is reported itself
        return []


def _checks(makers: Makers) -> Iterator[Callable[[], Damage | None]]:
    for path in sorted(CACHE.glob("??/*")):
        yield partial(_cached, makers, path)
    for path in sorted(DATASETS.glob(f"*/{manifest.MANIFEST}")):
        yield partial(_opened, makers, path.parent, partial(Dataset.open, path.parent.name, verify=True))
    for path in sorted(FEATURES.glob(f"*/*/{manifest.MANIFEST}")):
        encoder, dataset = path.parts[-3:-1]
        yield partial(_opened, makers, path.parent, partial(FeatureSet.open, encoder, dataset, verify=True))
    for path in sorted(pruning.PRUNING.glob(f"**/{manifest.MANIFEST}")):
        read = partial(manifest.read, path.parent, kind="pruning", version=pruning.VERSION, made_by="prune", verify=True)
        yield partial(_opened, makers, path.parent, read)
    for path in sorted(weights.WEIGHTS.glob("*.json")):
        yield partial(_weights, makers, path.stem)
    for name in tables.SCHEMAS:
        path = tables.result_path(name)
        if path.is_file():
            yield partial(_opened, makers, path, partial(tables.load, name))


def _cached(makers: Makers, path: Path) -> Damage | None:
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "md5").hexdigest()
    name = path.parent.name + path.name
    if digest == name.removesuffix(".dir"):
        return None
    what = f"DVC's cache object has another md5, {digest}"
    remove = f"rm -f {shlex.quote(path.as_posix())}"
    if name in makers.objects:
        return Damage(str(path), what, f"{remove} && dvc repro --force --single-item {makers.objects[name]}")
    return Damage(str(path), f"{what}; nothing in the present dvc.lock uses it", remove)


def _opened(makers: Makers, path: Path, read: Callable[[], object]) -> Damage | None:
    try:
        read()
    except InputProblem as problem:
        return Damage(problem.where or str(path), problem.what, makers.rerun(path))
    return None


def _weights(makers: Makers, encoder: str) -> Damage | None:
    path = weights.weights_path(encoder)
    if path.is_file() and manifest.sha256(path) == weights.read_card(encoder).sha256:
        return None
    return Damage(str(path), "is missing, or differs from its card", makers.rerun(path))
