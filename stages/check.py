"""DVC entry: `python -m stages.check` reads params.yaml whole and names the first mistake before anything runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from stages import entry
from stages.artifacts import atomic
from stages.datasets import validate_entry
from stages.encoders import build, check_layers, data_config
from stages.errors import InputProblem, nearest
from stages.params import FileWeights, Params

CHECKED = Path("data/checked.json")
WEIGHT_FILES = Path("data/raw/weights")


def main(settings: Params, _name: str) -> None:
    """Check all of params.yaml and write a file that is always the same: its presence is what other stages need."""
    check(settings)
    atomic.write_text(CHECKED, json.dumps({"params": "valid"}) + "\n")


def check(settings: Params) -> None:
    """Raise InputProblem at the first name, option, path, architecture, argument or layer that does not exist."""
    for name, dataset in settings.all_datasets.items():
        try:
            validate_entry(name, dataset)
        except InputProblem as problem:
            raise _in_params(problem, "datasets", name) from None
    for name, dataset in settings.datasets.files.items():
        path = Path(str(dataset.options["path"]))
        if not path.exists():
            raise InputProblem(f"{path} does not exist; {_siblings(path)}", where=f"params.yaml: datasets.files.{name}.path")
    for name, encoder in settings.encoders.items():
        where = f"params.yaml: encoders.{name}"
        if isinstance(encoder.weights, FileWeights):
            _check_weight_file(encoder.weights.file, f"{where}.weights.file")
        try:
            model = build(encoder.arch, encoder.arch_args, num_classes=0, device="meta")
            data_config(encoder, model)
        except InputProblem as problem:
            raise _in_params(problem, "encoders", name) from None
        check_layers(model, encoder.layers, where=f"{where}.layers")
    _check_methods(settings)


def _check_methods(settings: Params) -> None:
    from stages.languages import PAIR_FEATURES, TASKS, known_languages
    from stages.probe import HEADS
    from stages.prune import PRUNERS
    from stages.rank import METRICS

    named: list[tuple[str, Iterable[str], Iterable[str]]] = [
        ("rank.metrics", settings.rank.metrics, METRICS),
        ("prune.methods", settings.prune.methods, PRUNERS),
        ("probe.heads", settings.probe.heads, HEADS),
        ("languages.tasks", settings.languages.tasks, TASKS),
        ("languages.languages", settings.languages.languages, known_languages()),
        ("languages.features", settings.languages.features, PAIR_FEATURES),
    ]
    for where, used, known in named:
        valid = set(known)
        for method in used:
            if method not in valid:
                raise InputProblem(f"there is no {method!r}; {nearest(method, valid)}", where=f"params.yaml: {where}")


def _check_weight_file(path: Path, where: str) -> None:
    if path.parent.as_posix() != WEIGHT_FILES.as_posix() and WEIGHT_FILES not in path.parents:
        raise InputProblem(f"{path} is outside {WEIGHT_FILES}, the folder that DVC watches for weights", where=where)
    if not path.is_file():
        raise InputProblem(f"{path} does not exist; {_siblings(path)}", where=where)


def _siblings(path: Path) -> str:
    """Say what exists near a path that does not."""
    folder = path.parent
    while not folder.is_dir():
        folder = folder.parent
    return f"in {folder}: " + nearest(path.name, (member.name for member in folder.iterdir()))


def _in_params(problem: InputProblem, section: str, name: str) -> InputProblem:
    inner = f".{problem.where}" if problem.where and problem.where.isidentifier() else ""
    return InputProblem(problem.what, where=f"params.yaml: {section}.{name}{inner}", next_step=problem.next_step)


if __name__ == "__main__":
    entry.run("check", main)
