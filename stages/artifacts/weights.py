"""The Weights on disk: one safetensors file and its card. Whatever their origin, an encoder's weights end up here."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.artifacts import atomic, manifest
from stages.errors import InputProblem

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = Path("data/weights")


@dataclass(frozen=True)
class Card:
    """What is needed to use the weights again, and where they came from.

    `classes` names the outputs of the head, and is empty where the head was never trained (random weights).
    `source` is "hub", "file", "pretrain" or "random"; `origin` says which (hub id, file name, dataset name, seed).
    """

    arch: str
    arch_args: dict[str, Any]
    num_classes: int
    input_size: tuple[int, int, int]  # channels, height, width
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    source: str
    origin: str
    sha256: str
    classes: list[str]
    training: dict[str, Any]  # hyper-parameters and final metrics of our own pre-training, else empty

    def what_matters(self, *, tensors: bool = True) -> dict[str, Any]:
        """Return the fields that results depend on, for keys of the store; the others say where the weights came from.

        Without `tensors`, those that matter to a model of this kind whose weights are made anew.
        """
        left_out = {"source", "origin", "training", "classes"} | (set() if tensors else {"sha256", "num_classes"})
        return {name: value for name, value in asdict(self).items() if name not in left_out}


def weights_path(encoder: str) -> Path:
    """Return the safetensors file of an encoder."""
    return WEIGHTS / f"{encoder}.safetensors"


def card_path(encoder: str) -> Path:
    """Return the card of an encoder."""
    return WEIGHTS / f"{encoder}.json"


def write(encoder: str, state: dict[str, Tensor], card: Card) -> None:
    """Write an encoder's tensors and card; `card.sha256` is computed here."""
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(state.items())}
    with atomic.new_file(weights_path(encoder)) as scratch:
        save_file(tensors, scratch)
        digest = manifest.sha256(scratch)
    content = {**asdict(card), "sha256": digest}
    atomic.write_text(card_path(encoder), json.dumps(content, indent=1, sort_keys=True) + "\n")


def read_card(encoder: str) -> Card:
    """Read an encoder's card; raises InputProblem where it has not been made, or is damaged."""
    path = card_path(encoder)
    if not path.is_file():
        raise InputProblem("does not exist", where=str(path), next_step=f"dvc repro weights@{encoder}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for name in ("input_size", "mean", "std"):
            content[name] = tuple(content[name])
        return Card(**content)
    except (ValueError, KeyError, TypeError):
        next_step = f"dvc repro --force weights@{encoder}"
        raise InputProblem("is not a card of weights", where=str(path), next_step=next_step) from None


def read_state(encoder: str) -> dict[str, Tensor]:
    """Read an encoder's tensors, checking the file against its card."""
    from safetensors.torch import load_file

    path = weights_path(encoder)
    if not path.is_file() or manifest.sha256(path) != read_card(encoder).sha256:
        raise InputProblem(
            "is missing, or differs from its card", where=str(path), next_step=f"dvc repro --force weights@{encoder}"
        )
    state: dict[str, Tensor] = load_file(path)
    return state
