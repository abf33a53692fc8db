"""Kind `imagefolder`: files below root/<class>/, or below root/<split>/<class>/."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from stages.artifacts.dataset import Split
from stages.datasets.contract import DatasetKind, Raw, Source, printable, split_named
from stages.errors import InputProblem
from stages.params import Section

LAYOUT = "it should hold <class>/<image>, or train/<class>/<image> and test/<class>/<image>"


class Options(Section):
    """The root folder; relative to the project's folder, or absolute."""

    path: Path


def read(options: Options) -> Source:
    """Open an image folder. The id is the path below the root; hidden files and folders are skipped.

    Files of any kind are yielded; what is not an image ends in quarantine. A file outside every class folder has no
    label. Only one folder's listing is in memory at a time, whatever their number.

    Raises:
        InputProblem: no such folder, no class folders in it, or split folders mixed with others.
    """
    root = options.path
    next_step = f"check the path; {LAYOUT}"
    if not root.is_dir():
        raise InputProblem("is not a folder" if root.exists() else "does not exist", where=str(root), next_step=next_step)
    by_split = _has_split_folders(root)
    labelled = 3 if by_split else 2  # parts of <split>/<class>/<image> and of <class>/<image>
    if not any(entry.is_dir() for top in (_folders(root) if by_split else [str(root)]) for entry in _members(top)):
        raise InputProblem("has no class folders", where=str(root), next_step=next_step)

    def rows() -> Iterator[Raw]:
        for file in _files(str(root), ()):
            path = Path(file)
            parts = path.relative_to(root).parts
            label = printable(parts[labelled - 2]) if len(parts) >= labelled else None
            split: Split | None = split_named(parts[0]) if by_split else None
            yield Raw(printable("/".join(parts)), label, split, path)

    return Source(rows(), total=sum(1 for _ in _files(str(root), ())))


def _has_split_folders(root: Path) -> bool:
    """Say whether the top folders are splits. One folder called "test" among others can be a class; two cannot."""
    names = [Path(folder).name for folder in _folders(root)]
    splits = [name for name in names if split_named(name)]
    others = sorted(set(names) - set(splits))
    if others and len({split_named(name) for name in splits}) > 1:
        raise InputProblem(
            f"mixes split folders ({', '.join(sorted(splits))}) with others ({', '.join(map(printable, others[:5]))})",
            where=str(root),
            next_step=f"move the others away; {LAYOUT}",
        )
    return bool(splits) and not others


def _folders(root: Path) -> list[str]:
    return [entry.path for entry in _members(str(root)) if entry.is_dir()]


def _members(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise InputProblem(
            f"cannot be listed ({error.strerror})", where=printable(folder), next_step="check the folder's permissions"
        ) from None


def _files(folder: str, above: tuple[str, ...]) -> Iterator[str]:
    """Yield everything below a folder that is not a folder, sorted by name; links are followed, loops are not."""
    real = os.path.realpath(folder)
    if real in above:
        return
    for entry in _members(folder):
        if entry.is_dir():
            yield from _files(entry.path, (*above, real))
        else:
            yield entry.path


KIND = DatasetKind(Options, read)
