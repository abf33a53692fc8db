"""A real Prefect server on loopback, `transferscope serve` and pipelines/prefect.yaml: deploy, trigger, see the run finish."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

MakeToy = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]
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
    "schedule": {"cron": "15 4 * * 1", "timezone": "Asia/Tokyo", "jobs": 2, "pull": True, "push": True},
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


@pytest.fixture
def outside() -> Iterator[dict[str, str]]:
    """Variables that send every connection off this machine to a door, which at the end must not have been knocked at."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        door.setblocking(False)
        proxy = f"http://127.0.0.1:{door.getsockname()[1]}"
        names = ("http_proxy", "https_proxy", "all_proxy")
        yield {name: proxy for lower in names for name in (lower, lower.upper())} | {
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        asked = []
        with suppress(BlockingIOError):
            while True:
                with door.accept()[0] as caller:
                    asked.append(caller.recv(500))
        assert asked == []


@pytest.fixture
def scheduled(make_toy: MakeToy, outside: dict[str, str], tmp_path: Path) -> Any:
    """A project with a schedule, a remote to pull from and push to, a report, and no word against telling others."""
    toy = make_toy("toy", {"one": STAGES["one"] | {"params": ["targets"]}, "two": STAGES["two"]})
    (toy.path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    toy.environment.pop("DO_NOT_TRACK", None)
    toy.environment.update(outside)
    assert toy.dvc("remote", "add", "--default", "storage", str(tmp_path / "storage")).returncode == 0
    report = toy.path / "data" / "reports" / "index.html"
    report.parent.mkdir(parents=True)
    report.touch()
    return toy


def left_artifacts(api: str) -> dict[str, Any]:
    """Return what the last artifact of each key holds."""
    return {artifact["key"]: artifact["data"] for artifact in ask(f"{api}/artifacts/latest/filter", {})}


def check_artifacts(api: str, toy: Any) -> None:
    data = left_artifacts(api)
    assert {row["stage"] for row in json.loads(data["stages"])} == {"one", "two"}
    assert data["progress"] == 100.0
    assert (toy.path / "data" / "reports" / "index.html").as_uri() in data["report"]


@pytest.mark.slow
def test_deploys_the_schedule_and_runs_when_asked(scheduled: Any, all_gone: Callable[[Path], None], tmp_path: Path) -> None:
    toy = scheduled
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    served = toy.start("serve", "--port", str(port), PREFECT_RUNNER_POLL_FREQUENCY="1")
    try:
        deployment = until(lambda: ask(f"{api}/deployments/name/reproduce/scheduled"), 60)
        (schedule,) = deployment["schedules"]
        assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == ("15 4 * * 1", "Asia/Tokyo")
        assert schedule["active"]
        assert deployment["global_concurrency_limit"]["limit"] == 1
        assert deployment["parameters"] == {"jobs": 2, "pull": True, "push": True}

        due = until(lambda: ask(f"{api}/flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}), 60)
        # 4:15 in Tokyo is 19:15 of the day before in UTC.
        assert {run["expected_start_time"][10:16] for run in due} == {"T19:15"}
        assert {datetime.fromisoformat(run["expected_start_time"]).weekday() for run in due} == {6}

        # Two at once: the second waits for the first, and both end well.
        runs = [ask(f"{api}/deployments/{deployment['id']}/create_flow_run", {}) for _ in range(2)]
        for run in runs:
            ended = until(lambda run=run: _ended(f"{api}/flow_runs/{run['id']}"), 60)
            assert ended["state"]["type"] == "COMPLETED", (ended["state"], (toy.path / "said").read_text())
        assert (toy.path / "two.txt").read_text() == "one\n"
        spans = sorted((run["start_time"], run["end_time"]) for run in (ask(f"{api}/flow_runs/{run['id']}") for run in runs))
        assert spans[0][1] <= spans[1][0], "two runs overlapped"
        check_artifacts(api, toy)
        assert any((tmp_path / "storage" / "runs").rglob("*")), "nothing was pushed"
    finally:
        served.send_signal(signal.SIGINT)
        served.wait(30)
    all_gone(toy.path)
    assert "Traceback" not in (toy.path / "said").read_text()


@pytest.mark.slow
def test_prefect_deploy_and_a_worker_run_it_as_params_say(scheduled: Any, all_gone: Callable[[Path], None]) -> None:
    toy, port = scheduled, free_port()
    api = f"http://127.0.0.1:{port}/api"
    toy.environment.update(PREFECT_API_URL=api, DO_NOT_TRACK="1")  # Prefect's own commands would tell, see docs/operating.md
    worker = None
    server = subprocess.Popen(
        [sys.executable, "-m", "pipelines.server", str(port), "--scheduler"], cwd=toy.path, env=toy.environment
    )
    try:
        until(lambda: ask(f"{api}/health"), 60)
        prefect = [Path(sys.executable).parent / "prefect", "--no-prompt"]
        with (toy.path / "said").open("w") as said:
            worker = subprocess.Popen(
                [*prefect, "worker", "start", "--pool", "transferscope", "--type", "process"], cwd=toy.path.parent,
                stdout=said, stderr=said, env=toy.environment | {"PREFECT_WORKER_QUERY_SECONDS": "1"},
            )  # fmt: skip
        until(lambda: ask(f"{api}/work_pools/transferscope"), 60)
        done = subprocess.run(
            [*prefect, "deploy", "--prefect-file", str(ROOT / "pipelines" / "prefect.yaml"), "--all"],
            cwd=toy.path, env=toy.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        deployment = ask(f"{api}/deployments/name/reproduce/nightly")
        (schedule,) = deployment["schedules"]
        assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == ("15 4 * * 1", "Asia/Tokyo")
        assert deployment["parameters"] == {"jobs": 2, "pull": True, "push": True}
        assert deployment["global_concurrency_limit"]["limit"] == 1
        run = ask(f"{api}/deployments/{deployment['id']}/create_flow_run", {})
        ended = until(lambda: _ended(f"{api}/flow_runs/{run['id']}"), 120)
        assert ended["state"]["type"] == "COMPLETED", (ended["state"], (toy.path / "said").read_text())
        assert (toy.path / "two.txt").read_text() == "one\n"
        check_artifacts(api, toy)
    finally:
        for process in (worker, server):
            if process is not None:
                process.send_signal(signal.SIGINT)
                process.wait(30)
    all_gone(toy.path)


def test_pull_without_a_remote_is_one_message(make_toy: MakeToy) -> None:
    toy = make_toy("toy", STAGES)
    (toy.path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    done = toy.transferscope("serve")
    assert done.returncode == 2
    assert "no remote is set" in done.stderr
    assert "dvc remote add" in done.stderr


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
