"""Re-hash what is on the disk: DVC's cache, the artifacts, the result tables; name what is damaged and how to mend it."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
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
        remove: what has to go, so that DVC makes it again or takes it from a sound copy.
    """

    where: str
    what: str
    remove: tuple[str, ...]


def mend(found: Sequence[Damage]) -> str:
    """Return the shell command that mends everything found; DVC then works in the graph's order."""
    paths = dict.fromkeys(path for damage in found for path in damage.remove)
    return f"rm -rf {shlex.join(paths)} && dvc repro"


def everything() -> tuple[int, list[Damage]]:
    """Check all that exists; return how many things were checked, and the damaged ones.

    What has not been made is no damage. DVC trusts an object that is in its cache: while a damaged one is there, even
    a forced run ends with the damaged bytes. So the cache is checked too, and mending begins by removing.
    """
    checks = list(_checks(Outputs.read()))
    found: list[Damage] = []
    with progress.bar("verify", len(checks), "things") as advance:
        for check in checks:
            damage = check()
            if damage is not None:
                found.append(damage)
            advance(1)
    return len(checks), found


@dataclass(frozen=True)
class Outputs:
    """The outputs that dvc.lock names.

    Attributes:
        md5: path -> hash; ends in `.dir` where the output is a folder.
        users: hash of an object in DVC's cache -> the outputs that hold it.
    """

    md5: dict[str, str]
    users: dict[str, list[str]]

    @classmethod
    def read(cls) -> Self:
        """Read dvc.lock, and the folders' listings in DVC's cache."""
        outputs = cls({}, defaultdict(list))
        lock = graph.parse(LOCK) if LOCK.is_file() else {}
        for record in lock.get("stages", {}).values():
            for out in record.get("outs", []):
                path, md5 = out["path"], out["md5"]
                outputs.md5[path] = md5
                for held in dict.fromkeys([md5, *(_listing(_object(md5)) if md5.endswith(".dir") else [])]):
                    outputs.users[held].append(path)
        return outputs

    def around(self, path: Path) -> str:
        """Return the output that holds a path, or the path itself where DVC does not know it."""
        return next((where.as_posix() for where in (path, *path.parents) if where.as_posix() in self.md5), path.as_posix())


def _object(md5: str) -> Path:
    return CACHE / md5[:2] / md5[2:]


def _listing(path: Path) -> list[str]:
    try:
        return [entry["md5"] for entry in json.loads(path.read_bytes())]
    except (OSError, ValueError, KeyError, TypeError):  # gone, or damaged: then it is reported itself
        return []


def _md5(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "md5").hexdigest()


def _checks(outputs: Outputs) -> Iterator[Callable[[], Damage | None]]:
    for path in sorted(CACHE.glob("??/*")):
        yield partial(_cached, outputs, path)
    for name, users in sorted(outputs.users.items()):
        made = [user for user in users if Path(user).exists()]
        if made and CACHE.is_dir() and not _object(name).is_file():  # another cache than the project's own is not looked at
            yield partial(_gone, name, made)
    for name, md5 in outputs.md5.items():
        if Path(name).is_file():  # folders have manifests of their own, below
            yield partial(_recorded, Path(name), md5)
    for path in sorted(DATASETS.glob(f"*/{manifest.MANIFEST}")):
        yield partial(_opened, outputs, path.parent, partial(Dataset.open, path.parent.name, verify=True))
    for path in sorted(FEATURES.glob(f"*/*/{manifest.MANIFEST}")):
        encoder, dataset = path.parts[-3:-1]
        yield partial(_opened, outputs, path.parent, partial(FeatureSet.open, encoder, dataset, verify=True))
    for path in sorted(pruning.PRUNING.glob(f"**/{manifest.MANIFEST}")):
        read = partial(manifest.read, path.parent, kind="pruning", version=pruning.VERSION, made_by="prune", verify=True)
        yield partial(_opened, outputs, path.parent, read)
    for path in sorted(weights.WEIGHTS.glob("*.json")):
        yield partial(_weights, path.stem)
    for name in tables.SCHEMAS:
        path = tables.result_path(name)
        if path.is_file():
            yield partial(_opened, outputs, path, partial(tables.load, name))


def _cached(outputs: Outputs, path: Path) -> Damage | None:
    name = path.parent.name + path.name
    found = _md5(path)
    if found == name.removesuffix(".dir"):
        return None
    users = outputs.users.get(name, [])
    used = f"used by {', '.join(users)}" if users else "nothing in the present dvc.lock uses it"
    return Damage(path.as_posix(), f"DVC's cache object has another md5, {found}; {used}", (path.as_posix(), *users))


def _gone(name: str, users: Sequence[str]) -> Damage:
    """Name an object that the cache should have: DVC says "up to date", and cannot bring the output back later."""
    what = f"DVC's cache has lost this object; used by {', '.join(users)}"
    return Damage(_object(name).as_posix(), what, tuple(users))


def _recorded(path: Path, md5: str) -> Damage | None:
    found = _md5(path)
    return None if found == md5 else Damage(path.as_posix(), f"has md5 {found}, dvc.lock says {md5}", (path.as_posix(),))


def _opened(outputs: Outputs, path: Path, read: Callable[[], object]) -> Damage | None:
    try:
        read()
    except InputProblem as problem:
        return Damage(problem.where or path.as_posix(), problem.what, (outputs.around(path),))
    return None


def _weights(encoder: str) -> Damage | None:
    path, card = weights.weights_path(encoder), weights.card_path(encoder)
    both = (path.as_posix(), card.as_posix())
    try:
        wanted = weights.read_card(encoder).sha256
    except InputProblem as problem:
        return Damage(problem.where or card.as_posix(), problem.what, both)
    if path.is_file() and manifest.sha256(path) == wanted:
        return None
    return Damage(path.as_posix(), "is missing, or differs from its card", both)
