"""Full memory is no mistake in the params: it passes through, and the entry says try again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from stages.encoders import build, tap
from stages.encoders.load import read_weight_file
from stages.errors import out_of_memory

FULL = "[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"


class Large(nn.Module):
    """A model whose forward pass asks for more memory than any machine has."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.Linear(1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.empty(1 << 62, dtype=torch.int8)


def test_building() -> None:
    with pytest.raises(RuntimeError) as caught:
        build("test_byobnet", {"in_chans": 1 << 40}, num_classes=2)
    assert out_of_memory(caught.value)


def test_reading_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "some.safetensors"
    path.touch()

    def full(_path: Path) -> dict[str, torch.Tensor]:
        raise RuntimeError(FULL)

    monkeypatch.setitem(read_weight_file.__globals__, "load_file", full)
    with pytest.raises(RuntimeError, match="allocate"):
        read_weight_file(path)


def test_a_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap, "check_layers", lambda *_, **__: None)
    monkeypatch.setattr(tap, "Tapped", lambda model, _layers, _grids: model)
    with pytest.raises(RuntimeError) as caught:
        tap.check_input(Large(), ["pooled"], (1, 8, 8), where="encoders.large")
    assert out_of_memory(caught.value)
