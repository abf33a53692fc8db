"""Tap any named layer of a timm model: all layers and the head in one forward pass, each pooled to a vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stages.errors import InputProblem, nearest

POOLED = "pooled"  # the vector that the classifier head sees


def layer_names(model: nn.Module) -> list[str]:
    """Return what can be tapped: "pooled" first, then stages and blocks by module name, in the order they run.

    A stage is a module that timm names in `feature_info`, a block is a direct child of a stage or of a sequence of
    stages or blocks.
    """
    stages = [info["module"] for info in _feature_info(model) if info.get("module")]
    parents = {name.rpartition(".")[0] for name in stages if "." in name}
    names = [POOLED]
    for name, _ in model.named_modules():
        head, _, last = name.rpartition(".")
        block = last.isdigit() and (head in parents or head in stages or head.rpartition(".")[0] in stages)
        if name in stages or block:
            names.append(name)
    return names


def _feature_info(model: nn.Module) -> list[dict[str, Any]]:
    info = getattr(model, "feature_info", None)
    if info is None:
        return []
    return [dict(entry) for entry in (info if isinstance(info, list) else info.info)]


def check_layers(model: nn.Module, layers: Sequence[str], *, where: str) -> None:
    """Raise InputProblem, with the valid names nearest to it, at the first layer that the model does not have."""
    valid = layer_names(model)
    for layer in layers:
        if layer not in valid:
            raise InputProblem(f"the model has no layer {layer!r}; {nearest(layer, valid)}", where=where)


class Tapped:
    """A model and the layers to keep. Calling it runs one forward pass.

    Args:
        model: a timm model in evaluation mode.
        layers: names from `layer_names`.

    Outputs [n, c, h, w] and [n, h, w, c] become their mean over space, token outputs [n, t, c] the mean over the
    tokens that stand for patches (class and register tokens left out).
    """

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        check_layers(model, layers, where=type(model).__name__)
        self.model, self.layers = model, list(layers)
        self._kept: dict[str, Tensor] = {}
        # timm's own word on the layout where it has one; Swin and relatives keep channels last.
        self._channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        self._prefix_tokens = int(getattr(model, "num_prefix_tokens", 0))
        self._dims: dict[str, int | None] = {entry["module"]: entry.get("num_chs") for entry in _feature_info(model)}
        for layer in self.layers:
            if layer != POOLED:
                model.get_submodule(layer).register_forward_hook(self._hook(layer))

    def _hook(self, layer: str) -> Any:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            self._kept[layer] = self._pool(layer, output[0] if isinstance(output, tuple | list) else output)

        return keep

    def _pool(self, layer: str, output: Tensor) -> Tensor:
        if output.ndim == 4:  # (n, c, h, w) or (n, h, w, c)
            channels = self._dims.get(layer)
            last = output.shape[3] == channels != output.shape[1] if channels else self._channels_last
            return output.mean(dim=(1, 2) if last else (2, 3))
        if output.ndim == 3:  # (n, t, c)
            return output[:, self._prefix_tokens :].mean(dim=1)
        return output.flatten(1)

    def __call__(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return features by layer, each [n, d], and the head's logits [n, classes] or None where there is no head.

        Args:
            images: normalised images [n, c, h, w].
        """
        self._kept.clear()
        model: Any = self.model
        with torch.inference_mode():
            body = model.forward_features(images)
            pooled = model.forward_head(body, pre_logits=True) if POOLED in self.layers else None
            logits = model.forward_head(body) if getattr(model, "num_classes", 0) else None
        features = {layer: pooled if layer == POOLED else self._kept[layer] for layer in self.layers}
        self._kept = {}
        return {layer: value.flatten(1) for layer, value in features.items() if value is not None}, logits
