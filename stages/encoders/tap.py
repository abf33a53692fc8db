"""Tap any named layer of a timm model: all layers and the head in one forward pass, each pooled to a vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stages.errors import InputProblem, nearest, out_of_memory

POOLED = "pooled"  # the vector that the classifier head sees


def layer_names(model: nn.Module) -> list[str]:
    """Return what can be tapped: "pooled" first, then stages and blocks by module name, in the model's own order.

    A stage is a module that timm names in `feature_info`, or a numbered child of one of the model's own sequences
    (`stages.1`, `blocks.8`); a block is a numbered child of a stage (`stages.1.0`, `layers.2.blocks.3`).
    """
    modules = dict(model.named_modules())
    classifier = getattr(model, "default_cfg", {}).get("classifier") or ()
    heads = {name.partition(".")[0] for name in ((classifier,) if isinstance(classifier, str) else classifier)}
    stages = {entry["module"] for entry in _feature_info(model)}
    for name in modules:
        parent, _, last = name.rpartition(".")
        if last.isdigit() and "." not in parent and _is_sequence(modules[parent]) and parent not in heads:
            stages.add(name)
    names = [POOLED]
    for name, module in modules.items():
        if isinstance(module, nn.ModuleList):  # a list of modules is never run itself
            continue
        parent, _, last = name.rpartition(".")
        block = last.isdigit() and _is_sequence(modules[parent]) and (parent in stages or parent.rpartition(".")[0] in stages)
        if name in stages or block:
            names.append(name)
    return names


def depths(model: nn.Module) -> dict[str, float]:
    """Return how deep each layer of `layer_names` ends, in (0, 1], "pooled" at 1.

    Depth is the share of the model's weight matrices and kernels, the classifier left out, that lie up to the layer's end
    in the model's own order.
    """
    names = layer_names(model)[1:]
    classifier = getattr(model, "default_cfg", {}).get("classifier") or ()
    heads = {classifier} if isinstance(classifier, str) else set(classifier)
    ends, passed = dict.fromkeys(names, 0), 0
    for name, module in model.named_modules():
        inside = [layer for layer in names if name == layer or name.startswith(f"{layer}.")]
        if name not in heads:
            passed += sum(weight.ndim > 1 for weight in module.parameters(recurse=False))
        ends |= dict.fromkeys(inside, passed)
    return {POOLED: 1.0, **{name: end / (passed + 1) for name, end in ends.items()}}


def _is_sequence(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential | nn.ModuleList)


def _feature_info(model: nn.Module) -> list[dict[str, Any]]:
    """Return timm's account of the stages: module, num_chs, reduction (input pixels by side of one position)."""
    info = getattr(model, "feature_info", None)
    entries = [] if info is None else info if isinstance(info, list) else info.info
    return [dict(entry) for entry in entries if entry.get("module")]


def check_layers(model: nn.Module, layers: Sequence[str], *, where: str) -> None:
    """Raise InputProblem, with the valid names nearest to it, at the first layer that the model does not have."""
    valid = layer_names(model)
    for layer in layers:
        if layer not in valid:
            raise InputProblem(
                f"the model has no layer {layer!r}; {nearest(layer, valid)}",
                where=where,
                next_step="`python -m stages.encoders <arch>` lists the layers of a model",
            )


def check_input(model: nn.Module, layers: Sequence[str], input_size: tuple[int, int, int], *, where: str) -> None:
    """Run one image through the model; on the "meta" device this computes shapes alone.

    Raises:
        InputProblem: the model has no such layer, does not take images of this size, or does not use the layer.
    """
    check_layers(model, layers, where=f"{where}.layers")
    device = next(model.parameters()).device
    try:
        Tapped(model, layers)(torch.empty(1, *input_size, device=device))
    except InputProblem as problem:
        raise InputProblem(problem.what, where=f"{where}.layers", next_step=problem.next_step) from None
    except Exception as error:  # what a model raises on images it is not made for is open-ended
        if out_of_memory(error):
            raise
        size = " x ".join(map(str, input_size))
        raise InputProblem(
            f"the model does not take images of {size} (channels, height, width): {str(error) or type(error).__name__}",
            where=f"{where}.input_size",
            next_step="leave `input_size` out to take timm's, or give the model the same size in `arch_args`",
        ) from None


class Tapped:
    """A model and the layers to keep. Calling it runs one forward pass; between calls the model is as it was.

    Args:
        model: a timm model in evaluation mode.
        layers: names from `layer_names`.

    Outputs [n, c, h, w] and [n, h, w, c] become their mean over space, token outputs [n, t, c] the mean over the
    tokens that stand for patches (class and register tokens left out). Of a module with several outputs the one with
    the channels that timm states is taken, else the first.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        check_layers(model, layers, where=type(model).__name__)
        self.model, self.layers = model, list(layers)
        # timm's own word on the layout where it has one; Swin and relatives keep channels last.
        self._channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        self._prefix_tokens = int(getattr(model, "num_prefix_tokens", 0))
        self._stages = {entry["module"]: entry for entry in _feature_info(model)}

    def __call__(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return features by layer, each [n, d], and the head's logits [n, classes] or None where there is no head.

        Args:
            images: normalised images [n, c, h, w].

        Raises:
            InputProblem: the forward pass does not run a layer, or the layer's output is no feature map.
        """
        model: Any = self.model
        kept: dict[str, Any] = {}

        def keep(layer: str) -> Any:
            return lambda _module, _inputs, output: kept.__setitem__(layer, output)

        hooks = [model.get_submodule(layer).register_forward_hook(keep(layer)) for layer in self.layers if layer != POOLED]
        try:
            with torch.inference_mode():
                body = model.forward_features(images)
                if POOLED in self.layers:
                    kept[POOLED] = model.forward_head(body, pre_logits=True)
                logits = model.forward_head(body) if getattr(model, "num_classes", 0) else None
                return {layer: self._pool(layer, kept, images) for layer in self.layers}, logits
        finally:
            for hook in hooks:
                hook.remove()

    def _pool(self, layer: str, kept: dict[str, Any], images: Tensor) -> Tensor:
        if layer not in kept:
            raise InputProblem(f"the forward pass does not run {layer!r}; tap its parent or its children")
        n = len(images)
        stage = self._stage(layer)
        channels = stage.get("num_chs")
        outputs = kept[layer] if isinstance(kept[layer], tuple | list) else [kept[layer]]
        maps = [output for output in outputs if isinstance(output, Tensor) and output.ndim in (2, 3, 4) and len(output) == n]
        maps = [output for output in maps if channels in output.shape[1:]] or maps
        if not maps:
            raise InputProblem(f"the output of {layer!r} is no feature map of {n} images")
        output = maps[0]
        if output.ndim == 4:  # (n, c, h, w) or (n, h, w, c)
            last = self._channels_last
            if (output.shape[1] == channels) != (output.shape[3] == channels):
                last = output.shape[3] == channels
            return output.mean(dim=(1, 2) if last else (2, 3))
        if output.ndim == 3:  # (n, t, c)
            return output[:, self._leading(output.shape[1], stage, images) :].mean(dim=1)
        return output

    def _stage(self, layer: str) -> dict[str, Any]:
        """Return timm's entry for a layer or the stage around it, empty where there is none."""
        while layer and layer not in self._stages:
            layer = layer.rpartition(".")[0]
        return self._stages.get(layer, {})

    def _leading(self, tokens: int, stage: dict[str, Any], images: Tensor) -> int:
        """Return how many class and register tokens lead: none where a model adds them behind its blocks (CaiT, XCiT)."""
        reduction = stage.get("reduction")
        if reduction:
            height, width = images.shape[2:]
            if tokens in (height // reduction * (width // reduction), -(-height // reduction) * -(-width // reduction)):
                return 0
        return self._prefix_tokens
