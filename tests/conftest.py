"""Fixtures: a project folder of its own for every test that touches disk, and the real inputs where they are."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import yaml
from hypothesis import settings

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared" / "real"


@pytest.fixture
def real_inputs() -> Path:
    """The folder of real photographs, weights and language results."""
    if not REAL.is_dir():
        pytest.skip(f"the real inputs are not at {REAL}")
    return REAL


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder as working directory: entries and artifacts read and write below it."""
    (tmp_path / "data" / "raw" / "weights").mkdir(parents=True)
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write_params(project: Path) -> Callable[..., Path]:
    """Write params.yaml into the project folder: a valid minimum, with whole sections replaced by keyword."""

    def write(**sections: object) -> Path:
        content: dict[str, object] = {
            "datasets": {"packaged": {"digits": {"kind": "sklearn", "name": "digits"}}},
            "targets": ["digits"],
            "encoders": {
                "tiny": {
                    "arch": "test_byobnet",
                    "arch_args": {"in_chans": 1},
                    "weights": "random",
                    "input_size": 32,
                    "layers": ["pooled"],
                }
            },
            "rank": {"metrics": ["logme"]},
            "languages": {"tasks": ["entity_type"], "languages": ["en", "es", "pt"]},
        }
        path = project / "params.yaml"
        path.write_text(yaml.safe_dump({**content, **sections}, sort_keys=False), encoding="utf-8")
        return path

    return write


@pytest.fixture
def run_stage(project: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a stage entry as DVC does, as a process in the project folder: run_stage("ingest", "--dataset", "digits")."""

    def run(stage: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, "-m", f"stages.{stage}", *arguments],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


DRAWN_WITHIN = 60  # seconds for a page to draw itself on a machine that does other things as well


class Browser:
    """One tab of a headless Chromium, spoken to over a pipe in the DevTools protocol: no package, no port, no network.

    `open` loads a file; `said` holds errors of the console, `asked` all addresses that were asked for.
    """

    def __init__(self, program: str, home: Path) -> None:
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        flags = (
            "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
            "--disable-component-update --disable-sync --hide-scrollbars --remote-debugging-pipe"
        )
        command = f'exec "$0" {flags} --user-data-dir="$1" about:blank 3<&{to_read} 4>&{to_write}'
        self._process = subprocess.Popen(
            ["bash", "-c", command, program, str(home)], pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        self._left, self._numbers = b"", itertools.count(1)
        self.said: list[str] = []
        self.asked: list[str] = []
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._to)
        self._process.kill()
        self._process.wait()
        os.close(self._from)

    def call(self, method: str, **parameters: Any) -> Any:
        """Return the result of one command; events that come before it are kept."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self._keep(answer)

    def _next(self) -> Any:
        while b"\0" not in self._left:
            block = os.read(self._from, 1 << 20)
            assert block, "the browser has ended"
            self._left += block
        message, _, self._left = self._left.partition(b"\0")
        return json.loads(message)

    def _keep(self, event: Any) -> None:
        method, facts = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.asked.append(facts["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = facts["exceptionDetails"]
            self.said.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and facts["type"] in ("error", "assert"):
            self.said.append(" ".join(str(part.get("value", part.get("description"))) for part in facts["args"]))
        elif method == "Log.entryAdded" and facts["entry"]["level"] == "error":
            self.said.append(facts["entry"]["text"])

    def run(self, script: str) -> Any:
        """Return what an expression of JavaScript is worth in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open(self, page: Path, *, ready: str = "true", width: int = 1100, dark: bool = False) -> None:
        """Load a file at a width, in light or dark, and wait until the expression `ready` holds."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call("Page.navigate", url=page.absolute().as_uri())
        deadline = time.monotonic() + DRAWN_WITHIN
        there = f"document.readyState === 'complete' && location.href !== 'about:blank' && ({ready})"
        while not self.run(f"Boolean({there})"):
            assert time.monotonic() < deadline, (page, self.said)
            time.sleep(0.1)

    def picture(self, path: Path) -> None:
        """Write the whole page as PNG."""
        content = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(content["data"]))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser for pages on the disk, where one is installed."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium is on PATH")
    with Browser(program, tmp_path_factory.mktemp("browser")) as started:
        yield started
