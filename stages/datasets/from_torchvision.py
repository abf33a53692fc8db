"""Kind `torchvision`: any classification dataset of torchvision, by the name of its class there."""

from __future__ import annotations

import inspect
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import Field, field_validator

from stages.artifacts.dataset import Split
from stages.datasets.contract import DatasetKind, Raw, Source
from stages.errors import InputProblem, TryAgain, nearest
from stages.params import Section

DOWNLOADS = Path("data/raw/torchvision")  # they may be the only copy: not in the store, which can be dropped
OURS = ("root", "download", "transform", "target_transform", "transforms", "loader", "is_valid_file")
# What torchvision's classes call their splits, the first that a class knows is taken.
SPLIT_VALUES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "trainval", "train-standard"),
    "val": ("val", "valid", "validation"),
    "test": ("test",),
}
PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16")


class Options(Section):
    """The class, where its files are, and its other arguments."""

    name: str
    path: Path = DOWNLOADS  # torchvision's `root`
    download: bool = False
    args: dict[str, Any] = Field(default={})

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        known = _classes()
        if name not in known:
            raise ValueError(f"torchvision has no {name!r}; {nearest(name, known)}")
        return name


def read(options: Options) -> Source:
    """Open a dataset in torchvision's own on-disk format; its images become lossless PNG.

    Splits come from the class's `train` or `split` argument, unless `args` fixes it; a class with neither has none.
    Images are read one by one, so memory is what the class itself keeps. For large photographs PNG takes several
    times the bytes of the JPEG: there, kind `imagefolder` keeps the files as they are.

    Raises:
        InputProblem: an argument the class does not take, files that are absent or damaged, or a target that is no
            class number.
        TryAgain: the download failed.
    """
    made = _classes()[options.name]
    parameters = _parameters(made)
    for argument in options.args:
        if argument in OURS or argument not in parameters:
            raise InputProblem(
                f"args: {options.name} takes no {argument!r} here; {nearest(argument, set(parameters) - set(OURS))}",
                where=f"torchvision {options.name}",
            )
    if options.download and "download" not in parameters:
        raise InputProblem(
            "torchvision cannot download it", where=f"torchvision {options.name}", next_step="set `path` to your copy"
        )
    parts = _parts(made, parameters, options)
    names = _class_names(next(iter(parts.values())))

    def rows() -> Iterator[Raw]:
        for split, part in parts.items():
            # Iterating a torchvision dataset itself would go on for ever where it does not raise IndexError.
            for index in range(len(part)):
                image, target = part[index][:2]
                label = _label(target, names, options.name)
                yield Raw(f"{split or 'all'}/{index:08d}", label, split, _png(image, options.name))

    return Source(rows(), total=sum(map(len, parts.values())), class_names=names)


def _classes() -> dict[str, type[Any]]:
    from torchvision import datasets

    found = {name: getattr(datasets, name) for name in datasets.__all__}
    return {name: made for name, made in found.items() if inspect.isclass(made) and made is not datasets.VisionDataset}


def _parameters(made: type[Any]) -> dict[str, inspect.Parameter]:
    """Return what the constructor takes, parents included where it hands on `**kwargs`."""
    found: dict[str, inspect.Parameter] = {}
    for owner in made.__mro__:
        constructor = vars(owner).get("__init__")
        if constructor is None:
            continue
        own = inspect.signature(constructor).parameters
        named = {name: parameter for name, parameter in own.items() if parameter.kind is not inspect.Parameter.VAR_KEYWORD}
        found = {**named, **found}
        if len(named) == len(own):
            break
    found.pop("self", None)
    return found


def _parts(made: type[Any], parameters: dict[str, inspect.Parameter], options: Options) -> dict[Split | None, Any]:
    """Return the dataset of every split that the class has, or one under None where it has no splits."""
    if "train" in parameters and "train" not in options.args:
        trains: dict[Split | None, bool] = {"train": True, "test": False}
        return {split: _opened(made, parameters, options, train=train) for split, train in trains.items()}
    if "split" not in parameters or "split" in options.args:
        return {None: _opened(made, parameters, options)}
    parts: dict[Split | None, Any] = {}
    for split, values in SPLIT_VALUES.items():
        for value in values:
            try:
                parts[split] = _opened(made, parameters, options, split=value)
            except _UnknownValue:
                continue
            break
    if not parts:
        raise InputProblem(
            "its `split` is none that is known here", where=f"torchvision {options.name}", next_step="set it in `args`"
        )
    return parts


class _UnknownValue(Exception):
    """The class knows no such split."""


def _opened(made: type[Any], parameters: dict[str, inspect.Parameter], options: Options, **chosen: object) -> Any:
    where = f"torchvision {options.name} in {options.path}"
    arguments = {**options.args, **chosen}
    if "root" in parameters:
        arguments["root"] = options.path
    if "download" in parameters:
        arguments["download"] = options.download
    try:
        return made(**arguments)
    except ValueError as error:
        if "split" in chosen and str(error).startswith("Unknown value"):
            raise _UnknownValue from None
        raise InputProblem(f"does not open: {error}", where=where, next_step="correct `args`") from None
    except TypeError as error:
        raise InputProblem(f"does not open: {error}", where=where, next_step="add what is missing to `args`") from None
    except (RuntimeError, OSError) as error:  # torchvision's checks say RuntimeError, urllib's failures are OSError
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        if options.download:
            raise TryAgain(f"could not be fetched: {message}", where=where, next_step="check the network") from None
        raise InputProblem(
            f"does not open: {message}", where=where, next_step="set `path` to the files, or `download: true`"
        ) from None


def _class_names(part: Any) -> list[str] | None:
    """Return the class names in order of their numbers; a name that occurs twice makes all carry their number."""
    classes = getattr(part, "classes", None)
    if not isinstance(classes, list) or not classes:
        return None
    names = [", ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in classes]
    return names if len(set(names)) == len(names) else [f"{index} {name}" for index, name in enumerate(names)]


def _label(target: Any, names: list[str] | None, name: str) -> str:
    scalar = hasattr(target, "item") and getattr(target, "shape", ()) in ((), (1,))  # of numpy or torch
    number = target.item() if scalar else target
    if isinstance(number, bool) or not isinstance(number, int):
        raise InputProblem(
            f"its target is {type(target).__name__}, not a class number", where=f"torchvision {name}",
            next_step="choose a classification dataset, or another `target_type` in `args`",
        )  # fmt: skip
    return names[number] if names is not None and 0 <= number < len(names) else str(number)


def _png(image: object, name: str) -> bytes:
    if not isinstance(image, Image.Image):
        raise InputProblem(f"it yields {type(image).__name__}, not images", where=f"torchvision {name}")
    buffer = io.BytesIO()
    (image if image.mode in PNG_MODES else image.convert("RGB")).save(buffer, format="PNG")
    return buffer.getvalue()


KIND = DatasetKind(Options, read)
