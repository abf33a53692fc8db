"""A mistake in params.yaml is one message that names the place and the nearest valid choice."""

from __future__ import annotations

import copy
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages import params
from stages.errors import InputProblem

ROOT = Path(__file__).resolve().parents[1]
Write = Callable[..., Path]

ENCODER: dict[str, Any] = {"arch": "test_byobnet", "weights": "random", "layers": ["pooled"]}
GLYPHS = {"kind": "glyphs", "scripts": ["latin"], "images_per_class": 5}
DIGITS = {"kind": "sklearn", "name": "digits"}


def message(write_params: Write, **sections: object) -> str:
    write_params(**sections)
    with pytest.raises(InputProblem) as caught:
        params.load()
    return str(caught.value)


def test_the_default_is_valid() -> None:
    settings = params.load(ROOT / "params.yaml")
    assert set(settings.targets) <= set(settings.all_datasets)
    assert len(settings.languages.languages) >= 12
    assert len(settings.languages.tasks) >= 2


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"pretrain": {"epochz": 3}}, ["pretrain.epochz", "there is no such key", "epochs"]),
        ({"pretrain": {"epochs": 0}}, ["pretrain.epochs", "greater than or equal to 1"]),
        ({"run": {"device": "cudda"}}, ["run.device", "'cudda'", "did you mean 'cuda'"]),
        ({"targets": ["digit"]}, ["targets.0", "'digit'", "digits"]),
        ({"encoders": {"My-Net": ENCODER}}, ["My-Net", "my_net"]),
        ({"encoders": {"a": {**ENCODER, "weights": {"pretrain": "glyhps"}}}}, ["encoders.a.weights.pretrain", "digits"]),
        ({"encoders": {"a": {**ENCODER, "weights": "hubb"}}}, ["encoders.a.weights", "'hubb'", "hub"]),
        (
            {"encoders": {"a": {**ENCODER, "weights": {"fil": "x.pth"}}}},
            ["encoders.a.weights: {'fil': 'x.pth'} is none of", "hub, random, {pretrain: <dataset>} and {file: <path>}"],
        ),
        ({"encoders": {"a": {**ENCODER, "weights": {"pretrain": 5}}}}, ["encoders.a.weights.pretrain: ", "valid string"]),
        ({"schedule": {"cron": "0 3 * *"}}, ["schedule.cron: '0 3 * *' has 4 fields instead of five: minute, hour"]),
        ({"schedule": {"cron": "0 24 * * *"}}, ["schedule.cron: '24' in '0 24 * * *' is no hour", "0 to 23"]),
        ({"schedule": {"cron": "0 3 * * daily"}}, ["schedule.cron: 'daily'", "is no weekday"]),
        ({"schedule": {"cron": "*/0 3 * * *"}}, ["schedule.cron: '*/0'", "is no minute"]),
        (
            {"schedule": {"timezone": "Europe/Berln"}},
            ["schedule.timezone: ", "'Europe/Berln'", "Europe/Berlin"],
        ),
        ({"schedule": {"timezone": "America"}}, ["schedule.timezone: there is no timezone 'America'"]),
        ({"encoders": {"a": {**ENCODER, "layers": []}}}, ["encoders.a.layers", "at least 1"]),
        ({"encoders": {"a": {**ENCODER, "layers": ["blocks.1"]}}}, ["probe.layer", "'pooled'"]),
        ({"targets": ["digits", "digits"]}, ["targets", "'digits' is named twice"]),
        ({"rank": {"metrics": ["logme", "logme"]}}, ["rank.metrics", "'logme' is named twice"]),
        (
            {"datasets": {"packaged": {"digits": {**DIGITS, "path": "data/raw"}}}},
            ["datasets.packaged.digits", "datasets.files"],
        ),
        ({"recommend": {"metric": "tmi"}}, ["recommend.metric", "'tmi'", "logme"]),
        ({"datasets": {"packaged": {"digits": DIGITS}, "files": {"digits": DIGITS}}}, ["digits", "both groups"]),
        ({"datasets": {"packaged": {"digits": DIGITS}, "files": {"mine": {"kind": "imagefolder"}}}}, ["mine", "`path`"]),
        (
            {"prune": {"pairs": [{"source": "digits", "target": "digits", "surrogate": "tiny"}]}},
            ["surrogate", "pretrain: digits"],
        ),
    ],
)
def test_a_mistake_is_named(write_params: Write, sections: dict[str, object], expected: list[str]) -> None:
    text = message(write_params, **sections)
    for part in expected:
        assert part in text
    assert text.startswith("params.yaml: ")
    assert "Next: " in text


def test_the_readme_recipe_is_valid(project: Path) -> None:
    """The lines for one's own images, put over the default, are valid params."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = yaml.safe_load(re.search(r"```yaml\n(datasets:.*?)```", text, flags=re.DOTALL)[1])  # type: ignore[index]
    default = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    (project / "params.yaml").write_text(yaml.safe_dump({**default, **lines}), encoding="utf-8")
    settings = params.load()
    assert settings.targets == ["photos"]
    assert set(settings.encoders) == {"vit", "mine"}


def test_no_file(project: Path) -> None:
    with pytest.raises(InputProblem, match="does not exist"):
        params.load()


@pytest.mark.parametrize("content", ["a: [", "", "- 1"])
def test_not_a_mapping(project: Path, content: str) -> None:
    (project / "params.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(InputProblem, match=r"params\.yaml"):
        params.load()


def test_loading_changes_nothing(write_params: Write) -> None:
    before = write_params().read_bytes()
    settings = params.load()
    assert copy.deepcopy(settings) == params.load()
    assert (Path("params.yaml")).read_bytes() == before


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"encoders": {"tiny": {**ENCODER, "arch": "resnt50"}}}, ["encoders.tiny", "resnt50", "resnet50"]),
        ({"encoders": {"tiny": {**ENCODER, "layers": ["pooled", "stage3"]}}}, ["encoders.tiny.layers", "stage3", "stages.3"]),
        ({"encoders": {"tiny": {**ENCODER, "arch_args": {"wrong": 1}}}}, ["encoders.tiny", "wrong"]),
        ({"datasets": {"packaged": {"digits": {"kind": "sklaern"}}}}, ["datasets.digits", "sklaern", "sklearn"]),
        ({"datasets": {"packaged": {"digits": DIGITS, "g": {**GLYPHS, "scripts": ["latn"]}}}}, ["datasets.g", "latn", "latin"]),
        (
            {"datasets": {"packaged": {"digits": DIGITS}, "files": {"p": {"kind": "imagefolder", "path": "data/row"}}}},
            ["datasets.files.p.path", "data/row", "raw"],
        ),
        ({"encoders": {"tiny": {**ENCODER, "weights": {"file": "data/raw/weights/no.pth"}}}}, ["encoders.tiny.weights.file"]),
        ({"rank": {"metrics": ["logmee", "logme"]}}, ["rank.metrics", "logmee", "logme"]),
        ({"probe": {"heads": ["logistics"]}}, ["probe.heads", "logistics", "logistic"]),
        ({"prune": {"methods": ["label_maping"]}}, ["prune.methods", "label_mapping"]),
        ({"languages": {"tasks": ["entity_typ"], "languages": ["en", "es", "pt"]}}, ["languages.tasks", "entity_type"]),
        ({"languages": {"tasks": ["entity_type"], "languages": ["en", "es", "xx"]}}, ["languages.languages", "xx"]),
    ],
)
def test_check_names_what_does_not_exist(
    write_params: Write, run_check: Callable[[], InputProblem], sections: dict[str, object], expected: list[str]
) -> None:
    write_params(**sections)
    text = str(run_check())
    for part in expected:
        assert part in text


@pytest.fixture
def run_check() -> Callable[[], InputProblem]:
    """Return the problem that the check of the current params.yaml finds."""
    from stages.check import check

    def run() -> InputProblem:
        with pytest.raises(InputProblem) as caught:
            check(params.load())
        return caught.value

    return run


def test_check_as_dvc_runs_it(write_params: Write, run_stage: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    write_params(encoders={"tiny": {**ENCODER, "arch": "resnt50"}})
    done = run_stage("check")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not Path("data/checked.json").exists()
    write_params()
    assert run_stage("check").returncode == 0
    assert Path("data/checked.json").is_file()


@pytest.mark.parametrize(
    ("layers", "head"), [(["stages.1", "pooled"], "pooled"), (["pooled"], "pooled"), (["stages.1", "stages.2"], "stages.2")]
)
def test_the_layer_under_the_head(layers: list[str], head: str) -> None:
    assert params.Encoder.model_validate({**ENCODER, "layers": layers}).head_layer == head


@pytest.mark.parametrize(
    "weights",
    ["hub", "random", params.PretrainWeights(pretrain="digits"), params.FileWeights(file=Path("x.pth"))],
)
def test_the_four_forms_of_weights(weights: Any) -> None:
    written = weights if isinstance(weights, str) else weights.model_dump()
    assert params.Encoder.model_validate({**ENCODER, "weights": written}).weights == weights
    assert params.Encoder.model_validate({**ENCODER, "weights": weights}).weights == weights


@pytest.mark.parametrize("cron", ["0 3 * * *", "*/15 0-6,12 1 JAN-mar 7", "05 00 1,15 * mon-FRI", "0 0-23/2 * 12 sun"])
def test_schedules_in_any_form_of_crontab(cron: str) -> None:
    from prefect.server.schemas.schedules import CronSchedule

    assert params.Schedule(cron=cron, timezone="Asia/Kathmandu").cron == CronSchedule(cron=cron).cron


def test_an_encoder_by_name(write_params: Write) -> None:
    write_params()
    settings = params.load()
    assert settings.encoder("tiny") is settings.encoders["tiny"]
    with pytest.raises(InputProblem, match=r"yaml: encoders: there is no encoder 'tny'; nearest valid: tiny\nNext: edit"):
        settings.encoder("tny")


def test_the_number_of_decoding_threads() -> None:
    assert params.Run(workers=0).decoding_workers == 0
    assert params.Run(workers=3).decoding_workers == 3
    assert params.Run(workers="auto").decoding_workers >= 1
