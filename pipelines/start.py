"""A start with data of one's own: params.yaml written for a folder of images and a list of encoders."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import paramsfile
from stages.artifacts.raw import raw_file
from stages.datasets import KINDS, Source, validate_entry
from stages.datasets.imagefolder import LAYOUT
from stages.errors import InputProblem
from stages.params import DatasetEntry
from stages.sources import WEIGHT_FILES

WORDS = ("hub", "random")  # what `weights` may be beside a file


@dataclass(frozen=True)
class Asked:
    """One encoder as asked for on the command line: timm's name, and `hub`, `random` or a file of weights."""

    arch: str
    weights: str

    @property
    def entry(self) -> dict[str, Any]:
        """Return what params.yaml says of it, the layers left out."""
        return {"arch": self.arch, "weights": self.weights if self.weights in WORDS else {"file": self.weights}}


def start(images: Path, encoders: Sequence[str], *, name: str | None, layers: int) -> list[str]:
    """Write datasets, targets and encoders into params.yaml, take out what was asked of others, and say what changed.

    Args:
        images: a folder as of kind `imagefolder`, or a file or folder of tables as of kind `parquet`.
        encoders: ARCH or ARCH=WEIGHTS each, WEIGHTS being hub (the default), random, or a file below data/raw/weights.
        name: of the dataset; by default the folder's.
        layers: to be tapped of each encoder beside pooled.

    Raises:
        InputProblem: the images, a model or its weights cannot be taken; params.yaml is then as it was.
    """
    dataset = name or slug(images.stem if images.is_file() else images.resolve().name)
    entry, found = _dataset(dataset, images)
    asked = [_asked(text) for text in encoders]
    chosen = _layers(asked, layers)
    written = {key: {**one.entry, "layers": chosen[one.arch]} for key, one in zip(names(asked), asked, strict=True)}
    changes = paramsfile.change({
        ("datasets", "packaged"): {},
        ("datasets", "files"): {dataset: entry},
        ("targets",): [dataset],
        ("encoders",): written,
        ("features",): {},
        ("rank", "accuracies"): None,
        ("prune", "pairs"): [],
        ("prune", "combine"): {},
        ("probe", "layer"): "pooled",
        ("languages", "tasks"): [],
        ("languages", "table"): None,
        ("languages", "texts"): None,
    })  # fmt: skip
    return [f"{dataset}: {found}", *changes]


def slug(text: str) -> str:
    """Return a name that params.yaml takes: lower-case letters, digits and _."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "images"


def names(asked: Sequence[Asked]) -> list[str]:
    """Return one name an encoder: as short as keeps them apart, of the architecture, its tag and its weights."""
    candidates = [
        (slug(one.arch.partition(".")[0]), slug(one.arch), slug(f"{one.arch}_{Path(one.weights).stem}")) for one in asked
    ]
    for length in range(3):
        found = [candidate[length] for candidate in candidates]
        if len(set(found)) == len(found):
            return found
    twice = next(one for one in asked if asked.count(one) > 1 or found.count(names([one])[0]) != 1)
    raise InputProblem(f"{twice.arch}={twice.weights} is named twice", where="encoders")


def _dataset(name: str, images: Path) -> tuple[dict[str, Any], str]:
    """Return the entry of params.yaml, and what is there in words."""
    inside = Path(os.path.relpath(images))
    path = images.resolve() if ".." in inside.parts else inside
    tables = path.is_file() or (path.is_dir() and any(path.rglob("*.parquet")))
    entry = {"kind": "parquet" if tables else "imagefolder", "path": path.as_posix()}
    source = KINDS[entry["kind"]].read(validate_entry(name, DatasetEntry.model_validate(entry)))
    assert isinstance(source, Source)  # both kinds are of images
    if tables:  # whose labels are beside the images: reading them all is for ingest
        return entry, f"{source.total:,} images"
    labels = sorted({raw.label for raw in source.rows if raw.label is not None})
    if len(labels) < 2:
        what = f"holds {source.total:,} files in {'one class, ' + labels[0] if labels else 'no class'}"
        raise InputProblem(what, where=str(images), next_step=f"give it two classes or more; {LAYOUT}")
    return entry, f"{source.total:,} images in {len(labels):,} classes"


def _asked(text: str) -> Asked:
    arch, _, weights = text.partition("=")
    if weights and weights not in WORDS:
        try:
            raw_file(Path(weights), WEIGHT_FILES, f"encoder {text}", kind="weights", key="file")
        except InputProblem as problem:
            again = f"{arch}={WEIGHT_FILES / Path(weights).name}"
            next_step = f"copy it there, then name it as {again}" if Path(weights).is_file() else "check the path"
            raise InputProblem(problem.what, where=problem.where, next_step=next_step) from None
    return Asked(arch, weights or "hub")


def _layers(asked: Sequence[Asked], count: int) -> dict[str, list[str]]:
    """Ask a process of its own, which loads torch, for the layers of each architecture."""
    command = [sys.executable, "-m", "stages.encoders.choose", str(count), *(f"{one.arch}={one.weights}" for one in asked)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)  # it has said why
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found
