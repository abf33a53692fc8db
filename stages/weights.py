"""DVC entry: `python -m stages.weights --encoder glyph_vit` trains, fetches, copies or initialises an encoder's weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from stages import entry
from stages.artifacts import manifest, store, weights
from stages.artifacts.dataset import Dataset
from stages.encoders import Preprocess, build, check_layers, data_config, match_state, read_weight_file
from stages.errors import TryAgain
from stages.params import Encoder, FileWeights, Params, PretrainWeights
from stages.seeds import integer_seed
from stages.training import Recipe, load_pixels, pick_device, predict, train

CODE = ("weights.py", "training.py", "encoders", "datasets/decoding.py")


def main(settings: Params, name: str) -> None:
    """Make `data/weights/<name>.safetensors` and its card."""
    encoder = settings.encoders[name]
    if isinstance(encoder.weights, PretrainWeights):
        model, facts = _pretrained(settings, name, encoder, encoder.weights.pretrain)
    elif isinstance(encoder.weights, FileWeights):
        model, facts = _from_file(encoder, encoder.weights.file)
    elif encoder.weights == "hub":
        model, facts = _from_hub(encoder)
    else:
        model = build(encoder.arch, encoder.arch_args, num_classes=0, seed=integer_seed(settings.run.seed, "weights", name))
        facts = {"source": "random", "origin": f"seed {settings.run.seed}", "classes": []}
    check_layers(model, encoder.layers, where=f"params.yaml: encoders.{name}.layers")
    config = data_config(encoder, model)
    card = weights.Card(
        arch=encoder.arch, arch_args=encoder.arch_args, num_classes=len(facts["classes"]), sha256="",
        **asdict(config), **{"training": {}, **facts},
    )  # fmt: skip
    weights.write(name, model.state_dict(), card)


def _pretrained(settings: Params, name: str, encoder: Encoder, source: str) -> tuple[nn.Module, dict[str, Any]]:
    """Train on the source's train split; the newest epoch is kept in the store until the training is done."""
    dataset = Dataset.open(source)
    seed = integer_seed(settings.run.seed, "weights", name)
    recipe = Recipe(**settings.pretrain.model_dump())
    model = build(encoder.arch, encoder.arch_args, num_classes=len(dataset.classes), seed=seed)
    preprocess = Preprocess.of(data_config(encoder, model))
    device = pick_device(settings.run)
    pixels, labels = load_pixels(dataset, "train", preprocess, max_pixels=settings.ingest.max_pixels)
    unit = {"dataset": dataset.identity, "encoder": encoder.model_dump(mode="json"), "recipe": asdict(recipe), "seed": seed}
    log = train(
        model, pixels, labels, preprocess, recipe, seed=seed, device=device, precision=settings.run.precision,
        checkpoints=store.folder("training", store.key(unit, CODE)), label=f"pretrain {name} on {source}",
    )  # fmt: skip
    test_pixels, test_labels = load_pixels(dataset, "test", preprocess, max_pixels=settings.ingest.max_pixels)
    right = predict(model, test_pixels, preprocess, device).argmax(dim=1) == test_labels
    training = {
        **asdict(recipe), "steps": log.steps, "losses": [round(loss, 6) for loss in log.losses],
        "test_accuracy": round(float(right.float().mean()), 6),
    }  # fmt: skip
    return model, {"source": "pretrain", "origin": source, "classes": dataset.classes, "training": training}


def _from_file(encoder: Encoder, path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Read weights from a file; the head's size is what the file says."""
    state = read_weight_file(path)
    classes = _head_outputs(encoder, state)
    model = build(encoder.arch, encoder.arch_args, num_classes=classes)
    match_state(model, state, where=str(path))
    return model, {"source": "file", "origin": f"{path.name} {manifest.sha256(path)[:16]}", "classes": _numbered(classes)}


def _head_outputs(encoder: Encoder, state: dict[str, Tensor]) -> int:
    """Return the number of outputs of the head that `state` holds, 0 where it holds none."""
    headed = build(encoder.arch, encoder.arch_args, num_classes=2, device="meta")
    bare = build(encoder.arch, encoder.arch_args, num_classes=0, device="meta")
    head = sorted(set(headed.state_dict()) - set(bare.state_dict()))
    biases = [key for key in head if key.endswith("bias") and key in state] or [key for key in head if key in state]
    return int(state[biases[-1]].shape[0]) if biases else 0


def _from_hub(encoder: Encoder) -> tuple[nn.Module, dict[str, Any]]:
    """Fetch timm's own weights, with the head they came with."""
    cfg = timm.get_pretrained_cfg(encoder.arch)
    classes = int(cfg.num_classes) if cfg is not None else 0
    try:
        model = build(encoder.arch, encoder.arch_args, num_classes=classes, pretrained=True)
    except (RuntimeError, OSError, ValueError) as error:
        raise TryAgain(
            f"the weights of {encoder.arch} could not be fetched ({type(error).__name__}: {error})",
            next_step="check the network, or give the weights as {file: data/raw/weights/...}",
        ) from None
    return model, {"source": "hub", "origin": str(cfg.hf_hub_id or encoder.arch), "classes": _numbered(classes)}


def _numbered(count: int) -> list[str]:
    return [f"class_{index:04d}" for index in range(count)]


if __name__ == "__main__":
    entry.run("weights", main, item="encoder")
