"""Weights from files: data, never code; every mismatch named."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from stages.encoders import build, match_state, read_weight_file
from stages.errors import InputProblem


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return build("test_byobnet", {}, num_classes=4, seed=0).state_dict()


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("suffix", ["pth", "pt"])
@pytest.mark.parametrize("by", ["torch", "pickle"])
def test_a_pickle_bomb_is_refused_and_nothing_runs(tmp_path: Path, suffix: str, by: str) -> None:
    mark, path = tmp_path / "ran", tmp_path / f"bomb.{suffix}"
    content = {"state_dict": Bomb(mark)}
    if by == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(InputProblem, match="refused: it holds more than tensors"):
        read_weight_file(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(content))  # the bomb is a real one
    assert mark.exists()


@pytest.mark.parametrize("wrap", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_what_training_programs_write_is_unwrapped(
    tmp_path: Path, state: dict[str, torch.Tensor], wrap: str | None, prefix: str
) -> None:
    content: dict[str, Any] = {prefix + name: value for name, value in state.items()}
    path = tmp_path / "weights.pth"
    torch.save({wrap: content, "epoch": 3} if wrap else content, path)
    read = read_weight_file(path)
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], state[name]) for name in state)


def test_safetensors_come_back_as_they_were(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    model = build("test_byobnet", {}, num_classes=4, seed=1)
    match_state(model, read_weight_file(path), where=str(path))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_every_mismatch_is_named_and_counted(state: dict[str, torch.Tensor]) -> None:
    model = build("test_byobnet", {}, num_classes=5, seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    names = list(state)
    wrong = {**{name: value for name, value in state.items() if name not in names[:5]}, "extra.weight": torch.zeros(1)}
    with pytest.raises(InputProblem) as caught:
        match_state(model, wrong, where="mine.pth")
    message = str(caught.value)
    assert "mine.pth: does not fit the model: 5 missing (" in message
    assert ", ...)" in message
    assert "1 unknown (extra.weight)" in message
    assert "2 of another shape (head.fc.bias (4,) instead of (5,), head.fc.weight" in message
    assert "arch_args" in message
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, bad: float) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"fine": torch.ones(3), "broken": torch.tensor([1.0, bad])}, path)
    with pytest.raises(InputProblem, match="not finite, the first is broken"):
        read_weight_file(path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.safetensors", b"", "cannot be read as weights"),
        ("text.safetensors", b"not weights at all", "cannot be read as weights"),
        ("empty.pth", b"", "cannot be read as weights"),
        ("text.pth", b"not weights at all", "cannot be read as weights|refused"),
        ("weights.h5", b"x", r"read from \.safetensors, \.pth, \.pt files"),
    ],
)
def test_other_files_are_answered(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputProblem, match=said):
        read_weight_file(tmp_path / name)


def test_an_absent_file_and_a_file_without_tensors(tmp_path: Path) -> None:
    with pytest.raises(InputProblem, match="does not exist"):
        read_weight_file(tmp_path / "none.pth")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    with pytest.raises(InputProblem, match="holds no tensors"):
        read_weight_file(tmp_path / "none.pth")
    torch.save([torch.zeros(1)], tmp_path / "none.pth")
    with pytest.raises(InputProblem, match="holds no state dict"):
        read_weight_file(tmp_path / "none.pth")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    where=st.integers(0, 10_000),
    byte=st.integers(0, 255),
    cut=st.booleans(),
    form=st.sampled_from(["zip", "legacy", "safetensors"]),
)
def test_damage_gives_tensors_or_an_answer_but_never_another_error(
    tmp_path: Path, where: int, byte: int, cut: bool, form: str
) -> None:
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}
    if form == "safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=form == "zip")
    content = bytearray(path.read_bytes())
    where %= len(content)
    content[where] = byte
    path.write_bytes(content[:where] if cut else content)
    try:
        read = read_weight_file(path)
    except InputProblem:
        return
    assert all(isinstance(value, torch.Tensor) for value in read.values())
