"""`transferscope serve` with a real Prefect server on loopback: deploy, look, trigger, see the run finish."""

from __future__ import annotations

import json
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

MakeToy = Callable[..., Any]
STAGES = {
    "one": {"cmd": "echo one > one.txt", "params": ["x"], "outs": ["one.txt"]},
    "two": {"cmd": "cp one.txt two.txt", "deps": ["one.txt"], "outs": ["two.txt"]},
}
PARAMS = {
    "datasets": {"packaged": {"digits": {"kind": "sklearn", "name": "digits"}}},
    "targets": ["digits"],
    "encoders": {"tiny": {"arch": "test_byobnet", "weights": "random"}},
    "rank": {"metrics": ["logme"]},
    "languages": {"tasks": ["entity_type"], "languages": ["en", "es", "pt"]},
    "schedule": {"cron": "15 4 * * 1", "timezone": "Asia/Tokyo", "jobs": 2},
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(url: str, content: object = None) -> Any:
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    for pause in (0.5, 1, 2, 4, 8, None):
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 503 or pause is None:  # the server's word for "my database is busy, ask again"
                raise
            error.close()
            time.sleep(pause)
    return None


def until(condition: Callable[[], Any], seconds: float) -> Any:
    """Return the condition's first true value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            found = condition()
        except OSError:
            found = None
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s")


@pytest.mark.slow
def test_deploys_the_schedule_and_runs_when_asked(make_toy: MakeToy, all_gone: Callable[[Path], None]) -> None:
    toy = make_toy("toy", STAGES)
    (toy.path / "params.yaml").write_text(yaml.safe_dump({**PARAMS, "datasets": PARAMS["datasets"]}))
    stages = {"one": STAGES["one"] | {"params": ["targets"]}, "two": STAGES["two"]}
    (toy.path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    served = toy.start("serve", "--port", str(port), PREFECT_RUNNER_POLL_FREQUENCY="1")
    try:
        deployment = until(lambda: ask(f"{api}/deployments/name/reproduce/scheduled"), 60)
        (schedule,) = deployment["schedules"]
        assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == ("15 4 * * 1", "Asia/Tokyo")
        assert schedule["active"]
        assert deployment["global_concurrency_limit"]["limit"] == 1
        assert deployment["parameters"] == {"jobs": 2}

        # Two at once: the second waits for the first, and both end well.
        runs = [ask(f"{api}/deployments/{deployment['id']}/create_flow_run", {}) for _ in range(2)]
        for run in runs:
            ended = until(lambda run=run: _ended(f"{api}/flow_runs/{run['id']}"), 60)
            assert ended["state"]["type"] == "COMPLETED", (ended["state"], (toy.path / "said").read_text())
        assert (toy.path / "two.txt").read_text() == "one\n"
        spans = sorted((run["start_time"], run["end_time"]) for run in (ask(f"{api}/flow_runs/{run['id']}") for run in runs))
        assert spans[0][1] <= spans[1][0], "two runs overlapped"
        rows = json.loads(ask(f"{api}/artifacts/filter", {"artifacts": {"key": {"any_": ["stages"]}}})[-1]["data"])
        assert {row["stage"] for row in rows} == {"one", "two"}
    finally:
        served.send_signal(signal.SIGINT)
        served.wait(30)
    all_gone(toy.path)
    assert "Traceback" not in (toy.path / "said").read_text()


def _ended(url: str) -> Any:
    run = ask(url)
    return run if run["state"]["type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None


@pytest.mark.parametrize(("schedule", "word"), [({"cron": "61 * * * *"}, "cron"), ({"timezone": "Mars/Olympus"}, "timezone")])
def test_a_wrong_schedule_is_one_message(make_toy: MakeToy, schedule: dict[str, str], word: str) -> None:
    toy = make_toy("toy", STAGES)
    (toy.path / "params.yaml").write_text(yaml.safe_dump(PARAMS | {"schedule": schedule}))
    done = toy.transferscope("serve")
    assert done.returncode == 2
    assert "params.yaml: schedule" in done.stderr
    assert word in done.stderr
    assert "Traceback" not in done.stderr
