"""The order of a run, on random graphs, against the definition; and what DVC's output is read as."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.crew import Outcome, verdict
from pipelines.graph import Node
from pipelines.ledger import Ledger

NOWHERE = Path("does-not-exist")


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[str, Node], set[str]]:
    """Draw a graph of up to 12 stages in a valid order, and which of them fail."""
    size = draw(st.integers(1, 12))
    nodes = {}
    for index in range(size):
        needs = draw(st.sets(st.integers(0, index - 1), max_size=3)) if index else set()
        nodes[f"s{index}"] = Node(f"s{index}", tuple(f"s{n}" for n in sorted(needs)), draw(st.booleans()), NOWHERE, f"s{index}")
    return nodes, draw(st.sets(st.sampled_from(sorted(nodes)), max_size=3))


def ancestors(nodes: dict[str, Node], name: str) -> set[str]:
    return {need for direct in nodes[name].needs for need in {direct, *ancestors(nodes, direct)}}


@given(graphs(), st.integers(1, 4), st.randoms(use_true_random=False))
def test_stages_start_after_what_they_need_and_failures_stop_descendants_only(
    drawn: tuple[dict[str, Node], set[str]], jobs: int, chance: random.Random
) -> None:
    nodes, failing = drawn
    ledger = Ledger(nodes)
    running: list[str] = []
    finished: set[str] = set()
    while True:
        while len(running) < jobs and (name := ledger.take()) is not None:
            assert set(nodes[name].needs) <= finished
            running.append(name)
        if not running:
            break
        name = running.pop(chance.randrange(len(running)))
        assert ledger.kept(name) is (not any(nodes[n].changed for n in {name, *ancestors(nodes, name)}))
        result = "unchanged" if ledger.kept(name) else "failed" if name in failing else "ran"
        if result != "failed":
            finished.add(name)
        ledger.settle(Outcome(name, result))
    outcomes = {outcome.stage: outcome for outcome in ledger.in_order}
    assert list(outcomes) == list(nodes)
    failed = {outcome.stage for outcome in ledger.failed}
    for name, outcome in outcomes.items():
        behind = ancestors(nodes, name) & failed
        assert (outcome.result == "not run") is bool(behind)
        if behind:
            assert outcome.message.removeprefix("needs ") in behind


def test_the_stage_that_most_wait_for_goes_first() -> None:
    nodes = {name: Node(name, needs, True, NOWHERE, name) for name, needs in
             {"alone": (), "root": (), "middle": ("root",), "leaf": ("middle",)}.items()}  # fmt: skip
    assert Ledger(nodes).take() == "root"


FAILED = "ERROR: failed to reproduce 'rank@a': failed to run: python -m stages.rank --encoder a, exited with {}"
KILLED = ": killed, as the kernel does when memory runs out"


@pytest.mark.parametrize(
    ("code", "lines", "result", "exit_code", "message"),
    [
        (0, ["Stage 'rank@a' didn't change, skipping", "Data and pipelines are up to date."], "unchanged", 0, ""),
        (0, ["Stage 'rank@a' is cached - skipping run, checking out outputs", ""], "restored", 0, ""),
        (0, ["Running stage 'rank@a':", "> python -m stages.rank --encoder a", "12 images"], "ran", 0, ""),
        (255, ["noise", "rank@a: what", "Next: step", FAILED.format(2)], "failed", 2, "what\nNext: step"),
        (255, ["Traceback", "ValueError: no", FAILED.format(1)], "failed", 1, "ValueError: no"),
        (255, ["> cmd", FAILED.format(-9)], "failed", 75, FAILED.format(-9).removeprefix("ERROR: ") + KILLED),
        (
            255,
            ["12 images", FAILED.format(137)],
            "failed",
            75,
            FAILED.format(137).removeprefix("ERROR: ") + KILLED + "\n12 images",
        ),
        (255, ["12 images", FAILED.format(-11)], "failed", 1, FAILED.format(-11).removeprefix("ERROR: ") + "\n12 images"),
        (255, ["> cmd", FAILED.format(255)], "failed", 1, FAILED.format(255).removeprefix("ERROR: ")),
        (255, ["> cmd", "rank@a: no network", FAILED.format(75)], "failed", 75, "no network"),
        (255, ["ERROR: failed to reproduce 'rank@a': output 'x' does not exist"], "failed", 1, None),
        (255, ["ERROR: failed to reproduce 'rank@a': [Errno 2] No such file or directory: '/x'"], "failed", 2, None),
        (255, ["ERROR: unexpected error - [Errno 28] No space left on device: '/x'"], "failed", 75, None),
        (-9, ["12 images"], "failed", 75, "DVC was killed by signal 9" + KILLED),
        (-11, ["12 images"], "failed", 1, "DVC was killed by signal 11"),
    ],
)
def test_reads_what_became_of_a_stage(code: int, lines: list[str], result: str, exit_code: int, message: str | None) -> None:
    outcome = verdict("rank@a", code, lines)
    assert (outcome.result, outcome.code) == (result, exit_code)
    if message is not None:
        assert outcome.message == message
