"""Read weights as data: safetensors first, .pth only without pickled code, every mismatch named."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from stages.artifacts import weights
from stages.encoders.build import build
from stages.errors import InputProblem, out_of_memory

SUFFIXES = (".safetensors", ".pth", ".pt")
_WRAPPERS = ("state_dict", "model", "model_state_dict", "state_dict_ema")  # what training programs wrap a state in


def read_weight_file(path: Path) -> dict[str, Tensor]:
    """Read a .safetensors, .pth or .pt file into tensors by name.

    Pickled code is never run: torch's loader is asked for tensors and plain containers alone.

    Raises:
        InputProblem: the file is absent, damaged, of another format, holds anything but tensors, or values that are
            not finite.
    """
    where = str(path)
    if not path.is_file():
        raise InputProblem("does not exist", where=where)
    if path.suffix not in SUFFIXES:
        raise InputProblem(f"weights are read from {', '.join(SUFFIXES)} files", where=where)
    try:
        content = _read(path)
    except pickle.UnpicklingError:
        raise InputProblem(
            "refused: it holds more than tensors, and loading it would run code",
            where=where,
            next_step="save the state dict alone, best as .safetensors",
        ) from None
    except Exception as error:  # what torch raises on damaged files is open-ended
        if out_of_memory(error):
            raise
        raise InputProblem(f"cannot be read as weights ({str(error) or type(error).__name__})", where=where) from None
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content:
        raise InputProblem("holds no state dict", where=where)
    state = {str(name).removeprefix("module."): value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise InputProblem("holds no tensors", where=where)
    endless = [name for name, value in state.items() if value.is_floating_point() and not bool(torch.isfinite(value).all())]
    if endless:
        raise InputProblem(f"{len(endless)} tensors hold values that are not finite, the first is {endless[0]}", where=where)
    return state


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of odd pickles: they are read or refused
        return torch.load(path, map_location="cpu", weights_only=True)


def match_state(model: nn.Module, state: dict[str, Tensor], *, where: str) -> None:
    """Load `state` into `model`; raises InputProblem that names the first keys that are missing, unknown or misshapen."""
    expected = model.state_dict()
    missing = sorted(set(expected) - set(state))
    unknown = sorted(set(state) - set(expected))
    misshapen = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in sorted(set(expected) & set(state))
        if state[name].shape != expected[name].shape
    ]
    complaints = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for what, names in (("missing", missing), ("unknown", unknown), ("of another shape", misshapen))
        if names
    ]
    if complaints:
        raise InputProblem(
            f"does not fit the model: {'; '.join(complaints)}",
            where=where,
            next_step="check `arch` and `arch_args` in params.yaml",
        )
    model.load_state_dict(state)


def load(encoder: str) -> tuple[nn.Module, weights.Card]:
    """Return an encoder's model in evaluation mode and its card, from the Weights artifact."""
    card = weights.read_card(encoder)
    model = build(card.arch, card.arch_args, num_classes=card.num_classes)
    match_state(model, weights.read_state(encoder), where=str(weights.weights_path(encoder)))
    return model, card
