"""One stage per device, with devices that only have names: what is locked is the same, and no stage computes on them."""

from __future__ import annotations

import json
import signal
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.devices import visible

MakeToy = Callable[..., Any]  # makes the Toy of conftest.py

TWO = "GPU 0: NVIDIA H100 (UUID: GPU-aa11)\nGPU 1: NVIDIA H100 (UUID: GPU-bb22)\n"
SPLIT = (
    "GPU 0: H100 (UUID: GPU-aa11)\n  MIG 1g.10gb Device 0: (UUID: MIG-1)\n  MIG 1g.10gb Device 1: (UUID: MIG-2)\n" + TWO[37:]
)


@pytest.mark.parametrize(
    ("listed", "wanted", "expected"),
    [
        ("", None, []),
        (TWO, None, ["GPU-aa11", "GPU-bb22"]),
        (TWO, "1", ["GPU-bb22"]),
        (TWO, "GPU-b, 0", ["GPU-bb22", "GPU-aa11"]),
        (TWO, "", []),
        (TWO, "-1", []),
        (TWO, "0,7,1", ["GPU-aa11"]),  # CUDA stops at the first that is not there
        (SPLIT, None, ["MIG-1", "MIG-2", "GPU-bb22"]),
        (SPLIT, "MIG-2", ["MIG-2"]),
    ],
)
def test_uses_what_cuda_would_show(listed: str, wanted: str | None, expected: list[str]) -> None:
    assert visible(listed, wanted) == expected


def stage(name: str, *, on_device: bool, seconds: float = 2, meets: str | None = None) -> dict[str, Any]:
    """Return a stage that writes when it began and ended; one that `meets` another ends once that has begun, or in vain."""
    begin, end = f"date +%s.%N > {name}.log; echo $CUDA_VISIBLE_DEVICES >> {name}.log", f"date +%s.%N >> {name}.log"
    wait = f"for _ in $(seq 300); do test -s {meets}.log && break; sleep 0.1; done" if meets else f"sleep {seconds}"
    cmd = f"{begin}; {wait}; {end}; echo > {name}.txt"
    return {"cmd": cmd, "outs": [f"{name}.txt"], **({"meta": {"device": "run.device"}} if on_device else {})}


STAGES = {"a": stage("a", on_device=True), "b": stage("b", on_device=True), "cpu": stage("cpu", on_device=False)}


def span(toy: Any, name: str) -> tuple[float, float, str]:
    start, device, end = (toy.path / f"{name}.log").read_text().split("\n")[:3]
    return float(start), float(end), device


def overlap(one: tuple[float, float, str], other: tuple[float, float, str]) -> bool:
    return max(one[0], other[0]) < min(one[1], other[1])


def test_one_device_runs_one_stage_while_others_go_on(make_served_toy: MakeToy, tmp_path: Path) -> None:
    toy = make_served_toy("toy", STAGES)
    toy.environment["TRANSFERSCOPE_DEVICES"] = f"{tmp_path.name}-one"
    done = toy.transferscope("repro", "--jobs", "3")
    assert done.returncode == 0, done.stderr
    a, b, cpu = (span(toy, name) for name in STAGES)
    assert not overlap(a, b)
    assert overlap(cpu, a) or overlap(cpu, b)
    assert (a[2], b[2], cpu[2]) == (f"{tmp_path.name}-one", f"{tmp_path.name}-one", "")


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_two_devices_run_two_stages_and_a_cpu_as_many_as_jobs(make_served_toy: MakeToy, tmp_path: Path, device: str) -> None:
    both = {name: stage(name, on_device=True, meets=other) for name, other in ("ab", "ba")}
    toy = make_served_toy("toy", both, run={"device": device})
    names = [f"{tmp_path.name}-{device}-{number}" for number in range(1 + (device == "auto"))]
    toy.environment["TRANSFERSCOPE_DEVICES"] = ",".join(names)
    assert toy.transferscope("repro", "--jobs", "2").returncode == 0
    a, b = span(toy, "a"), span(toy, "b")
    assert overlap(a, b)
    assert sorted([a[2], b[2]]) == (["", ""] if device == "cpu" else names)


def test_another_project_waits_until_the_killed_run_has_left_the_device(make_toy: MakeToy, tmp_path: Path) -> None:
    # Each with a server of its own, which knows nothing of the other: the file lock alone keeps them apart.
    first = make_toy("first", {"a": stage("a", on_device=True, seconds=60)})
    second = make_toy("second", {"b": STAGES["b"]})
    for toy in (first, second):
        toy.environment["TRANSFERSCOPE_DEVICES"] = f"{tmp_path.name}-one"
        toy.environment["PREFECT_HOME"] = str(toy.path / "prefect")
    run, waiting = first.start("repro"), None
    try:
        first.wait_for("a.log")
        waiting = second.start("repro")
        second.path.joinpath("said").touch()
        second.wait_for("said")  # it says that it waits
        assert "waits for a device" in (second.path / "said").read_text()
        assert not (second.path / "b.log").exists()
        run.send_signal(signal.SIGKILL)
        assert waiting.wait(120) == 0, (second.path / "said").read_text()
        assert span(second, "b")[2] == f"{tmp_path.name}-one"
        assert not (first.path / "a.txt").exists(), "the stage outlived its run"
    finally:
        for process in (run, waiting):
            if process is not None:
                process.kill()
                process.wait()


def test_a_shared_server_counts_the_device(make_served_toy: MakeToy, tmp_path: Path) -> None:
    toy = make_served_toy("toy", {"a": STAGES["a"]})
    device = f"{tmp_path.name}-one"
    toy.environment["TRANSFERSCOPE_DEVICES"] = device
    url = f"{toy.environment['PREFECT_API_URL']}/v2/concurrency_limits/device%20{device}"
    run = toy.start("repro")
    toy.wait_for("a.log")
    with urllib.request.urlopen(url, timeout=20) as answer:
        limit = json.load(answer)
    assert (limit["limit"], limit["active_slots"]) == (1, 1)
    assert run.wait(60) == 0
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert json.load(answer)["active_slots"] == 0
