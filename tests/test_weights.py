"""Weights become an artifact whatever their origin: trained here, from a file, from the hub, at random."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError

import pytest
import torch
from safetensors.torch import load_file, save_file

from stages import encoders, ingest, params, training, weights
from stages.artifacts import weights as artifact
from stages.artifacts.dataset import Dataset
from stages.errors import InputProblem

Run = Callable[..., subprocess.CompletedProcess[str]]
ARGS = {"in_chans": 1}


def encoder(weights: Any, **changes: Any) -> dict[str, Any]:
    return {"arch": "test_byobnet", "arch_args": ARGS, "weights": weights, "input_size": 32, "layers": ["pooled"], **changes}


@pytest.fixture
def settings(write_params: Callable[..., Path]) -> Callable[..., params.Params]:
    """Params with one encoder called `mine`."""

    def make(mine: dict[str, Any], **sections: Any) -> params.Params:
        return params.load(write_params(encoders={"mine": mine}, **sections))

    return make


def test_random_weights_depend_on_the_seed_and_the_name_alone(settings: Callable[..., params.Params]) -> None:
    weights.main(settings(encoder("random")), "mine")
    first, card = artifact.weights_path("mine").read_bytes(), artifact.read_card("mine")
    torch.manual_seed(5)
    weights.main(settings(encoder("random")), "mine")
    assert artifact.weights_path("mine").read_bytes() == first
    assert (card.source, card.num_classes, card.classes, card.training) == ("random", 0, [], {})
    weights.main(settings(encoder("random"), run={"seed": 1}), "mine")
    assert artifact.weights_path("mine").read_bytes() != first
    model, card = encoders.load("mine")
    assert card.input_size == (1, 32, 32)
    with torch.inference_mode():
        assert model(torch.zeros(2, 1, 32, 32)).ndim == 2  # features: there is no head


@pytest.mark.parametrize(
    ("suffix", "classes", "named"),
    [("safetensors", 0, False), ("safetensors", 7, False), ("safetensors", 7, True), ("pth", 0, False), ("pth", 7, False)],
)
def test_a_file_keeps_its_weights_and_its_head(
    settings: Callable[..., params.Params], suffix: str, classes: int, named: bool
) -> None:
    names = [f"{'bird' if named else 'class'}_{index}" for index in range(classes)]
    model = encoders.build("test_vit", {"img_size": 32, "in_chans": 1}, num_classes=classes, seed=3)
    path = Path(f"data/raw/weights/mine.{suffix}")
    if suffix == "pth":
        torch.save({"state_dict": model.state_dict(), "epoch": 3}, path)
    else:
        save_file(model.state_dict(), path, metadata={"classes": json.dumps(names)} if named else None)
    changes = {"arch": "test_vit", "arch_args": {"img_size": 32, "in_chans": 1}, "mean": 0.25, "std": 0.5}
    weights.main(settings(encoder({"file": str(path)}, **changes)), "mine")
    loaded, card = encoders.load("mine")
    assert card.classes == names
    assert (card.source, card.num_classes, card.mean, card.std) == ("file", classes, (0.25,), (0.5,))
    assert card.origin.startswith(path.name)
    images = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(loaded(images), model(images))


def test_weights_of_another_shape_are_refused_by_name(write_params: Callable[..., Path], run_stage: Run) -> None:
    state = encoders.build("test_byobnet", ARGS, num_classes=5).state_dict()
    state["stem.conv.weight"] = state["stem.conv.weight"].repeat(1, 3, 1, 1)
    del state["head.fc.bias"]
    state["extra.weight"] = torch.zeros(2)
    save_file(state, "data/raw/weights/mine.safetensors")
    write_params(encoders={"mine": encoder({"file": "data/raw/weights/mine.safetensors"})})
    result = run_stage("weights", "--encoder", "mine")
    assert result.returncode == 2, result.stderr
    for named in ("mine.safetensors", "stem.conv.weight", "head.fc.bias", "extra.weight", "Next:"):
        assert named in result.stderr
    assert not artifact.weights_path("mine").exists()
    assert not artifact.card_path("mine").exists()


def test_pretraining_is_told_on_the_card_kept_and_repeatable(
    settings: Callable[..., params.Params], run_stage: Run, project: Path
) -> None:
    mine, budget = encoder({"pretrain": "digits"}), {"epochs": 3, "batch_size": 64}
    made = settings(mine, pretrain=budget, run={"threads": 1})
    ingest.main(made, "digits")
    assert run_stage("weights", "--encoder", "mine").returncode == 0
    first, card = artifact.weights_path("mine").read_bytes(), artifact.read_card("mine")
    dataset = Dataset.open("digits")
    n_train = dataset.rows["split"].to_list().count("train")
    assert (card.source, card.origin, card.num_classes, card.classes) == ("pretrain", "digits", 10, dataset.classes)
    assert card.training["n_images"] == n_train
    assert card.training["steps"] == 3 * -(-n_train // 64)
    assert card.training["test_accuracy"] > 0.6
    assert not any("second" in key or "time" in key for key in card.training)

    # What the card says of the test split is what the artifact does.
    model, _ = encoders.load("mine")
    preprocess = encoders.Preprocess.of(card)
    pixels, labels = training.load_pixels(dataset, "test", preprocess)
    right = training.predict(model, pixels, preprocess, torch.device("cpu")).argmax(1) == labels
    assert float(right.double().mean()) == pytest.approx(card.training["test_accuracy"])

    # Another list of layers is another run of the stage, but not of the training.
    settings({**mine, "layers": ["pooled", "stages.1"]}, pretrain=budget, run={"threads": 1})
    shutil.rmtree("data/weights")
    again = run_stage("weights", "--encoder", "mine")
    assert again.returncode == 0
    assert "images/s" not in again.stderr
    assert artifact.weights_path("mine").read_bytes() == first
    assert not list((project / "data" / "store" / "training").rglob("checkpoints"))

    # A kept training that is damaged, in its tensors or its account, is told, dropped and done again, to the same bytes.
    for name in ("model.safetensors", "facts.json"):
        (kept,) = (project / "data" / "store" / "training").rglob(name)
        damaged = bytearray(kept.read_bytes())
        damaged[-20] ^= 1
        kept.write_bytes(damaged)
        mended = run_stage("weights", "--encoder", "mine")
        assert mended.returncode == 0
        assert f"{name}: is damaged" in mended.stderr
        assert kept.read_bytes() != damaged
        assert artifact.weights_path("mine").read_bytes() == first
        assert artifact.read_card("mine") == card

    # Without the store it is trained anew, to the same bytes.
    shutil.rmtree("data/store")
    assert run_stage("weights", "--encoder", "mine").returncode == 0
    assert artifact.weights_path("mine").read_bytes() == first
    assert artifact.read_card("mine") == card


def test_a_card_says_the_same_after_a_round_trip(project: Path) -> None:
    card = artifact.Card(
        arch="test_vit", arch_args={"img_size": 32}, num_classes=2, input_size=(3, 32, 32), mean=(0.1, 0.2, 0.3),
        std=(1.0, 1.0, 1.0), interpolation="bicubic", crop_pct=0.9, source="file", origin="x.pth", sha256="",
        classes=["ä", "b"], training={"final_loss": 0.1 + 0.2, "val_accuracy": None},
    )  # fmt: skip
    artifact.write("mine", {"w": torch.arange(3.0)}, card)
    read = artifact.read_card("mine")
    assert dataclasses.replace(read, sha256="") == card
    assert torch.equal(artifact.read_state("mine")["w"], load_file(artifact.weights_path("mine"))["w"])
    facts = json.loads(artifact.card_path("mine").read_text(encoding="utf-8"))
    artifact.card_path("mine").write_text(json.dumps({**facts, "sha256": "0" * 64}), encoding="utf-8")
    with pytest.raises(InputProblem, match="differs from its card"):
        artifact.read_state("mine")


def test_the_hub_out_of_reach_is_worth_another_try(
    write_params: Callable[..., Path], run_stage: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", "cache")  # an empty one
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # the client's own switch; a refused connection costs it a minute of retries
    write_params(encoders={"mine": encoder("hub")})
    result = run_stage("weights", "--encoder", "mine")
    assert result.returncode == 75, result.stderr
    assert "cannot be fetched" in result.stderr
    assert "Next: check the network" in result.stderr
    assert not artifact.weights_path("mine").exists()


@pytest.mark.parametrize(
    "content", [b"", b'{"arch": "test_vit", "arch_args"', b"[1, 2]", b'{"arch": "test_vit"}', b"null", b"\xff\xfe"]
)
def test_a_damaged_card_is_an_answer(project: Path, content: bytes) -> None:
    path = artifact.card_path("mine")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(InputProblem, match=r"data/weights/mine\.json: is not a card") as caught:
        artifact.read_card("mine")
    assert caught.value.next_step == "dvc repro --force weights@mine"


def test_a_foreign_card_is_an_answer(project: Path) -> None:
    card = artifact.Card("test_vit", {}, 0, (1, 32, 32), (0.5,), (0.5,), "bicubic", 1.0, "random", "seed 0", "", [], {})
    artifact.write("mine", {"w": torch.zeros(1)}, card)
    content = json.loads(artifact.card_path("mine").read_text(encoding="utf-8"))
    artifact.card_path("mine").write_text(json.dumps({**content, "licence": "none"}), encoding="utf-8")
    with pytest.raises(InputProblem, match="is not a card"):
        artifact.read_card("mine")


def test_what_matters_of_a_card() -> None:
    card = artifact.Card("test_vit", {}, 4, (1, 32, 32), (0.5,), (0.5,), "bicubic", 1.0, "random", "seed 0", "abc", [], {})
    elsewhere = dataclasses.replace(card, source="file", origin="x.pth", classes=["a"], training={"epochs": 3})
    assert elsewhere.what_matters() == card.what_matters()
    for change in ({"sha256": "def"}, {"num_classes": 5}):
        other = dataclasses.replace(card, **change)
        assert other.what_matters() != card.what_matters()
        assert other.what_matters(tensors=False) == card.what_matters(tensors=False)
    assert dataclasses.replace(card, mean=(0.4,)).what_matters(tensors=False) != card.what_matters(tensors=False)


@pytest.mark.parametrize(
    ("status", "final"), [(401, True), (403, True), (404, True), (408, False), (429, False), (500, False), (503, False)]
)
def test_which_answers_of_a_server_are_final(status: int, final: bool) -> None:
    wrapped = OSError("cannot be fetched")
    wrapped.__cause__ = HTTPError("http://127.0.0.1", status, "said", Message(), None)
    assert weights.refused(wrapped) is final
    assert not weights.refused(ConnectionError("no route"))


def test_a_refusal_of_the_hub_is_final(
    write_params: Callable[..., Path], run_stage: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("HF_HOME", "cache")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    write_params(encoders={"mine": encoder("hub")})
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(variable, raising=False)
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        result = run_stage("weights", "--encoder", "mine")
        server.shutdown()
    assert result.returncode == 2, result.stderr
    assert "are refused" in result.stderr
    assert "Next: choose another `arch`" in result.stderr


@pytest.mark.parametrize(
    ("arch", "message"),
    [("test_byobnet.r160_in1l", "r160_in1k"), ("test_byobnett", "test_byobnet"), ("resnet10t.nothing", "c3_in1k")],
)
def test_an_unknown_model_or_tag_is_answered_with_the_nearest(
    settings: Callable[..., params.Params], arch: str, message: str
) -> None:
    with pytest.raises(InputProblem, match=message):
        weights.main(settings(encoder("hub", arch=arch)), "mine")


def test_an_unknown_encoder_or_layer_is_answered_with_the_nearest(settings: Callable[..., params.Params]) -> None:
    with pytest.raises(InputProblem, match=r"no encoder 'mini'; nearest valid: mine"):
        weights.main(settings(encoder("random")), "mini")
    with pytest.raises(InputProblem, match=r"stages\.1"):
        weights.main(settings(encoder("random", layers=["pooled", "stage.1"])), "mine")


def test_class_names_of_the_hub_are_imagenets_where_the_tag_says_so() -> None:
    names = weights.hub_classes(1000, "a1_in1k")
    assert (names[0], len(set(names))) == ("tench, Tinca tinca", 1000)
    assert len(set(weights.hub_classes(11821, "augreg_in12k"))) == 11821
    assert weights.hub_classes(1000, "birds") == [f"class_{index}" for index in range(1000)]
    assert weights.hub_classes(3, "in1k") == ["class_0", "class_1", "class_2"]
