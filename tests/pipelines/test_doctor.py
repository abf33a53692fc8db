"""The doctor finds what is there, and names what is not with the next step."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import psutil
import pytest

from pipelines import doctor
from pipelines.doctor import Finding


@pytest.fixture
def project(write_params: Callable[..., Path]) -> Path:
    """Return a project folder with params.yaml and a lock of two packages that are installed."""
    folder = write_params().parent
    lock = f"polars=={metadata.version('polars')}\n    # via x\nnumpy=={metadata.version('numpy')} ; python_version > '3'\n"
    (folder / doctor.LOCK).write_text(lock, encoding="utf-8")
    return folder


def findings() -> dict[str, Finding]:
    return {finding.thing: finding for finding in doctor.examine()}


def test_this_machine_lacks_nothing(project: Path) -> None:
    found = findings()
    assert [finding for finding in found.values() if finding.next_step] == []
    assert found["packages"].found == "2 as pinned"
    assert found["python"].found == ".".join(map(str, sys.version_info[:3]))


def test_what_is_wrong_is_named(project: Path, write_params: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    (project / doctor.LOCK).write_text(
        "polars==0.1\nnot-a-package-at-all==1.0\nnumpy==1 ; python_version < '3'\n", encoding="utf-8"
    )
    write_params(run={"device": "mps"})
    monkeypatch.setenv("PATH", str(project))
    monkeypatch.setattr(doctor, "DISK", 1e9)
    monkeypatch.setattr(doctor, "MEMORY", psutil.virtual_memory().total / 2**30 + 1)
    found = findings()
    assert {name for name, finding in found.items() if finding.next_step} == {"packages", "git", "memory", "disk", "device"}
    assert "polars is" in found["packages"].found
    assert "not-a-package-at-all is missing" in found["packages"].found
    assert "numpy" not in found["packages"].found
    assert "mps" in str(found["device"].next_step)


def test_a_mistake_in_params_is_one_of_the_findings(project: Path, write_params: Callable[..., Path]) -> None:
    write_params(rank={"metrics": ["logme"], "metrcs": []})
    assert "metrcs" in findings()["params.yaml"].found
    write_params(datasets={"files": {"mine": {"kind": "imagefolder", "path": "nowhere"}}}, targets=["mine"])
    assert "no files for mine" in findings()["params.yaml"].found
