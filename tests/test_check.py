"""params.yaml is checked whole: every mistake gets one message that says where, with the nearest valid choices."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import save_file

from stages import params
from stages.check import CHECKED, check, main
from stages.errors import InputProblem

ROOT = Path(__file__).resolve().parents[1]
TINY = {"arch": "test_byobnet", "arch_args": {"in_chans": 1}, "weights": "random", "input_size": 32, "layers": ["pooled"]}
LANGUAGES = {"tasks": ["entity_type"], "languages": ["en", "es", "pt"]}


def complaint(write_params: Callable[..., Path], **sections: Any) -> str:
    write_params(**sections)
    with pytest.raises(InputProblem) as caught:
        check(params.load())
    assert caught.value.next_step
    return str(caught.value)


def test_the_default_of_the_project_is_valid(project: Path) -> None:
    (project / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    check(params.load())


def test_the_output_never_changes(write_params: Callable[..., Path]) -> None:
    write_params()
    main(params.load(), "")
    first = CHECKED.read_bytes()
    write_params(run={"seed": 5}, encoders={"other": TINY})
    main(params.load(), "")
    assert CHECKED.read_bytes() == first == b'{"params": "valid"}\n'


@pytest.mark.parametrize(
    ("change", "where", "said"),
    [
        ({"arch": "test_byobnett"}, "encoders.mine.arch", "nearest valid: test_byobnet"),
        ({"arch": "resnet50.a1_in2k"}, "encoders.mine.arch", "a1_in1k"),
        ({"arch": "test_byobnet", "weights": "hub", "arch_args": {"depth": 3}}, "encoders.mine", "depth"),
        ({"layers": ["pooled", "stage.1"]}, "encoders.mine.layers", "nearest valid: stages.1"),
        ({"arch": "vit_tiny_patch16_224"}, "encoders.mine.input_size", "does not take images of 1 x 32 x 32"),
        ({"mean": [0.1, 0.2]}, "encoders.mine", "need one value, not 2"),
        ({"arch": "resnet18", "weights": "hub", "arch_args": {"in_chans": 2}}, "encoders.mine", "1 (grey) or 3 (RGB)"),
    ],
)
def test_encoders(write_params: Callable[..., Path], change: dict[str, Any], where: str, said: str) -> None:
    message = complaint(write_params, encoders={"fine": TINY, "mine": {**TINY, **change}})
    assert message.startswith(f"params.yaml: {where}: ")
    assert said in message


def test_a_model_without_weights_on_the_hub(write_params: Callable[..., Path]) -> None:
    import timm

    with_weights = {name.partition(".")[0] for name in timm.list_pretrained()}
    bare = next(name for name in timm.list_models() if name not in with_weights)
    message = complaint(write_params, encoders={"mine": {"arch": bare, "weights": "hub"}})
    assert message.startswith(f"params.yaml: encoders.mine.arch: the hub has no weights for {bare}; nearest valid: ")


def test_weight_files(write_params: Callable[..., Path], project: Path) -> None:
    folder = project / "data" / "raw" / "weights"
    (folder / "mine.safetensors").write_bytes(b"")
    (folder / "mine.h5").write_bytes(b"")
    (project / "elsewhere.pth").write_bytes(b"")

    def said(path: str) -> str:
        message = complaint(write_params, encoders={"mine": {**TINY, "weights": {"file": path}}})
        assert message.startswith("params.yaml: encoders.mine.weights.file: ")
        return message

    assert "nearest valid: mine.safetensors" in said("data/raw/weights/mime.safetensors")
    assert "write `file: data/raw/weights/elsewhere.pth`" in said("elsewhere.pth")
    assert "is outside data/raw/weights" in said("data/raw/weights/../../../elsewhere.pth")
    assert "is outside data/raw/weights" in said(str(project / "elsewhere.pth"))
    assert "is none of .safetensors, .pth, .pt" in said("data/raw/weights/mine.h5")
    assert "does not exist; in data/raw/weights" in said("data/raw/weights/deep/er/mine.pth")


def test_a_surrogate_that_cannot_name_the_sources_classes(write_params: Callable[..., Path], project: Path) -> None:
    from stages.encoders import build

    path = project / "data" / "raw" / "weights" / "mine.safetensors"
    relative = "data/raw/weights/mine.safetensors"

    def saved(num_classes: int, metadata: dict[str, str] | None = None) -> None:
        save_file(build("test_byobnet", {"in_chans": 1}, num_classes=num_classes).state_dict(), path, metadata=metadata)

    def pruning(weights: Any, **change: Any) -> dict[str, Any]:
        pair = {"source": "digits", "target": "digits", "surrogate": "mine"}
        prune = {"pairs": [pair], "methods": ["feature_mapping", "label_mapping", "random"], **change}
        return {"encoders": {"mine": {**TINY, "weights": weights}}, "prune": prune}

    def said(weights: Any, **change: Any) -> str:
        message = complaint(write_params, **pruning(weights, **change))
        assert message.startswith("params.yaml: prune.pairs.0.surrogate: mine: ")
        assert "digits -> digits" in message
        assert "in prune.methods use feature_mapping" in message
        assert "pretrain: digits" in message
        return message

    assert "the objective simclr leaves no head" in said({"pretrain": "digits", "objective": "simclr"})
    saved(0)
    assert "label_mapping for digits -> digits needs" in said({"file": relative})
    assert "label_mapping and reversed" in said({"file": relative}, methods=["label_mapping", "reversed"])
    assert f"{relative} has no head" in said({"file": relative})
    saved(10)
    assert "does not name its classes" in said({"file": relative})
    saved(10, {"classes": '["only", "two"]'})
    assert "no JSON list of 10 different names" in complaint(write_params, **pruning({"file": relative}))
    path.write_bytes(b"{")
    assert "cannot be read as weights" in complaint(write_params, **pruning({"file": relative}))
    saved(10, {"classes": json.dumps(list("0123456789"))})
    for weights, change in (
        ({"file": relative}, {}),
        ({"pretrain": "digits"}, {}),
        ({"pretrain": "digits", "objective": "simclr"}, {"methods": ["feature_mapping", "random"]}),
    ):
        write_params(**pruning(weights, **change))
        check(params.load())


def test_accuracies(write_params: Callable[..., Path], project: Path) -> None:
    folder = project / "data" / "raw" / "accuracies"
    folder.mkdir()
    (folder / "mine.csv").write_text("encoder,dataset,accuracy\ntiny,digits,0.9\n")
    rank = {"metrics": ["logme"], "accuracies": "data/raw/accuracies/mine.csv"}
    write_params(rank=rank)
    check(params.load())
    (folder / "mine.csv").write_text("encoder,dataset,accuracy\ntiny,digit,0.9\n")
    assert "mine.csv: line 2, column dataset: there is no dataset 'digit'" in complaint(write_params, rank=rank)
    assert "mime.csv does not exist" in complaint(write_params, rank={**rank, "accuracies": "data/raw/accuracies/mime.csv"})


def test_datasets(write_params: Callable[..., Path], project: Path) -> None:
    (project / "data" / "raw" / "photos").mkdir()
    message = complaint(write_params, datasets={"packaged": {"digits": {"kind": "sklern", "name": "digits"}}})
    assert message.startswith("params.yaml: datasets.digits")
    assert "'sklern'; nearest valid: sklearn" in message
    digits = {"digits": {"kind": "sklearn", "name": "digits"}}
    files = {"mine": {"kind": "imagefolder", "path": "data/raw/photo"}}
    message = complaint(write_params, datasets={"packaged": digits, "files": files})
    assert message == (
        "params.yaml: datasets.files.mine.path: data/raw/photo does not exist; in data/raw: nearest valid: photos (and 1 more)"
        "\nNext: edit params.yaml, then `transferscope check`"
    )
    message = complaint(write_params, datasets={"packaged": {"digits": {**digits["digits"], "nam": 1}}})
    assert "nearest valid: name" in message


@pytest.mark.parametrize(
    ("sections", "where", "nearest"),
    [
        ({"rank": {"metrics": ["logme", "logmee"]}}, "rank.metrics", "logme"),
        ({"prune": {"methods": ["label_maping"]}}, "prune.methods", "label_mapping"),
        ({"probe": {"heads": ["naive_baies"]}}, "probe.heads", "naive_bayes"),
        ({"languages": {**LANGUAGES, "tasks": ["entity_typ"]}}, "languages.tasks", "entity_type"),
        ({"languages": {**LANGUAGES, "features": ["syntax"]}}, "languages.features", "syntax_distance"),
        ({"languages": {**LANGUAGES, "languages": ["en", "es", "ptt"]}}, "languages.languages", "pt"),
        ({"languages": {**LANGUAGES, "models": ["rigde"]}}, "languages.models", "ridge"),
        ({"languages": {**LANGUAGES, "models": ["nearest_sintax"]}}, "languages.models", "nearest_syntax"),
        ({"languages": {**LANGUAGES, "protocols": ["leave_one_target_out", "optimist"]}}, "languages.protocols", "optimistic"),
        ({"languages": {**LANGUAGES, "ranker": "lambda_rank"}}, "languages.ranker", "lambdarank"),
    ],
)
def test_methods(write_params: Callable[..., Path], sections: dict[str, Any], where: str, nearest: str) -> None:
    message = complaint(write_params, **sections)
    assert message.startswith(f"params.yaml: {where}: there is no ")
    assert nearest in message


def test_the_command_exits_with_2_and_one_message_and_writes_nothing(
    write_params: Callable[..., Path], run_stage: Callable[..., subprocess.CompletedProcess[str]], project: Path
) -> None:
    path = write_params(encoders={"mine": {**TINY, "arch": "tests_resnet"}})
    ended = run_stage("check")
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "test_resnet" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (project / CHECKED).exists()
    path.write_text(yaml.safe_dump({"runn": {}}), encoding="utf-8")
    assert run_stage("check").returncode == 2
