"""Build any timm model by name, and resolve the data config that decides size, mean, std and interpolation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from torch import nn

from stages import params
from stages.errors import InputProblem, nearest, out_of_memory

# timm.create_model takes these as well; where weights come from is for `weights` alone to say, and a checkpoint path
# would go around the safe reader.
_NOT_ARGUMENTS = frozenset({
    "cache_dir", "checkpoint_path", "exportable", "features_only", "num_classes", "pretrained", "pretrained_cfg",
    "pretrained_cfg_overlay", "pretrained_strict", "scriptable",
})  # fmt: skip


@dataclass(frozen=True)
class DataConfig:
    """How an encoder wants its images: channels, height, width; mean and std of a 0..1 scale; resize and crop."""

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float


def known_architecture(arch: str, *, fetched: bool = False) -> None:
    """Raise InputProblem, with the nearest names, unless timm knows `arch` (with or without a pretrained tag).

    Args:
        arch: timm's model name, for instance "vit_base_patch16_224.augreg_in21k".
        fetched: ask for weights on the hub as well.
    """
    name, _, tag = arch.partition(".")
    if not timm.is_model(name):
        raise InputProblem(f"timm has no model {name!r}; {nearest(name, timm.list_models())}")
    tags = {full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")}
    if tag and tag not in tags:
        raise InputProblem(f"timm has no weights {tag!r} for {name}; {nearest(tag, tags)}")
    if fetched and not timm.is_model_pretrained(arch):
        raise InputProblem(
            f"the hub has no weights for {name}; {nearest(name, (full.partition('.')[0] for full in timm.list_pretrained()))}"
        )


def build(
    arch: str,
    arch_args: dict[str, Any],
    *,
    num_classes: int,
    seed: int | None = None,
    device: str = "cpu",
    pretrained: bool = False,
) -> nn.Module:
    """Build a timm model in evaluation mode.

    Args:
        arch: timm's model name, with or without a pretrained tag.
        arch_args: keyword arguments of the model.
        num_classes: outputs of the head; 0 for none.
        seed: seeds the initial weights without touching the global random state.
        device: "meta" builds the structure alone, at no cost in memory.
        pretrained: fetch timm's weights from the hub.

    Raises:
        InputProblem: timm does not know the model, or the model does not take these arguments.
    """
    known_architecture(arch)
    for argument in sorted(_NOT_ARGUMENTS & set(arch_args)):
        raise InputProblem(f"arch_args.{argument} is not for `arch_args` to say; `weights` decides what the model holds")
    try:
        with torch.random.fork_rng(devices=[]), torch.device(device):
            if seed is not None:
                torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the accelerators too
            model: nn.Module = timm.create_model(arch, pretrained=pretrained, num_classes=num_classes, **arch_args)
    except Exception as error:  # what a model raises on arguments it is not made for is open-ended
        if out_of_memory(error) or (pretrained and not isinstance(error, TypeError)):
            raise
        raise InputProblem(f"{arch} cannot be built with {arch_args}: {str(error) or type(error).__name__}") from None
    model.eval()
    return model


def data_config(encoder: params.Encoder, model: nn.Module) -> DataConfig:
    """Return timm's own data config of `model`, with what params.yaml overrides.

    A scalar mean or std counts for every channel. A model with another number of channels than timm's statistics gets
    their mean in every channel. At a size that is not timm's own nothing is cropped beyond the square: `crop_pct` is made
    for one size.

    Raises:
        InputProblem: the model wants neither grey nor RGB images, or mean or std have another number of values.
    """
    resolved = resolve_model_data_config(model)
    channels = int(encoder.arch_args.get("in_chans", resolved["input_size"][0]))
    if channels not in (1, 3):
        raise InputProblem(f"arch_args.in_chans: images have 1 (grey) or 3 (RGB) channels, not {channels}")
    height, width = resolved["input_size"][1:]
    given = encoder.arch_args.get("img_size")
    if given is not None:
        height, width = given if isinstance(given, list | tuple) else (given, given)
    if encoder.input_size is not None:
        height = width = encoder.input_size

    def statistic(override: float | tuple[float, ...] | None, default: tuple[float, ...]) -> tuple[float, ...]:
        values = default if override is None else (override,) if isinstance(override, int | float) else override
        if len(values) == 1 or (override is None and len(values) != channels):
            return (sum(values) / len(values),) * channels
        if len(values) != channels:
            wanted = "one value" if channels == 1 else f"one value or {channels}"
            raise InputProblem(f"mean and std need {wanted}, not {len(values)}")
        return tuple(float(value) for value in values)

    return DataConfig(
        input_size=(channels, int(height), int(width)),
        mean=statistic(encoder.mean, resolved["mean"]),
        std=statistic(encoder.std, resolved["std"]),
        interpolation=encoder.interpolation or str(resolved["interpolation"]),
        crop_pct=float(resolved["crop_pct"]) if (height, width) == tuple(resolved["input_size"][1:]) else 1.0,
    )
