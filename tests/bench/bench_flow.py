"""PYTHONPATH=. python tests/bench/bench_flow.py [--pipeline]

What `transferscope repro --jobs 2` adds to each stage beyond `dvc repro`, and a run that has nothing to do against the
same of DVC: 100 stages of a shell command each, 98 of them independent; Prefect's server is its own, started in the run.
`--pipeline` measures the default pipeline from nothing instead, `dvc repro` against `--jobs 2`: a copy of this project
without its data and DVC's cache, in twice its usual time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = Path(sys.executable).parent
STAGES, REPEATS = 100, 3
FLOW = [sys.executable, "-m", "pipelines.cli", "repro", "--jobs", "2"]
DVC = [COMMANDS / "dvc", "repro", "-q"]


def graph() -> dict[str, dict[str, object]]:
    middle = {f"s{n}": {"cmd": f"cat top > s{n}", "deps": ["top"], "outs": [f"s{n}"]} for n in range(STAGES - 2)}
    return {
        "top": {"cmd": "echo top > top", "params": ["x"], "outs": ["top"]},
        **middle,
        "end": {"cmd": f"cat {' '.join(middle)} > end", "deps": list(middle), "outs": ["end"]},
    }


def seconds(command: list[object], folder: Path) -> tuple[float, float]:
    """Return wall and CPU seconds of a command and all that it starts."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "OPENBLAS_"))}
    path = os.pathsep.join([str(COMMANDS), environment.get("PATH", os.defpath)])
    environment |= {"PYTHONPATH": str(ROOT), "PATH": path, "DVC_NO_ANALYTICS": "1"}
    started, before = time.perf_counter(), psutil.Process().cpu_times()
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = psutil.Process().cpu_times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - started, cpu


def synthetic(folder: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, command in (("dvc", DVC), ("flow", FLOW)):
        project = folder / name
        project.mkdir()
        subprocess.run([COMMANDS / "dvc", "init", "--no-scm", "-q"], cwd=project, check=True)
        (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": graph()}, sort_keys=False), encoding="utf-8")
        (project / "params.yaml").write_text("x: 1\n", encoding="utf-8")
        wall, cpu = seconds(command, project)
        found[f"{name}_seconds_a_stage"], found[f"{name}_cpu_seconds_a_stage"] = round(wall / STAGES, 3), round(cpu / STAGES, 3)
        nothing = [seconds(command, project) for _ in range(REPEATS)]
        found[f"{name}_nothing_to_do"] = round(min(wall for wall, _ in nothing), 2)
        found[f"{name}_nothing_to_do_cpu"] = round(min(cpu for _, cpu in nothing), 2)
    locks = [yaml.safe_load((folder / name / "dvc.lock").read_text()) for name in ("dvc", "flow")]
    assert locks[0] == locks[1]
    return found


def pipeline(folder: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, command in (("serial", DVC), ("jobs_2", FLOW)):
        project = folder / name
        project.mkdir()
        for part in ("dvc.yaml", "params.yaml", "requirements.lock", ".dvcignore"):
            shutil.copy(ROOT / part, project)
        shutil.copytree(ROOT / "stages", project / "stages", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "data" / "raw", project / "data" / "raw")
        subprocess.run([COMMANDS / "dvc", "init", "--no-scm", "-q"], cwd=project, check=True)
        wall, cpu = seconds(command, project)
        found |= {f"{name}_seconds": round(wall), f"{name}_cpu_seconds": round(cpu)}
    locks = [yaml.safe_load((folder / name / "dvc.lock").read_text()) for name in ("serial", "jobs_2")]
    return found | {"same_lock": locks[0] == locks[1]}


def main() -> None:
    """Print one JSON line with what was measured and what it ran on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pipeline", action="store_true", help="the default pipeline instead")
    load = os.getloadavg()[0]
    work = pipeline if parser.parse_args().pipeline else synthetic
    with tempfile.TemporaryDirectory() as folder:
        found = work(Path(folder))
    print(json.dumps({**found, "cpus": os.cpu_count(), "load_before": round(load, 1)}))


if __name__ == "__main__":
    main()
