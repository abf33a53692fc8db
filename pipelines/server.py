"""A Prefect server of this project's own, on loopback, for as long as a command runs: `python -m pipelines.server PORT`.

Prefect can start one by itself (its ephemeral mode), but loads the server into the flow's process too, which costs
seconds, and leaves it running when the flow is killed.
"""

from __future__ import annotations

import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines import children
from stages.errors import TryAgain

HOST = "127.0.0.1"
START_SECONDS = 120.0  # the first start makes the database
STOP_SECONDS = 10.0
SCHEDULER = "--scheduler"


@contextmanager
def running(*, scheduler: bool, port: int | None = None) -> Iterator[str]:
    """Yield the URL of Prefect's API; starts a server unless the environment names one in `PREFECT_API_URL`.

    Args:
        scheduler: with Prefect's scheduling services and dashboard.
        port: a free one by default.

    Raises:
        TryAgain: the server did not start.
    """
    given = os.environ.get("PREFECT_API_URL")
    if given:
        yield given
        return
    port = port or _free_port()
    url = f"http://{HOST}:{port}/api"
    process = children.start("pipelines.server", str(port), *([SCHEDULER] if scheduler else []), quiet=True)
    os.environ["PREFECT_API_URL"] = url
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(f"{url}/health"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise TryAgain(
                    "Prefect's server did not start", next_step=f"{sys.executable} -m pipelines.server {port}, to see why"
                )
            time.sleep(0.05)
        yield url
    finally:
        del os.environ["PREFECT_API_URL"]
        children.end(process, STOP_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  # our own http address
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def main(port: int, *, scheduler: bool) -> None:
    """Serve Prefect's API on loopback until told to end."""
    children.end_with_parent()
    import uvicorn
    from prefect.server.api.server import create_app

    uvicorn.run(create_app(ephemeral=not scheduler, final=True), host=HOST, port=port, log_level="error")


if __name__ == "__main__":
    main(int(sys.argv[1]), scheduler=SCHEDULER in sys.argv[2:])
