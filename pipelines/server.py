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
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipelines import children
from stages.errors import InputProblem, TryAgain

HOST = "127.0.0.1"
START_SECONDS = 120.0  # the first start makes the database
STOP_SECONDS = 10.0
SCHEDULER = "--scheduler"
_OWN = "TRANSFERSCOPE_OWN_SERVER"


@contextmanager
def running(*, scheduler: bool, port: int | None = None) -> Iterator[Callable[[], str]]:
    """Start a server unless the environment names one in `PREFECT_API_URL`; end it when the block ends.

    Yields a function that waits until the server answers and returns the URL of its API. Prefect reads the URL when it
    is imported, so import it inside the block; doing that, and whatever else can be done, before waiting saves the time.

    Args:
        scheduler: with Prefect's scheduling services and dashboard.
        port: a free one by default.

    Raises:
        InputProblem: the port is taken.
        TryAgain: from the yielded function, where the server did not start.
    """
    given = os.environ.get("PREFECT_API_URL")
    if given:
        yield lambda: given
        return
    port = _free_port(port or 0)
    url = f"http://{HOST}:{port}/api"
    process = children.start("pipelines.server", str(port), *([SCHEDULER] if scheduler else []))
    os.environ["PREFECT_API_URL"] = url
    if not scheduler:
        os.environ[_OWN] = "1"

    def wait() -> str:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(f"{url}/health"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise TryAgain(
                    f"Prefect's server did not start on port {port}",
                    next_step=f"{sys.executable} -m pipelines.server {port}, to see why",
                )
            time.sleep(0.05)
        return url

    try:
        yield wait
    finally:
        del os.environ["PREFECT_API_URL"]
        os.environ.pop(_OWN, None)
        children.end(process, STOP_SECONDS)


def own() -> bool:
    """Return whether the server is one that serves this run alone, and so has nothing to limit."""
    return _OWN in os.environ


def _free_port(wanted: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError as error:
            raise InputProblem(
                f"port {wanted} cannot be used ({error.strerror})",
                next_step=f"name another with --port; or, where a Prefect server listens there, "
                f"export PREFECT_API_URL=http://{HOST}:{wanted}/api",
            ) from None
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
    # Leases on disk, so that what a killed run held is given back after this server has been started anew.
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE", "prefect.server.concurrency.lease_storage.filesystem")
    import uvicorn
    from prefect.server.api.server import create_app

    uvicorn.run(create_app(ephemeral=not scheduler, final=True), host=HOST, port=port, log_level="error")


if __name__ == "__main__":
    main(int(sys.argv[1]), scheduler=SCHEDULER in sys.argv[2:])
