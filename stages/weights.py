"""python -m stages.weights --encoder glyph_byobnet

DVC entry: make an encoder's weights an artifact, whatever they come from (pre-training here, timm's hub, a file, chance).
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from timm.data import ImageNetInfo, infer_imagenet_subset
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from stages import encoders, entry, seeds, training
from stages.artifacts import atomic, manifest, store, weights
from stages.artifacts.dataset import Dataset, Split, require_split
from stages.device import pick_device
from stages.errors import InputProblem, TryAgain, out_of_memory
from stages.objectives import Objective, chosen
from stages.params import EDIT, Encoder, FileWeights, Params, PretrainWeights, Section

CODE = ("weights.py", "training.py", "objectives", "device.py", "encoders", "datasets/decoding.py")
State = dict[str, Tensor]


def main(settings: Params, name: str) -> None:
    """Write data/weights/<name>.safetensors and its card.

    Raises:
        InputProblem: no such encoder, model, layer, hub weights or file, or weights that do not fit the model.
        TryAgain: the hub cannot be reached.
    """
    encoder = settings.encoder(name)
    where = f"params.yaml: encoders.{name}"
    encoders.check_layers(
        encoders.build(encoder.arch, encoder.arch_args, num_classes=0, device="meta"),
        [*encoder.layers, *encoder.grids],
        where=where,
    )
    state, card = _maker(encoder)(settings, name, encoder)
    weights.write(name, state, card)
    print(
        f"{name}: {sum(tensor.numel() for tensor in state.values()):,} parameters, {card.source} {card.origin}", file=sys.stderr
    )


def _maker(encoder: Encoder) -> Callable[[Params, str, Encoder], tuple[State, weights.Card]]:
    if isinstance(encoder.weights, PretrainWeights):
        return from_training
    if isinstance(encoder.weights, FileWeights):
        return from_file
    return {"hub": from_hub, "random": at_random}[encoder.weights]


def _card(
    encoder: Encoder,
    model: nn.Module,
    num_classes: int,
    origin: str,
    classes: list[str],
    training: dict[str, Any] | None = None,
) -> weights.Card:
    source = encoder.weights if isinstance(encoder.weights, str) else next(iter(encoder.weights.model_dump()))
    return weights.Card(
        arch=encoder.arch,
        arch_args=encoder.arch_args,
        num_classes=num_classes,
        **asdict(encoders.data_config(encoder, model)),
        source=source,
        origin=origin,
        sha256="",
        classes=classes,
        training=training or {},
    )


def at_random(settings: Params, name: str, encoder: Encoder) -> tuple[State, weights.Card]:
    """Return freshly initialised weights without a head, seeded by the run's seed and the encoder's name."""
    seed = seeds.integer_seed(settings.run.seed, "weights", name)
    model = encoders.build(encoder.arch, encoder.arch_args, num_classes=0, seed=seed)
    return model.state_dict(), _card(encoder, model, 0, f"seed {settings.run.seed}", [])


def from_file(settings: Params, name: str, encoder: Encoder) -> tuple[State, weights.Card]:
    """Return the weights of a file. The head has as many classes as the file's classifier, or is absent as in the file."""
    assert isinstance(encoder.weights, FileWeights)
    path = encoder.weights.file
    state = encoders.read_weight_file(path)
    bare = encoders.build(encoder.arch, encoder.arch_args, num_classes=0, device="meta")
    num_classes = _classifier_size(bare, {key: tuple(tensor.shape) for key, tensor in state.items()})
    model = encoders.build(encoder.arch, encoder.arch_args, num_classes=num_classes)
    encoders.match_state(model, state, where=str(path))
    origin = f"{path.name} {manifest.sha256(path)}"
    names = class_names(path, num_classes) or _numbered(num_classes)
    return model.state_dict(), _card(encoder, model, num_classes, origin, names)


def head_in_file(encoder: Encoder, path: Path) -> int:
    """Return the outputs of the head in a .safetensors file for this encoder, 0 without one; reads its header alone.

    Raises:
        InputProblem: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as content:
            shapes = {key.removeprefix("module."): tuple(content.get_slice(key).get_shape()) for key in content.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputProblem(f"cannot be read as weights ({_first_line(error)})", where=str(path)) from None
    return _classifier_size(encoders.build(encoder.arch, encoder.arch_args, num_classes=0, device="meta"), shapes)


def class_names(path: Path, num_classes: int) -> list[str] | None:
    """Return the names of the head's outputs from the header of a .safetensors file, None where it holds none.

    They are the entry `classes` of its metadata: a JSON list of one name an output.

    Raises:
        InputProblem: the entry is no list of that many different names.
    """
    if path.suffix != ".safetensors":
        return None
    with safe_open(path, framework="pt") as content:
        written = (content.metadata() or {}).get("classes")
    if written is None:
        return None
    try:
        read = json.loads(written)
    except ValueError:
        read = None
    names = [name for name in read if isinstance(name, str)] if isinstance(read, list) else []
    if not len(set(names)) == len(read or []) == num_classes:
        raise InputProblem(
            f"`classes` in its metadata is no JSON list of {num_classes} different names, one an output of its head",
            where=str(path),
            next_step="save it again with save_file(state, path, metadata={'classes': json.dumps(names)})",
        )
    return names


def _classifier_size(model: nn.Module, shapes: Mapping[str, Sequence[int]]) -> int:
    """Return the outputs of the classifier that timm names for this architecture, 0 where no such weight is there."""
    named = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    for module in (named,) if isinstance(named, str) else named:
        shape = shapes.get(f"{module}.weight")
        if shape:
            return int(shape[0])
    return 0


def _numbered(num_classes: int) -> list[str]:
    return [f"class_{index}" for index in range(num_classes)]


def from_hub(settings: Params, name: str, encoder: Encoder) -> tuple[State, weights.Card]:
    """Return timm's pretrained weights, fetched through timm's own client and its cache."""
    where = f"params.yaml: encoders.{name}"
    try:
        encoders.known_architecture(encoder.arch, fetched=True)
        published = get_pretrained_cfg(encoder.arch)
        model = encoders.build(encoder.arch, encoder.arch_args, num_classes=published.num_classes, pretrained=True)
    except InputProblem as problem:
        raise InputProblem(problem.what, where=where, next_step=problem.next_step or EDIT) from None
    except (OSError, SafetensorError) as error:  # every network failure of requests, urllib and the hub's client is an OSError
        if refused(error):
            raise InputProblem(
                f"the weights of {encoder.arch} are refused ({_first_line(error)})",
                where=where,
                next_step=f"choose another `arch` in params.yaml or log in to the hub, then `dvc repro weights@{name}`",
            ) from None
        raise TryAgain(
            f"the weights of {encoder.arch} cannot be fetched ({_first_line(error)})",
            where=where,
            next_step=f"check the network, then `dvc repro weights@{name}`",
        ) from None
    except (RuntimeError, ValueError) as error:
        if out_of_memory(error):
            raise
        what = f"the weights of {encoder.arch} do not fit ({_first_line(error)})"
        raise InputProblem(what, where=where, next_step=EDIT) from None
    origin = published.hf_hub_id or published.url
    tag = published.tag or ""
    return model.state_dict(), _card(encoder, model, published.num_classes, origin, hub_classes(published.num_classes, tag))


def refused(error: BaseException | None) -> bool:
    """Say whether a server answered a download with a refusal that another try would meet again."""
    while error is not None:  # the hub's client may wrap the server's answer
        status = error.code if isinstance(error, HTTPError) else getattr(getattr(error, "response", None), "status_code", None)
        if status is not None:
            return 400 <= status < 500 and status not in (408, 429)  # these two: too slow, too often
        error = error.__cause__
    return False


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def hub_classes(num_classes: int, tag: str) -> list[str]:
    """Return the class names of a hub model's head: ImageNet's where the tag says so, else class_0, class_1, ...

    Two ImageNet classes are called crane and two maillot: such names are followed by their WordNet id.
    """
    subset = infer_imagenet_subset({"num_classes": num_classes})
    if subset is None or not re.search(r"(^|_)in(1k|12k|21k|22k)$", tag):
        return _numbered(num_classes)
    info = ImageNetInfo(subset)
    names = [info.index_to_description(index) for index in range(num_classes)]
    twice = {text for text in names if names.count(text) > 1} if len(set(names)) < num_classes else set()
    return [f"{text} ({info.index_to_label_name(index)})" if text in twice else text for index, text in enumerate(names)]


@dataclass(frozen=True)
class _Training:
    """What weights trained here are made from."""

    dataset: Dataset
    objective: Objective
    options: Section
    recipe: training.Recipe
    seed: int
    device: torch.device


def from_training(settings: Params, name: str, encoder: Encoder) -> tuple[State, weights.Card]:
    """Return weights trained on a dataset's train split. A finished training is kept in the store: what does not change
    it (another list of layers) does not repeat it."""
    asked = encoder.weights
    assert isinstance(asked, PretrainWeights)
    objective, options = chosen(asked, f"params.yaml: encoders.{name}.weights")
    dataset = Dataset.open(asked.pretrain)
    classes = dataset.classes if objective.has_head else []
    seed = seeds.integer_seed(settings.run.seed, "weights", name)
    model = encoders.build(encoder.arch, encoder.arch_args, num_classes=len(classes), seed=seed)
    card = _card(encoder, model, len(classes), dataset.name, classes)
    recipe = training.Recipe(**settings.pretrain.model_dump(), precision=settings.run.precision)
    work = _Training(dataset, objective, options, recipe, seed, pick_device(settings.run))
    aim = {"objective": asked.objective, **options.model_dump()}
    inputs = {
        "dataset": dataset.identity, "card": asdict(card), "recipe": asdict(recipe), "seed": seed, "aim": aim,
        "device": work.device.type, "threads": settings.run.threads,
    }  # fmt: skip
    folder = store.folder("training", store.key(inputs, CODE))
    state, facts = _kept(folder)
    if facts is None:
        facts = {**aim, **_train(settings, name, model, card, work, folder / "checkpoints")}
        state = {key: tensor.detach().cpu() for key, tensor in model.state_dict().items()}
        _keep(folder, state, facts)
    return state, _card(encoder, model, len(classes), dataset.name, classes, facts)


def _train(
    settings: Params, name: str, model: nn.Module, card: weights.Card, work: _Training, checkpoints: Path
) -> dict[str, Any]:
    """Train `model` in place and return the card's account of it."""
    preprocess = encoders.Preprocess.of(card)

    def pixels_of(split: Split) -> tuple[Tensor, Tensor]:
        limit, workers = settings.ingest.max_pixels, settings.run.decoding_workers
        return training.load_pixels(work.dataset, split, preprocess, max_pixels=limit, workers=workers)

    require_split(work.dataset.rows, "train", work.dataset.name)
    pixels, labels = pixels_of("train")
    log = training.train(
        work.objective.wrap(model, work.seed), pixels, labels, preprocess, work.recipe, seed=work.seed, device=work.device,
        loss=work.objective.loss(work.options), checkpoints=checkpoints, label=f"pretrain {name}",
    )  # fmt: skip
    facts: dict[str, Any] = {**asdict(work.recipe), "n_images": len(pixels), "steps": log.steps, "final_loss": log.final_loss}
    held_out: tuple[Split, Split] = ("val", "test")
    for split in held_out:
        measured = work.objective.measure(work.options, model, *pixels_of(split), preprocess, work.device, work.seed)
        facts.update({f"{split}_{what}": value for what, value in measured.items()})
    return facts


def _kept(folder: Path) -> tuple[State, dict[str, Any] | None]:
    """Return a finished training's tensors and account, or nothing and None where they are not there or damaged."""
    kept = training.kept_account(folder / "facts.json")
    if kept is None:
        return {}, None
    tensors = folder / "model.safetensors"
    if not tensors.is_file() or manifest.sha256(tensors) != kept["tensors"]:
        training.drop_damaged(tensors)
        return {}, None
    return load_file(tensors), kept["facts"]


def _keep(folder: Path, state: State, facts: dict[str, Any]) -> None:
    """Keep a finished training; the account is written last, and then the checkpoints are of no more use."""
    with atomic.new_file(folder / "model.safetensors") as scratch:
        save_file({key: tensor.contiguous().clone() for key, tensor in state.items()}, scratch)
        digest = manifest.sha256(scratch)
    training.keep_account(folder / "facts.json", {"facts": facts, "tensors": digest})
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


if __name__ == "__main__":
    entry.run("weights", main, item="encoder")
