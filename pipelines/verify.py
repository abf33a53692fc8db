"""Re-hash what is on the disk: DVC's cache, the artifacts, the result tables; name what is damaged and how to mend it."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stages import progress
from stages.artifacts import manifest, pruning, tables, weights
from stages.artifacts.dataset import DATASETS, Dataset
from stages.artifacts.features import FEATURES, FeatureSet
from stages.errors import InputProblem

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

    What has not been made is no damage. DVC keeps a damaged object of its cache and links it again after a forced
    run, so the cache is checked first, and mending it is part of mending an artifact.
    """
    checks = list(_checks())
    found: list[Damage] = []
    with progress.bar("verify", len(checks), "things") as advance:
        for check in checks:
            damage = check()
            if damage is not None:
                found.append(damage)
            advance(1)
    return len(checks), found


def _checks() -> Iterator[Callable[[], Damage | None]]:
    for path in sorted(CACHE.glob("??/*")):
        yield partial(_cached, path)
    for path in sorted(DATASETS.glob(f"*/{manifest.MANIFEST}")):
        name = path.parent.name
        yield partial(_opened, partial(Dataset.open, name, verify=True), f"ingest@{name}")
    for path in sorted(FEATURES.glob(f"*/*/{manifest.MANIFEST}")):
        encoder, dataset = path.parts[-3:-1]
        yield partial(_opened, partial(FeatureSet.open, encoder, dataset, verify=True), f"extract@{encoder}")
    for path in sorted(pruning.PRUNING.glob(f"**/{manifest.MANIFEST}")):
        read = partial(manifest.read, path.parent, kind="pruning", version=pruning.VERSION, made_by="prune", verify=True)
        yield partial(_opened, read, "prune")
    for path in sorted(weights.WEIGHTS.glob("*.json")):
        yield partial(_weights, path.stem)
    for name, schema in tables.SCHEMAS.items():
        if tables.result_path(name).is_file():
            yield partial(_opened, partial(tables.load, name), schema.made_by)


def _cached(path: Path) -> Damage | None:
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "md5").hexdigest()
    if digest == (path.parent.name + path.name).removesuffix(".dir"):
        return None
    # The next run makes it again where it can; `dvc fetch` brings it from a remote where one is set.
    mend = f"rm -f {shlex.quote(str(path))} && dvc repro"
    return Damage(str(path), f"DVC's cache object has another md5 ({digest})", mend)


def _opened(read: Callable[[], object], stage: str) -> Damage | None:
    try:
        read()
    except InputProblem as problem:
        return Damage(problem.where or stage, problem.what, f"dvc repro --force --single-item {stage}")
    return None


def _weights(encoder: str) -> Damage | None:
    path = weights.weights_path(encoder)
    if path.is_file() and manifest.sha256(path) == weights.read_card(encoder).sha256:
        return None
    return Damage(str(path), "is missing, or differs from its card", f"dvc repro --force --single-item weights@{encoder}")
