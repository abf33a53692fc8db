"""The training loop: it learns, it repeats itself to the byte, and a killed run ends where an unbroken one does."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from stages import ingest, params, training
from stages.artifacts.dataset import Dataset
from stages.datasets.decoding import decode_image
from stages.device import pick_device
from stages.errors import InputProblem

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
RECIPE = training.Recipe(epochs=4, batch_size=16, learning_rate=1e-2, weight_decay=0.05)


class Plain:
    """A preprocessing without an encoder; counts its batches and may fail at one of them."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.seen, self.fail_at = 0, fail_at

    def normalise(self, batch: Tensor) -> Tensor:
        self.seen += 1
        if self.seen == self.fail_at:
            raise KeyboardInterrupt
        return (batch.float() - 128) / 64


def network(seed: int = 0) -> nn.Module:
    """Batch norm and dropout: the two layers that carry state and chance."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
            nn.Dropout(0.2), nn.Linear(32, 4),
        )  # fmt: skip


def quadrants(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noise images [n, 1, 8, 8] whose label is the one quadrant that is brighter."""
    stream = np.random.default_rng(seed)
    labels = stream.integers(0, 4, n)
    pixels = stream.integers(0, 120, (n, 1, 8, 8))
    for image, label in zip(pixels, labels, strict=True):
        row, column = 4 * (label // 2), 4 * (label % 2)
        image[0, row : row + 4, column : column + 4] += 100
    return torch.from_numpy(pixels.astype(np.uint8)), torch.from_numpy(labels)


def trained(
    checkpoints: Path | None = None, *, seed: int = 0, preprocess: Plain | None = None, n: int = 90
) -> dict[str, Tensor]:
    """Train the network on the quadrants and return its state."""
    model = network()
    pixels, labels = quadrants(n, 0)
    training.train(model, pixels, labels, preprocess or Plain(), RECIPE, seed=seed, device=CPU, checkpoints=checkpoints)
    return model.state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_learns_a_separable_problem() -> None:
    model = network()
    pixels, labels = quadrants(600, 0)
    recipe = training.Recipe(epochs=6, batch_size=32, learning_rate=1e-2, weight_decay=0.05)
    log = training.train(model, pixels, labels, Plain(), recipe, seed=0, device=CPU)
    held_out, truth = quadrants(300, 1)
    logits = training.predict(model, held_out, Plain(), CPU)
    assert logits.shape == (300, 4)
    assert logits.dtype == torch.float32
    assert (logits.argmax(1) == truth).double().mean() > 0.95
    assert log.steps == 6 * math.ceil(600 / 32)
    assert 0 < log.final_loss < 0.5 * math.log(4)
    assert not model.training


def test_same_seed_same_bytes_and_the_global_state_untouched() -> None:
    before = torch.random.get_rng_state()
    first = trained()
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(99)
    assert same(first, trained())
    assert not same(first, trained(seed=1))


@pytest.mark.parametrize("fail_at", [1, 8, 20])  # of 6 batches an epoch: before, within and after a checkpoint
def test_an_interrupted_run_resumes_to_the_same_bytes(project: Path, fail_at: int) -> None:
    checkpoints = project / "data" / "store" / "work"
    with pytest.raises(KeyboardInterrupt):
        trained(checkpoints, preprocess=Plain(fail_at))
    resumed = Plain()
    state = trained(checkpoints, preprocess=resumed)
    assert resumed.seen == 24 - 6 * ((fail_at - 1) // 6)
    assert same(state, trained())
    assert [path.name for path in checkpoints.iterdir()] == [training.CHECKPOINT]
    again = Plain()
    assert same(state, trained(checkpoints, preprocess=again))
    assert again.seen == 0


SCRIPT = """
import sys, time
from pathlib import Path
import torch
from safetensors.torch import save_file
sys.path.insert(0, sys.argv[1])
from test_training import Plain, trained
torch.set_num_threads(1)
class Slow(Plain):
    def normalise(self, batch):
        time.sleep(float(sys.argv[3]))
        return super().normalise(batch)
state = trained(Path(sys.argv[2]), preprocess=Slow())
save_file(state, sys.argv[2] + ".safetensors")
"""


def test_a_killed_process_resumes_to_the_same_bytes(project: Path) -> None:
    def start(folder: str, delay: float) -> subprocess.Popen[bytes]:
        arguments = [sys.executable, "-c", SCRIPT, str(ROOT / "tests"), folder, str(delay)]
        return subprocess.Popen(arguments, cwd=project, env={**os.environ, "PYTHONPATH": str(ROOT)})

    newest = project / "killed" / training.CHECKPOINT
    victim = start("killed", 0.05)
    deadline = time.monotonic() + 60
    while not newest.is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    assert 0 < torch.load(newest, weights_only=True)["epochs_done"] < RECIPE.epochs
    for folder in ("killed", "whole"):
        assert start(folder, 0).wait(60) == 0
    assert (project / "killed.safetensors").read_bytes() == (project / "whole.safetensors").read_bytes()


def test_a_damaged_or_foreign_checkpoint_is_left_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints = project / "work"
    whole = trained(checkpoints)
    newest = checkpoints / training.CHECKPOINT
    newest.write_bytes(newest.read_bytes()[:1000])
    assert same(whole, trained(checkpoints))
    assert "cannot be read" in capsys.readouterr().err
    assert same(trained(seed=1), trained(checkpoints, seed=1))
    assert "is of another run" in capsys.readouterr().err


def test_a_last_batch_of_one_is_left_out() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4))  # refuses one sample in training
    pixels, labels = quadrants(9, 0)
    recipe = training.Recipe(epochs=3, batch_size=4, learning_rate=1e-3, weight_decay=0)
    assert training.train(model, pixels, labels, Plain(), recipe, seed=0, device=CPU).steps == 3 * 2
    recipe = training.Recipe(epochs=1, batch_size=7, learning_rate=1e-3, weight_decay=0)
    assert training.train(model, pixels, labels, Plain(), recipe, seed=0, device=CPU).steps == 2


class Indifferent(nn.Module):
    """Logits of zero whatever the weights: every gradient is zero, and only weight decay moves anything."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix, self.vector = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(5))

    def forward(self, images: Tensor) -> Tensor:
        return torch.zeros(len(images), 4) + 0 * (self.matrix.sum() + self.vector.sum())


def one_cycle(step: int, total: int, peak: float) -> float:
    """The schedule from its definition: cosine from peak/25 up in 30% of the steps, then down to peak/250000."""
    turn, last = 0.3 * total - 1, total - 1
    low, high, share = (peak / 25, peak, step / turn) if step <= turn else (peak / 25e4, peak, (last - step) / (last - turn))
    return low + (high - low) * (1 - math.cos(math.pi * share)) / 2


def test_weight_decay_follows_the_cycle_and_spares_vectors() -> None:
    model = Indifferent()
    pixels, labels = quadrants(40, 0)
    recipe = training.Recipe(epochs=5, batch_size=10, learning_rate=0.1, weight_decay=0.5)
    log = training.train(model, pixels, labels, Plain(), recipe, seed=0, device=CPU)
    expected = math.prod(1 - one_cycle(step, 20, 0.1) * 0.5 for step in range(20))
    torch.testing.assert_close(model.matrix.detach(), torch.full((2, 3), expected))
    assert torch.equal(model.vector.detach(), torch.ones(5))
    assert log.final_loss == pytest.approx(math.log(4), rel=1e-6)  # no label smoothing, no other term


def test_every_image_is_seen_once_an_epoch_in_an_order_of_its_own() -> None:
    orders = [torch.cat(list(training._batches(10, 3, seed))) for seed in (0, 1)]
    for order in orders:
        assert len(set(order.tolist())) == len(order) == 9  # the tenth would be a batch of one
    assert orders[0].tolist() != orders[1].tolist()
    assert sorted(torch.cat(list(training._batches(11, 3, 0))).tolist()) == list(range(11))


def test_a_loss_that_runs_away_is_named() -> None:
    pixels, labels = quadrants(64, 0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    with torch.no_grad():
        model[1].weight.fill_(float("inf"))
    with pytest.raises(InputProblem, match=r"toy.*no longer finite in epoch 1") as problem:
        training.train(model, pixels, labels, Plain(), RECIPE, seed=0, device=CPU, label="toy")
    assert problem.value.next_step is not None
    assert "learning rate" in problem.value.next_step


def test_one_image_is_too_few() -> None:
    pixels, labels = quadrants(1, 0)
    with pytest.raises(InputProblem, match="two images"):
        training.train(network(), pixels, labels, Plain(), RECIPE, seed=0, device=CPU)


def test_predictions_do_not_depend_on_the_batch_size() -> None:
    model = network()
    pixels, _ = quadrants(50, 0)
    whole = training.predict(model, pixels, Plain(), CPU, batch_size=50)
    torch.testing.assert_close(whole, training.predict(model, pixels, Plain(), CPU, batch_size=7))
    with torch.no_grad():
        torch.testing.assert_close(whole, model.eval()(Plain().normalise(pixels)))


class Grey:
    """Pixels as they are."""

    def normalise(self, batch: Tensor) -> Tensor:
        return batch.float()

    def pixels(self, image: Any) -> Any:
        return np.asarray(image)[None]


def test_pixels_come_in_row_order_in_memory_or_not(
    write_params: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, project: Path
) -> None:
    write_params()
    ingest.main(params.load(), "digits")
    dataset = Dataset.open("digits")
    rows = dataset.rows.filter(pl.col("split") == "val")
    expected = [np.asarray(decode_image(data, max_pixels=10_000)) for _, data in dataset.images(["val"])]
    pixels, labels = training.load_pixels(dataset, "val", Grey())
    assert pixels.dtype == torch.uint8
    assert np.array_equal(pixels[:, 0].numpy(), np.stack(expected))
    assert labels.tolist() == rows["class_index"].to_list()

    monkeypatch.setattr(training, "IN_MEMORY", 1000)
    mapped, _ = training.load_pixels(dataset, "val", Grey())
    assert torch.equal(mapped, pixels)
    assert torch.equal(mapped[torch.tensor([5, 2])], pixels[torch.tensor([5, 2])])
    assert not [path for path in (project / "data" / "store").iterdir() if path.is_file()]

    chosen = rows["id"].gather([7, 1, 4]).to_list()
    some, some_labels = training.load_pixels(dataset, "val", Grey(), ids=chosen)
    assert torch.equal(some, pixels[[1, 4, 7]])
    assert torch.equal(some_labels, labels[[1, 4, 7]])
    nothing, _ = training.load_pixels(dataset, "val", Grey(), ids=[])
    assert len(nothing) == 0
    with pytest.raises(InputProblem, match=r"cannot be decoded \(too large"):
        training.load_pixels(dataset, "val", Grey(), max_pixels=3)


def test_the_device_asked_for_is_the_device_or_a_message() -> None:
    assert pick_device(params.Run(device="cpu")) == CPU
    assert pick_device(params.Run()).type in {"cpu", "cuda", "mps"}
    absent = "mps" if torch.cuda.is_available() or sys.platform != "darwin" else "cuda"
    with pytest.raises(InputProblem, match=rf"run.device: torch finds no {absent} device"):
        pick_device(params.Run(device=absent))  # type: ignore[arg-type]
