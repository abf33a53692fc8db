"""Compiled models: the eager features up to rounding, the same bytes each time, and what it costs told honestly."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm import create_model

from stages import extract, ingest, params, weights
from stages.artifacts.dataset import Dataset
from stages.artifacts.features import FeatureSet
from stages.encoders import Tapped
from stages.errors import InputProblem
from stages.extraction import Job, job_for
from stages.extraction.compiled import Compiled, check_compiler
from stages.extraction.growth import arrays_in, holds
from stages.extraction.outcome import Outcome, attempt, settle
from stages.extraction.timing import Clock, Gain

try:
    check_compiler(torch.device("cpu"))
    WITHOUT = False
except InputProblem:
    WITHOUT = True
needs_compiler = pytest.mark.skipif(WITHOUT, reason="there is no C++ compiler")
NET: dict[str, Any] = {"arch": "test_byobnet", "arch_args": {"in_chans": 1}, "weights": "random", "input_size": 32,
       "layers": ["pooled", "stages.1@gem"], "grids": ["stages.1"]}  # fmt: skip
SMALL = {"batch_size": 64, "shard_images": 600}
LINE = r"compiling took \d+\.\d s and saves (nothing|\d+\.\d\d ms an image: it pays from [\d,]+ images)"


@pytest.fixture
def settings(project: Path, write_params: Callable[..., Path]) -> Callable[..., params.Params]:
    """Write params of a small encoder and of the digits with some options of `extract`, and return them."""

    def make(**options: object) -> params.Params:
        write_params(run={"threads": 1, "workers": 2}, encoders={"net": NET}, extract={**SMALL, **options})
        loaded = params.load()
        if not (project / "data" / "datasets").exists():
            ingest.main(loaded, "digits")
            weights.main(loaded, "net")
        return loaded

    return make


@needs_compiler
def test_two_models_in_one_process_and_two_sizes_of_batch() -> None:
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = create_model("test_byobnet", num_classes=0, in_chans=1).eval()
        compiled, eager = Compiled(model, NET["layers"], NET["grids"]), Tapped(model, NET["layers"], NET["grids"])
        for n in (64, 2) if seed else (64,):
            assert_near(compiled, eager, torch.randn(n, 1, 32, 32))
        assert compiled.gain is not None
        assert compiled.gain.images == 64


@needs_compiler
@pytest.mark.slow
def test_tokens_of_a_layer_before_the_end() -> None:
    """The eager pass stops behind it."""
    model, layers, grids = (
        create_model("test_vit", num_classes=0, img_size=32).eval(),
        ["blocks.0", "blocks.0@class"],
        ["blocks.0"],
    )
    assert_near(Compiled(model, layers, grids), Tapped(model, layers, grids), torch.randn(3, 3, 32, 32))


def assert_near(compiled: Compiled, eager: Tapped, images: torch.Tensor) -> None:
    (kept, logits), (expected, _) = compiled(images), eager(images)
    assert logits is None
    assert kept.keys() == expected.keys()
    for name, value in kept.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)
    assert not any(module._forward_hooks for module in compiled.model.modules())


@needs_compiler
def test_the_stage_is_near_eager_gives_the_same_bytes_again_and_tells_when_it_pays(
    settings: Callable[..., params.Params], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("pooled", "stages.1@gem", "stages.1@grid")

    def run(**options: object) -> tuple[dict[str, np.ndarray], str]:
        capsys.readouterr()
        extract.main(settings(**options), "net")
        found = {name: np.load(FeatureSet.open("net", "digits", verify=True).path / f"{name}.npy") for name in names}
        shutil.rmtree(project / "data" / "features")
        return found, capsys.readouterr().err

    eager, said = run()
    assert "compiling" not in said
    first, said = run(compile=True)  # another unit of work: what eager runs have made is not taken
    assert re.search(f"net on digits: {LINE}$", said, re.MULTILINE)
    shutil.rmtree(project / "data" / "store")
    again, _ = run(compile=True)
    (joined,) = (project / "data" / "store" / "features").glob("*/*/joined")
    job, dataset = job_for(settings(compile=True), "net", "digits", "cpu"), Dataset.open("digits")
    assert holds(job, dataset, arrays_in(joined), np.arange(len(dataset.rows)))
    assert job.gain is not None  # so the proof has run the compiled model
    for name in names:
        np.testing.assert_allclose(first[name], eager[name], rtol=1e-4, atol=1e-5)
        assert first[name].tobytes() == again[name].tobytes()


@needs_compiler
@pytest.mark.slow
def test_processes_of_their_own_compile_too(
    settings: Callable[..., params.Params], capsys: pytest.CaptureFixture[str], project: Path
) -> None:
    kept = []
    for devices in (["cpu"], ["cpu", "cpu"]):
        extract.main(settings(compile=True, devices=devices), "net")
        kept.append((project / "data" / "features" / "net" / "digits" / "pooled.npy").read_bytes())
        assert re.search(LINE + ("$" if len(devices) == 1 else " for each process$"), capsys.readouterr().err, re.MULTILINE)
        shutil.rmtree(project / "data" / "features")
        shutil.rmtree(project / "data" / "store")
    assert kept[0] == kept[1]


def test_without_a_compiler_nothing_is_computed(
    settings: Callable[..., params.Params], monkeypatch: pytest.MonkeyPatch,
    run_stage: Callable[..., subprocess.CompletedProcess[str]], project: Path,
) -> None:  # fmt: skip
    settings(compile=True)
    monkeypatch.setenv("CXX", "/nowhere/g++")
    ended = run_stage("extract", "--encoder", "net")
    assert ended.returncode == 2
    assert "params.yaml: extract.compile" in ended.stderr
    assert "install a C++ compiler" in ended.stderr
    assert not list((project / "data").glob("store/features/*/*/*"))


@needs_compiler
def test_a_model_that_torch_cannot_trace() -> None:
    class Odd(torch.nn.Identity):
        num_features = 3

        def forward_features(self, images: torch.Tensor) -> torch.Tensor:
            torch._dynamo.graph_break()
            return images

        def forward_head(self, body: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
            return body.mean(dim=(2, 3))

    with pytest.raises(InputProblem, match="torch cannot compile Odd") as caught:
        Compiled(Odd(), ["pooled"])(torch.randn(2, 3, 8, 8))
    assert caught.value.where == "params.yaml: extract.compile"
    assert caught.value.next_step == "set it to false"


def test_a_job_of_a_compiled_model_is_made_without_compiling(settings: Callable[..., params.Params]) -> None:
    if WITHOUT:
        pytest.skip("there is no C++ compiler")
    job = job_for(settings(compile=True, batch_size="auto"), "net", "digits", "cpu")
    assert isinstance(job, Job)
    assert isinstance(job.tapped, Compiled)
    assert job.gain is None


def test_when_compiling_pays() -> None:
    gain = Gain(seconds=41.2, eager=0.2, compiled=0.12, images=100)
    assert gain.pays_from == 51_500
    assert gain.told() == "compiling took 41.2 s and saves 0.80 ms an image: it pays from 51,500 images"
    assert gain.facts() == {"compile_seconds": 41.2, "eager_ms": 2.0, "compiled_ms": 1.2}
    slower = Gain(seconds=41.2, eager=0.2, compiled=0.2, images=100)
    assert slower.pays_from is None
    assert slower.told() == "compiling took 41.2 s and saves nothing"


def test_a_process_hands_its_gain_on() -> None:
    gain, clock = Gain(1.0, 2.0, 1.0, 10), Clock()

    def write(theirs: Clock) -> None:
        theirs.gain = gain

    outcome = attempt(write)
    settle(outcome, clock, "cpu")
    settle(Outcome(), clock, "cpu")
    assert clock.gain == gain
