"""Weights from strangers stay data: a pickle that would run code is refused, and nothing of it runs."""

from __future__ import annotations

import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stages import encoders
from stages.artifacts import weights

Run = Callable[..., subprocess.CompletedProcess[str]]
BOMB = "exploded"


class Bomb:
    """Unpickling it makes a folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (BOMB,))


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"stem.conv.weight": Bomb()}, protocol=2))


def among_tensors(path: Path) -> None:
    """A real state dict, in torch's own archive, with one entry too many."""
    torch.save({**encoders.build("test_byobnet", {"in_chans": 1}, num_classes=0).state_dict(), "bomb": Bomb()}, path)


def whole_model(path: Path) -> None:
    """What `torch.save(model)` leaves: classes to import, not tensors to read."""
    torch.save(encoders.build("test_byobnet", {"in_chans": 1}, num_classes=0), path)


def test_the_bomb_is_live(project: Path) -> None:
    bare_pickle(Path("live.pth"))
    pickle.loads(Path("live.pth").read_bytes())
    assert Path(BOMB).is_dir()


@pytest.mark.parametrize("write", [bare_pickle, among_tensors, whole_model])
def test_a_pickle_that_runs_code_is_refused(
    write: Callable[[Path], None], write_params: Callable[..., Path], run_stage: Run, project: Path
) -> None:
    path = Path("data/raw/weights/stranger.pth")
    write(path)
    hostile = {"arch": "test_byobnet", "arch_args": {"in_chans": 1}, "weights": {"file": str(path)}, "layers": ["pooled"]}
    write_params(encoders={"stranger": hostile})
    result = run_stage("weights", "--encoder", "stranger")
    assert result.returncode == 2, result.stderr
    assert "stranger.pth: refused" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(project.rglob(BOMB))
    assert not weights.weights_path("stranger").exists()


def test_a_pickle_named_safetensors_is_refused(write_params: Callable[..., Path], run_stage: Run, project: Path) -> None:
    path = Path("data/raw/weights/stranger.safetensors")
    bare_pickle(path)
    hostile = {"arch": "test_byobnet", "arch_args": {"in_chans": 1}, "weights": {"file": str(path)}, "layers": ["pooled"]}
    write_params(encoders={"stranger": hostile})
    result = run_stage("weights", "--encoder", "stranger")
    assert result.returncode == 2, result.stderr
    assert "cannot be read as weights" in result.stderr
    assert not list(project.rglob(BOMB))


def test_a_checkpoint_in_the_store_is_no_way_in(project: Path) -> None:
    from stages import training

    folder = project / "work"
    folder.mkdir()
    bare_pickle(folder / training.CHECKPOINT)

    class Plain:
        def normalise(self, batch: torch.Tensor) -> torch.Tensor:
            return batch.float()

    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    recipe = training.Recipe(epochs=1, batch_size=2, learning_rate=1e-3, weight_decay=0)
    pixels, labels = torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 0, 1])
    cpu = torch.device("cpu")
    log = training.train(model, pixels, labels, Plain(), recipe, seed=0, device=cpu, checkpoints=folder)
    assert log.steps == 2
    assert not list(project.rglob(BOMB))
