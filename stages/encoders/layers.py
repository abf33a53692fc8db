"""What a timm model's layers are called, how deep they lie, and what may be asked of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from stages.encoders.pooling import POOLS
from stages.errors import InputProblem, nearest

POOLED = "pooled"  # the vector that the classifier head sees
UNPOOLED = "unpooled"  # what timm's `forward_features` returns


def layer_names(model: nn.Module) -> list[str]:
    """Return what is usually tapped: "pooled", "unpooled", then stages and blocks by module name, in the model's own order.

    A stage is a module that timm names in `feature_info`, or a numbered child of one of the model's own sequences
    (`stages.1`, `blocks.8`); a block is a numbered child of a stage (`stages.1.0`, `layers.2.blocks.3`).
    """
    modules = dict(model.named_modules())
    heads = {name.partition(".")[0] for name in _classifiers(model)}
    stages = {entry["module"] for entry in feature_info(model)}
    for name in modules:
        parent, _, last = name.rpartition(".")
        if last.isdigit() and "." not in parent and _is_sequence(modules[parent]) and parent not in heads:
            stages.add(name)
    names = [POOLED, UNPOOLED]
    for name, module in modules.items():
        if isinstance(module, nn.ModuleList):  # a list of modules is never run itself
            continue
        parent, _, last = name.rpartition(".")
        block = last.isdigit() and _is_sequence(modules[parent]) and (parent in stages or parent.rpartition(".")[0] in stages)
        if name in stages or block:
            names.append(name)
    return names


def module_of(layer: str) -> str:
    """Return the layer's name without its pooling: "blocks.3" of "blocks.3@gem"."""
    return layer.partition("@")[0]


def depths(model: nn.Module, layers: Sequence[str] | None = None) -> dict[str, float]:
    """Return how deep each layer ends, in (0, 1], "pooled" at 1; by default of all `layer_names`.

    Depth is the share of the model's weight matrices and kernels, the classifier left out, that lie up to the layer's end
    in the model's own order.
    """
    asked = layer_names(model) if layers is None else list(layers)
    names = {module_of(layer) for layer in asked} - {POOLED, UNPOOLED}
    heads = _classifiers(model)
    ends, passed = dict.fromkeys(names, 0), 0
    for name, module in model.named_modules():
        inside = [layer for layer in names if name == layer or name.startswith(f"{layer}.")]
        if name not in heads:
            passed += sum(weight.ndim > 1 for weight in module.parameters(recurse=False))
        ends |= dict.fromkeys(inside, passed)
    found = {name: end / (passed + 1) for name, end in ends.items()} | {POOLED: 1.0, UNPOOLED: passed / (passed + 1)}
    return {layer: found[module_of(layer)] for layer in asked}


def check_layers(model: nn.Module, layers: Sequence[str], *, where: str) -> None:
    """Raise InputProblem, with the valid names nearest to it, at the first layer that the model does not have.

    Any module of the model is a layer, not only those of `layer_names`; what follows "@" is one of `POOLS`.
    """
    listed = layer_names(model)
    modules = {name for name, module in model.named_modules() if name and not isinstance(module, nn.ModuleList)}
    for layer in layers:
        name, at, pool = layer.partition("@")
        if name not in listed and name not in modules:
            raise InputProblem(
                f"the model has no layer {name!r}; {nearest(name, listed)}",
                where=where,
                next_step="`python -m stages.encoders <arch>` lists the layers of a model",
            )
        if at and (pool not in POOLS or name == POOLED):
            what = "`pooled` is a vector already" if name == POOLED else nearest(pool, POOLS)
            raise InputProblem(f"{layer!r} asks for no pooling that there is; {what}", where=where)


def feature_info(model: nn.Module) -> list[dict[str, Any]]:
    """Return timm's account of the stages: module, num_chs, reduction (input pixels by side of one position)."""
    info = getattr(model, "feature_info", None)
    entries = [] if info is None else info if isinstance(info, list) else info.info
    return [dict(entry) for entry in entries if entry.get("module")]


def _is_sequence(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential | nn.ModuleList)


def _classifiers(model: nn.Module) -> set[str]:
    """Return the names of the modules that timm calls the classifier; a distilled model has two."""
    named = getattr(model, "default_cfg", {}).get("classifier") or ()
    return {named} if isinstance(named, str) else set(named)
