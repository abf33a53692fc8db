"""What a dataset kind is: a model of its options, and a function that opens a source of encoded images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import polars as pl

from stages.artifacts.dataset import Split
from stages.params import Section

SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Raw:
    """One image as its source holds it, not looked at yet.

    Attributes:
        id: unique within the source, the same on every reading; never an absolute path.
        label: the class name, or None where the source gives none (the image will be quarantined).
        split: the source's own split, or None; a source names the split of all its labelled images or of none.
        content: the encoded bytes, or the file that holds them, which is then read only after a look at its size.
    """

    id: str
    label: str | None
    split: Split | None
    content: bytes | Path


@dataclass(frozen=True)
class Source:
    """An opened source: its images one after the other, never all in memory.

    Attributes:
        rows: the images, in an order that depends on the source alone.
        total: how many there are, for the progress bar.
        class_names: the order of the classes where the source knows one; else the labels are sorted.
    """

    rows: Iterator[Raw]
    total: int
    class_names: Sequence[str] | None = None


@dataclass(frozen=True)
class Labels:
    """An opened source of rows without images: what a table knows of them.

    Attributes:
        rows: id (unique), label (null where the source gives none), split (the source's own, or null), all text.
        class_names: as of `Source`.
    """

    rows: pl.DataFrame
    class_names: Sequence[str] | None = None


OptionsT = TypeVar("OptionsT", bound=Section)


@dataclass(frozen=True)
class DatasetKind(Generic[OptionsT]):
    """One kind of dataset: `options` validates what params.yaml says besides `kind`, `read` opens the source.

    `read` raises InputProblem where the source is not what the options say. A kind without images returns `Labels`; what
    needs pixels refuses its datasets, and features computed elsewhere serve them.
    """

    options: type[OptionsT]
    read: Callable[[OptionsT], Source | Labels]
    images: bool = True


def split_named(name: str) -> Split | None:
    """Return the split that a folder, file or column value names, or None: "validation" and "valid" are "val"."""
    return SPLIT_NAMES.get(name.lower())


def printable(name: str) -> str:
    """Return a file name as text that any table can hold: bytes that are no UTF-8 are written as escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
