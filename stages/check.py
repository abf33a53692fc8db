"""DVC entry: `python -m stages.check` reads params.yaml whole and names the first mistake before anything runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from stages import entry
from stages.artifacts import atomic
from stages.artifacts.accuracies import accuracy_file, read_accuracies
from stages.artifacts.raw import language_file
from stages.errors import InputProblem, nearest
from stages.params import EDIT, PARAMS_FILE, Encoder, FileWeights, GivenFeatures, Params, PretrainWeights

CHECKED = Path("data/checked.json")
GRAPH = Path("dvc.yaml")


def main(settings: Params, _name: str) -> None:
    """Check all of params.yaml and write a file that is always the same: its presence is what other stages need."""
    check(settings)
    if GRAPH.is_file():
        _check_written_out(settings, yaml.safe_load(GRAPH.read_text(encoding="utf-8"))["stages"])
    atomic.write_text(CHECKED, json.dumps({"params": "valid"}) + "\n")


def check(settings: Params) -> None:
    """Raise InputProblem at the first name, option, path, architecture, argument or layer that does not exist.

    Nothing is computed and nothing is fetched: models are built on torch's "meta" device, which knows shapes alone.
    """
    try:
        _check_methods(settings)
        _check_language_files(settings)
        _check_datasets(settings)
        if settings.rank.accuracies is not None:
            path = accuracy_file(settings.rank.accuracies, "params.yaml: rank.accuracies")
            read_accuracies(path, settings.candidates, settings.targets, "params.yaml")
        for name, encoder in settings.encoders.items():
            _check_encoder(encoder, f"params.yaml: encoders.{name}")
        _check_images(settings)
        _check_given(settings)
        _check_surrogates(settings)
    except InputProblem as problem:
        raise InputProblem(problem.what, where=problem.where, next_step=problem.next_step or EDIT) from None


def _check_written_out(settings: Params, stages: dict[str, Any]) -> None:
    """Raise InputProblem where params.yaml leaves out a key that DVC watches: DVC knows no defaults."""
    content = yaml.safe_load(PARAMS_FILE.read_text(encoding="utf-8"))
    watched = [key for stage in stages.values() for key in stage.get("do", stage).get("params", []) if isinstance(key, str)]
    for key in dict.fromkeys(watched):
        written, default = content, settings.model_dump(mode="json")
        for part in () if "${" in key else key.split("."):
            default = default[part]
            if not isinstance(written, dict) or part not in written:
                raise InputProblem(
                    f"{key} is left out, and DVC watches it",
                    where=str(PARAMS_FILE),
                    next_step=f"write it, then `transferscope check`; its default: {key}: {json.dumps(default)}",
                )
            written = written[part]


def _check_methods(settings: Params) -> None:
    from stages.languages import MODELS, PAIR_FEATURES, PROTOCOLS, TASKS, known_languages
    from stages.probe import HEADS
    from stages.prune import PRUNERS, method_of
    from stages.rank import METRICS

    nearest_by = ["nearest_" + name.removesuffix("_distance") for name in PAIR_FEATURES if name.endswith("_distance")]
    named: list[tuple[str, Iterable[str], Iterable[str]]] = [
        ("rank.metrics", settings.rank.metrics, METRICS),
        ("prune.methods", [method_of(name)[0] for name in settings.prune.methods], PRUNERS),
        ("probe.heads", settings.probe.heads, HEADS),
        ("languages.tasks", settings.languages.tasks, TASKS),
        ("languages.languages", settings.languages.languages, known_languages()),
        ("languages.features", settings.languages.features, PAIR_FEATURES),
        ("languages.models", settings.languages.models, [*MODELS, *nearest_by]),
        ("languages.protocols", settings.languages.protocols, PROTOCOLS),
        ("languages.ranker", [settings.languages.ranker], ["chosen", "chosen_by_regret", *MODELS, *nearest_by]),
    ]
    for where, used, known in named:
        valid = set(known)
        for method in used:
            if method not in valid:
                raise InputProblem(f"there is no {method!r}; {nearest(method, valid)}", where=f"params.yaml: {where}")


def _check_language_files(settings: Params) -> None:
    for key, path in (("table", settings.languages.table), ("texts", settings.languages.texts)):
        if path is not None:
            language_file(path, key)


def _check_datasets(settings: Params) -> None:
    from stages.datasets import validate_entry

    for name, dataset in settings.all_datasets.items():
        validate_entry(name, dataset)
    for name, dataset in settings.datasets.files.items():
        path = Path(str(dataset.options["path"]))
        if not path.exists():
            raise InputProblem(f"{path} does not exist; {_siblings(path)}", where=f"params.yaml: datasets.files.{name}.path")


def _check_encoder(encoder: Encoder, where: str) -> None:
    from stages.encoders import build, check_input, data_config, known_architecture

    try:
        known_architecture(encoder.arch, fetched=encoder.weights == "hub")
    except InputProblem as problem:
        raise InputProblem(problem.what, where=f"{where}.arch", next_step=problem.next_step) from None
    try:
        model = build(encoder.arch, encoder.arch_args, num_classes=0, device="meta")
        config = data_config(encoder, model)
    except InputProblem as problem:
        raise InputProblem(problem.what, where=where, next_step=problem.next_step) from None
    check_input(model, encoder.layers, config.input_size, where=where, grids=encoder.grids)
    if isinstance(encoder.weights, PretrainWeights):
        from stages.objectives import chosen

        chosen(encoder.weights, f"{where}.weights")
    if isinstance(encoder.weights, FileWeights):
        _check_weight_file(encoder.weights.file, f"{where}.weights.file")


def _check_images(settings: Params) -> None:
    """Raise InputProblem where something that looks at pixels is asked for on a dataset of rows without images."""
    from stages.datasets import KINDS

    bare = {name for name, dataset in settings.all_datasets.items() if not KINDS[dataset.kind].images}
    needed = [
        (f"encoders.{name}.weights.pretrain", dataset, f"encoder {name!r} would be trained on it")
        for name, encoder in settings.encoders.items() if isinstance(encoder.weights, PretrainWeights)
        for dataset in [encoder.weights.pretrain]
    ]  # fmt: skip
    for name in settings.encoders:
        for dataset in settings.datasets_of(name):
            where = "targets" if dataset in settings.targets else "prune.pairs"
            needed.append((where, dataset, f"encoder {name!r} looks at images; leave `encoders` to targets that have them"))
    for index, pair in enumerate(settings.prune.pairs):
        if pair.encoder is not None:
            needed += [
                (f"prune.pairs.{index}.encoder", dataset, f"the proof would train {pair.encoder!r} on it")
                for dataset in (pair.source, pair.target)
            ]
    for where, dataset, why in needed:
        if dataset in bare:
            what = f"dataset {dataset!r} holds ids and labels, no images, and {why}"
            raise InputProblem(what, where=f"params.yaml: {where}", next_step=EDIT)


def _check_given(settings: Params) -> None:
    if not settings.features:
        return
    from stages.given.files import open_files

    for name, given in settings.features.items():
        for dataset in settings.datasets_of(name):
            open_files(given, dataset, f"params.yaml: features.{name}")


def _check_weight_file(path: Path, where: str) -> None:
    from stages.encoders.load import SUFFIXES
    from stages.sources import weight_file

    if weight_file(path, where).suffix not in SUFFIXES:
        raise InputProblem(f"{path} is none of {', '.join(SUFFIXES)}", where=where)


def _check_surrogates(settings: Params) -> None:
    """Refuse methods that ask a surrogate for the source's classes where its weights cannot know them."""
    from stages.prune import NEED_HEAD, method_of

    asking = [name for name in settings.prune.methods if method_of(name)[0] in NEED_HEAD]
    for index, pair in enumerate(settings.prune.pairs if asking else []):
        lack = _lack(settings.candidate(pair.surrogate))
        if lack:
            raise InputProblem(
                f"{' and '.join(asking)} for {pair.source} -> {pair.target} need{'' if asking[1:] else 's'} a surrogate that "
                f"tells the source's classes apart by name, and {lack}",
                where=f"params.yaml: prune.pairs.{index}.surrogate: {pair.surrogate}",
                next_step=f"in prune.methods use feature_mapping instead, or give {pair.surrogate} "
                f"`weights: {{pretrain: {pair.source}}}` with the objective supervised, then `transferscope check`",
            )


def _lack(surrogate: Encoder | GivenFeatures) -> str | None:
    """Return why the surrogate cannot name the source's classes, None where only `prune` can tell."""
    if isinstance(surrogate, GivenFeatures):
        return "features computed elsewhere come without a head"
    if isinstance(surrogate.weights, PretrainWeights):
        from stages.objectives import chosen

        headless = not chosen(surrogate.weights, "")[0].has_head
        return f"the objective {surrogate.weights.objective} leaves no head" if headless else None
    if surrogate.weights == "hub":
        from timm.models import get_pretrained_cfg

        return None if get_pretrained_cfg(surrogate.arch).num_classes else f"{surrogate.arch} has no head"
    assert isinstance(surrogate.weights, FileWeights)
    from stages.weights import class_names, head_in_file

    path = surrogate.weights.file
    outputs = head_in_file(surrogate, path) if path.suffix == ".safetensors" else 1
    if not outputs:
        return f"{path} has no head"
    if class_names(path, outputs) is None:
        return f"{path} does not name its classes, as a .safetensors file can: `classes` in its metadata, a JSON list"
    return None


def _siblings(path: Path) -> str:
    """Say what exists near a path that does not."""
    folder = path.parent
    while not folder.is_dir():
        folder = folder.parent
    return f"in {folder}: " + nearest(path.name, (member.name for member in folder.iterdir()))


if __name__ == "__main__":
    entry.run("check", main)
