"""params.yaml for one's own images: written in place, whole or not at all, with the way back; mistakes are named."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image

from pipelines import paramsfile, start
from stages import params
from stages.encoders.choose import layers, spread
from stages.errors import InputProblem

TEXT = """# my own words
datasets:
  packaged:  # carried
    digits: {kind: sklearn, name: digits}
  files: {}  # mine
    # photos: {kind: imagefolder, path: data/raw/photos}
targets: [digits]
encoders:
  tiny: {arch: test_byobnet, weights: random, layers: [pooled]}  # small
  # more: here
rank: {metrics: [logme]}  # one
prune:
  combine: {}
  # of classes
  methods: [random]
languages: {tasks: [entity_type], languages: ['no', de, nl]}
recommend: {metric: logme}
"""


@pytest.fixture
def folder(write_params: Callable[..., Path]) -> Path:
    """A project folder with a params.yaml of three classes of comments, and a folder of two classes of images."""
    path = write_params()
    path.write_text(TEXT)
    for label in "ab":
        (path.parent / "My Photos" / label).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(path.parent / "My Photos" / label / f"{number}.png")
    (path.parent / "dvc.yaml").write_text("stages: {}\n")
    return path.parent


def init(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).parent / "transferscope", "init", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_folder_and_encoders_become_the_params(folder: Path) -> None:
    before = Path("params.yaml").read_text()
    done = init("My Photos", "test_vit=random", "test_resnet.r160_in1k", "test_resnet=random", "--layers", "2")
    assert done.returncode == 0, done.stderr
    assert "my_photos: 6 images in 2 classes" in done.stdout
    assert "targets: [digits] -> [my_photos]" in done.stdout
    settings = params.load()
    assert settings.datasets.files["my_photos"].options == {"path": "My Photos"}
    assert settings.targets == ["my_photos"]
    assert {name: (encoder.arch, encoder.weights, encoder.layers) for name, encoder in settings.encoders.items()} == {
        "test_vit": ("test_vit", "random", ["pooled", "blocks.2", "blocks.5"]),
        "test_resnet_r160_in1k": ("test_resnet.r160_in1k", "hub", ["pooled", "layer2", "layer4"]),
        "test_resnet": ("test_resnet", "random", ["pooled", "layer2", "layer4"]),
    }
    assert settings.languages.tasks == []
    written = Path("params.yaml").read_text()
    for comment in (
        "# my own words",
        "# carried",
        "# mine",
        "    # photos: {kind",
        "  # more: here",
        "# one",
        "  # of classes",
    ):
        assert comment in written
    assert "languages: {tasks: [], languages: ['no', de, nl]}" in written
    assert paramsfile.BEFORE.read_text() == before
    assert f"cp {paramsfile.BEFORE} params.yaml" in done.stdout

    assert init("My Photos", "test_vit=random").returncode == 0  # what was kept before is not lost
    assert paramsfile.BEFORE.read_text() == before
    assert Path(f"{paramsfile.BEFORE}.2").read_text() == written


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["My Photos", "test_vitt"], "no model 'test_vitt'; nearest valid: test_vit"),
        (["My Photos", "test_vit=mine.pth"], "outside data/raw/weights"),
        (["Photos", "test_vit"], "Photos: does not exist"),
        (["data", "test_vit"], "data: holds 0 files in no class"),
        (["My Photos", "test_vit", "test_vit"], "test_vit=hub is named twice"),
    ],
)
def test_a_mistake_leaves_the_params_as_they_were(folder: Path, arguments: list[str], said: str) -> None:
    before = Path("params.yaml").read_text()
    done = init(*arguments)
    assert done.returncode == 2, done.stdout
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert Path("params.yaml").read_text() == before
    assert not paramsfile.BEFORE.exists()


def test_names_keep_encoders_apart() -> None:
    asked = [start.Asked("resnet50", "hub"), start.Asked("resnet50", "random"), start.Asked("vit.a", "data/raw/weights/m.pth")]
    assert start.names(asked[:1]) == ["resnet50"]
    assert start.names(asked) == ["resnet50_hub", "resnet50_random", "vit_a_m"]


def test_layers_are_whole_stages_of_the_later_part() -> None:
    assert layers("test_vit", "random", 3) == ["pooled", "blocks.1", "blocks.3", "blocks.5"]
    assert spread("abcdef", 3) == ["b", "d", "f"]
    assert spread("ab", 3) == ["a", "b"]
    assert spread("ab", 0) == []


@pytest.mark.parametrize(
    ("text", "place", "value", "expected"),
    [
        ("a: 1  # one\nb: 2\n", ("a",), [1, 2], "a: [1, 2]  # one\nb: 2\n"),
        ("a: {b: 1, c: 2}  # x\n", ("a", "c"), "new", "a: {b: 1, c: new}  # x\n"),
        ("a: {b: 1}\n", ("a", "d", "e"), 1, "a: {b: 1, d: {e: 1}}\n"),
        ("a:\n  - x\n  - y\n  # note\nb: 1\n", ("a",), [], "a: []\n  # note\nb: 1\n"),
        ("a:\n- x\nb: 1\n", ("a",), ["z"], "a: [z]\nb: 1\n"),
        ("a:  # note\n  b: 1\n  c: [1,\n    2]\nd: 1\n", ("a",), {}, "a: {}  # note\nd: 1\n"),
        ("a: {}  # note\nd: 1", ("a",), {"x": {"y": 1}, "z": {}}, "a:  # note\n  x: {y: 1}\n  z: {}\nd: 1"),
        ("a:\n  b: 1  # note\n\n# next\nd: 1\n", ("a", "c"), 2, "a:\n  b: 1  # note\n  c: 2\n\n# next\nd: 1\n"),
        ("a: null\n", ("a", "b"), 1, "a: {b: 1}\n"),
        ("a:\nb: 1\n", ("a",), 3, "a: 3\nb: 1\n"),
        ("a: 1", ("b",), {"c": True}, "a: 1\nb: {c: true}"),
    ],
)
def test_a_value_is_put_in_place(text: str, place: tuple[str, ...], value: object, expected: str) -> None:
    assert paramsfile.put(text, place, value) == expected
    assert yaml.safe_load(expected)


def test_what_cannot_be_edited_in_place_is_left_alone(folder: Path) -> None:
    text = Path("params.yaml").read_text().replace("targets: [digits]", "targets: &t [digits]\nextra: *t")
    Path("params.yaml").write_text(text)
    with pytest.raises(InputProblem, match="write by hand:\nextra:"):
        paramsfile.change({("extra",): ["other"]})
    assert Path("params.yaml").read_text() == text
