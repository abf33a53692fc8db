"""A profile is written over the sections of params.yaml, and the way back is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipelines import paramsfile, profile
from stages import params
from stages.errors import InputProblem

TEXT = """# the person's own words
targets: [digits]
datasets: {packaged: {digits: {kind: sklearn, name: digits}}}
encoders:
  tiny: {arch: test_byobnet, weights: random, layers: [pooled]}  # small
rank: {metrics: [logme]}
recommend: {metric: logme}
languages: {tasks: [entity_type], languages: [en, de, nl], seeds: 2}
profiles:
  full:
    languages: {seeds: 5}
    encoders: {tiny: {layers: [pooled, stages.1]}}
    pretrain: {epochs: 20}
"""


@pytest.fixture
def project(write_params: Callable[..., Path]) -> Path:
    """Return params.yaml in a project folder of its own, with a profile and comments."""
    path = write_params()
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_values_are_written_and_everything_else_stays(project: Path) -> None:
    lines = profile.apply("full")
    assert f"cp {paramsfile.BEFORE} params.yaml" in lines.pop()
    assert lines == [
        "languages.seeds: 2 -> 5",
        "encoders.tiny.layers: [pooled] -> [pooled, stages.1]",
        "pretrain.epochs: (not set) -> 20",
    ]
    written = project.read_text(encoding="utf-8")
    assert "# the person's own words" in written
    assert "# small" in written
    before, after = yaml.safe_load(TEXT), yaml.safe_load(written)
    assert after == params.merged(before, before["profiles"]["full"])
    assert paramsfile.BEFORE.read_text(encoding="utf-8") == TEXT


def test_a_second_time_changes_nothing(project: Path) -> None:
    profile.apply("full")
    written = project.read_text(encoding="utf-8")
    assert profile.apply("full") == []
    assert project.read_text(encoding="utf-8") == written
    assert paramsfile.BEFORE.read_text(encoding="utf-8") == TEXT


def test_an_unknown_profile_is_named(project: Path) -> None:
    with pytest.raises(InputProblem, match=r"no profile 'ful'.*full"):
        profile.apply("ful")


def test_a_mistake_in_a_profile_is_named_before_it_is_asked_for(project: Path) -> None:
    project.write_text(TEXT.replace("{seeds: 5}", "{sedes: 5}"), encoding="utf-8")
    with pytest.raises(InputProblem, match=r"languages\.sedes") as caught:
        params.load()
    assert "profile full" in str(caught.value)
