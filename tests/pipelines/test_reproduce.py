"""The flow against plain `dvc repro`, with real DVC, real Prefect and stages made of shell commands."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

MakeToy = Callable[..., Any]  # makes the Toy of conftest.py
Stopped = Callable[..., None]

DIAMOND = {
    "top": {"cmd": "echo top > top.txt", "params": ["x"], "outs": ["top.txt"]},
    "left": {"cmd": "sleep 0.3; cat top.txt > left.txt", "deps": ["top.txt"], "outs": ["left.txt"]},
    "right": {"cmd": "mkdir -p right && cp top.txt right/a && cp top.txt right/b", "deps": ["top.txt"], "outs": ["right"]},
    "bottom": {"cmd": "cat left.txt right/* > bottom.txt", "deps": ["left.txt", "right"], "outs": ["bottom.txt"]},
    "alone": {"cmd": "echo alone > alone.txt", "params": ["x"], "outs": ["alone.txt"]},
}


def runs(path: Path) -> list[str]:
    """Return which stages wrote their name into the log, in order."""
    return (path / "log").read_text().split() if (path / "log").is_file() else []


def test_leaves_the_lock_file_and_the_outputs_of_a_serial_run(make_toy: MakeToy, make_served_toy: MakeToy) -> None:
    serial, parallel = make_toy("serial", DIAMOND), make_served_toy("parallel", DIAMOND)
    assert serial.dvc("repro").returncode == 0
    done = parallel.transferscope("repro", "--jobs", "3")
    assert done.returncode == 0, done.stderr
    assert "5 ran" in done.stderr
    assert parallel.lock == serial.lock
    for name in ("top.txt", "left.txt", "right/a", "right/b", "bottom.txt", "alone.txt"):
        assert (parallel.path / name).read_bytes() == (serial.path / name).read_bytes()
    assert "up to date" in parallel.dvc("status").stdout


def test_a_second_run_does_nothing_and_starts_no_server(make_toy: MakeToy) -> None:
    toy = make_toy("toy", DIAMOND)
    assert toy.dvc("repro").returncode == 0
    toy.environment["PREFECT_HOME"] = str(toy.path / "home")
    done = toy.transferscope("repro")
    assert (done.returncode, done.stderr) == (0, "5 stages, all up to date\n")
    assert not (toy.path / "home").exists()


def test_only_targets_and_what_they_need_run(make_served_toy: MakeToy) -> None:
    toy = make_served_toy("toy", DIAMOND)
    assert toy.transferscope("repro", "left").returncode == 0
    assert set(toy.lock["stages"]) == {"top", "left"}


def test_stages_behind_the_same_outputs_are_left_alone(make_served_toy: MakeToy) -> None:
    log = "; echo {} >> log"
    toy = make_served_toy("toy", {name: stage | {"cmd": stage["cmd"] + log.format(name)} for name, stage in DIAMOND.items()})
    assert toy.transferscope("repro").returncode == 0
    (toy.path / "log").unlink()
    toy.write({name: stage | {"cmd": stage["cmd"] + log.format(name)} for name, stage in DIAMOND.items()}, x=2)
    done = toy.transferscope("repro")
    assert sorted(runs(toy.path)) == ["alone", "top"]
    assert "2 ran, 3 unchanged" in done.stderr
    assert "didn't change" not in done.stderr, "DVC was asked about a stage that cannot have changed"
    assert "up to date" in toy.dvc("status").stdout


def test_an_undone_edit_is_restored_from_the_run_cache(make_served_toy: MakeToy) -> None:
    stages = {"only": {"cmd": "grep x params.yaml > only.txt", "deps": ["params.yaml"], "outs": ["only.txt"]}}
    toy = make_served_toy("toy", stages)
    for x, result in ((1, "1 ran"), (2, "1 ran"), (1, "1 restored")):
        toy.write(stages, x=x)
        assert result in toy.transferscope("repro").stderr
        assert (toy.path / "only.txt").read_text() == f"x: {x}\n"


def _interval(name: str) -> dict[str, object]:
    return {"cmd": f"date +%s.%N > {name}.log; sleep 2; date +%s.%N >> {name}.log; echo > {name}.txt", "outs": [f"{name}.txt"]}


@pytest.mark.parametrize(("jobs", "overlaps"), [("2", True), ("1", False)])
def test_jobs_is_how_many_stages_run_at_once(make_served_toy: MakeToy, jobs: str, overlaps: bool) -> None:
    toy = make_served_toy("toy", {name: _interval(name) for name in ("a", "b")})
    assert toy.transferscope("repro", "--jobs", jobs).returncode == 0
    (a_start, a_end), (b_start, b_end) = (map(float, (toy.path / f"{name}.log").read_text().split()) for name in ("a", "b"))
    assert (max(a_start, b_start) < min(a_end, b_end)) is overlaps


def _dvc_of(run: int) -> psutil.Process:
    """Return the DVC process that a flow has started, a fork of the process that has DVC loaded."""
    loaded = next(child for child in psutil.Process(run).children() if "pipelines.one_dvc" in child.cmdline())
    return loaded.children()[0]


def _failing(name: str, code: int, needs: str = "good.txt") -> dict[str, object]:
    return {"cmd": f"echo {name} >> log; echo '{name}: says {code}'; exit {code}", "deps": [needs], "outs": [f"{name}.txt"]}


FAILURES = {
    "good": {"cmd": "echo good > good.txt", "outs": ["good.txt"]},
    "behind_bug": {"cmd": "cp bug.txt behind.txt", "deps": ["bug.txt"], "outs": ["behind.txt"]},
    "far_behind": {"cmd": "cp behind.txt far.txt", "deps": ["behind.txt"], "outs": ["far.txt"]},
    "input": _failing("input", 2),
    "bug": _failing("bug", 1),
    "killed": {
        "cmd": "echo killed >> log; test $(grep -c killed log) = 2 || kill -9 $$; echo > killed.txt",
        "deps": ["good.txt"],
        "outs": ["killed.txt"],
    },
    "later": {
        "cmd": "echo later >> log; test $(grep -c later log) = 3 || exit 75; echo > later.txt",
        "deps": ["good.txt"],
        "outs": ["later.txt"],
    },
    "never": _failing("never", 75),
    "fine": {"cmd": "echo fine > fine.txt", "deps": ["good.txt"], "outs": ["fine.txt"]},
    "missing": {"cmd": "cp nothing missing.txt", "deps": ["nothing"], "outs": ["missing.txt"]},
    "forgets": {"cmd": "true", "deps": ["good.txt"], "outs": ["forgotten.txt"]},
}


def test_exit_codes_decide_who_is_tried_again_and_only_descendants_stop(make_served_toy: MakeToy) -> None:
    toy = make_served_toy("toy", FAILURES)
    done = toy.transferscope("repro", "--jobs", "2", "--retry-seconds", "0.1")
    said = done.stderr
    tried = {name: runs(toy.path).count(name) for name in ("input", "bug", "killed", "later", "never")}
    assert tried == {"input": 1, "bug": 2, "killed": 2, "later": 3, "never": 5}
    assert set(toy.lock["stages"]) == {"good", "fine", "later", "killed"}
    assert "4 ran, 5 failed, 2 not run" in said
    rows = {line.split("│")[1].strip(): line for line in said.splitlines() if line.startswith("│")}
    assert "needs bug" in rows["behind_bug"]
    assert "needs bug" in rows["far_behind"]
    assert "says 2" in rows["input"]
    assert "killed: exit code 75; trying again in 0.1 s" in said
    assert "nothing" in rows["missing"]
    codes = [line for line in said.splitlines() if "(exit code" in line]
    assert [int(line.split("exit code ")[1].split(",")[0]) for line in codes] == [1, 2, 75, 2, 1]
    assert "Traceback" not in said
    assert done.returncode == 1, "the first failed stage in the graph's order decides"


def test_says_which_targets_there_are(make_toy: MakeToy) -> None:
    done = make_toy("toy", DIAMOND).transferscope("repro", "botom")
    assert done.returncode == 2
    assert "nearest valid: bottom" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dvc_yaml_that_dvc_refuses_is_one_message(make_toy: MakeToy) -> None:
    done = make_toy("toy", {"loop": {"cmd": "true", "deps": ["a"], "outs": ["a"]}}).transferscope("repro")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


SLOW = {"slow": {"cmd": "echo >> log; echo > started; sleep 45; echo > slow.txt", "params": ["x"], "outs": ["slow.txt"]}}
QUICK = {"slow": SLOW["slow"] | {"cmd": "echo > slow.txt"}}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])  # SIGTERM is not handled either
def test_a_stopped_run_leaves_no_process_and_goes_on_later(
    make_toy: MakeToy, all_gone: Stopped, number: signal.Signals
) -> None:
    toy = make_toy("toy", SLOW)
    run = toy.start("repro")
    toy.wait_for("started")
    run.send_signal(number)
    code = run.wait(30)
    assert code == {signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}[number]
    all_gone(toy.path)
    assert not (toy.path / "slow.txt").exists()
    assert "Traceback" not in (toy.path / "said").read_text()
    toy.write(QUICK)
    assert toy.dvc("repro").returncode == 0


def test_a_killed_dvc_takes_its_stage_along_and_is_tried_again(make_served_toy: MakeToy, all_gone: Stopped) -> None:
    once = "if test ! -e log; then echo >> log; echo > started; sleep 45; fi; echo >> log; echo > slow.txt"
    toy = make_served_toy("toy", {"slow": SLOW["slow"] | {"cmd": once}})
    run = toy.start("repro", "--retry-seconds", "0.1")
    toy.wait_for("started")
    _dvc_of(run.pid).kill()
    assert run.wait(30) == 0, "the first stage was waited for"
    assert (toy.path / "log").read_text() == "\n\n"
    assert "slow: exit code 75; trying again in 0.1 s" in (toy.path / "said").read_text()
    all_gone(toy.path)


def test_a_dvc_killed_while_it_writes_its_list_of_paths_is_tried_again(make_served_toy: MakeToy) -> None:
    torn = ": > .dvc/tmp/rwlock; kill -9 $PPID; sleep 45"
    once = f"if test ! -e log; then echo >> log; {torn}; fi; echo >> log; echo > slow.txt"
    toy = make_served_toy("toy", {"slow": SLOW["slow"] | {"cmd": once}})
    run = toy.start("repro", "--retry-seconds", "0.1")
    assert run.wait(60) == 0, (toy.path / "said").read_text()
    assert (toy.path / "log").read_text() == "\n\n"
    assert "rwlock was damaged: removed" in (toy.path / "said").read_text()


@pytest.mark.parametrize("both", [True, False])
def test_a_killed_loader_of_dvc_ends_its_stages_and_is_started_again(
    make_served_toy: MakeToy, all_gone: Stopped, both: bool
) -> None:
    once = "if test ! -e log; then echo >> log; echo > started; sleep 45; fi; echo >> log; echo > slow.txt"
    toy = make_served_toy("toy", {"slow": SLOW["slow"] | {"cmd": once}})
    run = toy.start("repro", "--retry-seconds", "0.1")
    toy.wait_for("started")
    dvc = _dvc_of(run.pid)
    dvc.parent().kill()
    if both:
        dvc.kill()
    assert run.wait(60) == 0, (toy.path / "said").read_text()
    assert (toy.path / "log").read_text() == "\n\n"
    all_gone(toy.path)


@pytest.mark.parametrize("damage", ["", "schema: '2.0'\nstages:\n  top:\n    cm", "stages:\n  top: 'open\n"])
def test_records_that_dvc_left_half_written_are_mended(make_served_toy: MakeToy, damage: str) -> None:
    toy = make_served_toy("toy", DIAMOND)
    assert toy.dvc("repro").returncode == 0
    lock = toy.lock
    (toy.path / "dvc.lock").write_text(damage)
    (toy.path / ".dvc" / "tmp" / "rwlock").write_text(damage[:1])
    assert toy.dvc("repro").returncode != 0, "DVC mends itself, mend.py can go"
    done = toy.transferscope("repro")
    assert done.returncode == 0, done.stderr
    assert "dvc.lock was damaged" in done.stderr
    assert "5 restored" in done.stderr
    assert toy.lock == lock
    assert toy.transferscope("repro").stderr == "5 stages, all up to date\n"


def test_two_runs_of_one_project_do_not_overlap(make_served_toy: MakeToy) -> None:
    toy = make_served_toy("toy", SLOW)
    first = toy.start("repro")
    toy.wait_for("started")
    second = toy.transferscope("repro")
    assert second.returncode == 75
    assert "another run" in second.stderr
    assert toy.transferscope("drop-store").returncode == 75
    first.send_signal(signal.SIGINT)
    first.wait(30)


def test_waits_for_a_path_that_another_dvc_works_on(make_served_toy: MakeToy) -> None:
    until_go = "while test ! -e go; do sleep 0.1; done"
    held = {
        "held": {
            "cmd": f"echo held >> log; echo > started; {until_go}; echo > held.txt",
            "params": ["x"],
            "outs": ["held.txt"],
        },
        "after": {"cmd": "cp held.txt after.txt", "deps": ["held.txt"], "outs": ["after.txt"]},
    }
    toy = make_served_toy("toy", held)
    other = subprocess.Popen([Path(sys.executable).parent / "dvc", "repro", "-q", "held"], cwd=toy.path, env=toy.environment)
    toy.path.joinpath("said").touch()
    toy.wait_for("started")
    kept = toy.path / "data" / "store" / "training" / "one"
    kept.parent.mkdir(parents=True)
    kept.touch()
    refused = toy.transferscope("drop-store")
    assert (refused.returncode, kept.exists()) == (75, True)
    assert "another DVC process" in refused.stderr
    run = toy.start("repro")
    deadline = time.monotonic() + 60
    while "is busy" not in (toy.path / "said").read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    (toy.path / "go").touch()
    assert other.wait(30) == 0
    assert run.wait(60) == 0, (toy.path / "said").read_text()
    assert "is busy" in (toy.path / "said").read_text()
    assert runs(toy.path) == ["held"], "it had been made by the other one"


def test_stages_go_on_when_the_server_dies(make_toy: MakeToy, all_gone: Stopped) -> None:
    first = {"cmd": "echo > started; sleep 3; echo > first.txt", "params": ["x"], "outs": ["first.txt"]}
    toy = make_toy("toy", {"first": first, "second": {"cmd": "echo > b.txt", "deps": ["first.txt"], "outs": ["b.txt"]}})
    run = toy.start("repro", PREFECT_CLIENT_MAX_RETRIES="0")
    toy.wait_for("started")
    server = next(child for child in psutil.Process(run.pid).children() if "pipelines.server" in child.cmdline())
    server.kill()
    assert run.wait(90) == 75
    said = (toy.path / "said").read_text()
    assert "EventsWorker" not in said, "Prefect's log, after half a minute of trying"
    assert "server cannot be reached" in said
    assert "Traceback" not in said
    all_gone(toy.path)
    assert "all up to date" in toy.transferscope("repro").stderr
