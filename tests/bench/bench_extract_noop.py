"""python tests/bench/bench_extract_noop.py [--encoders 60] [--datasets 17] [--folder KEPT]

What a run costs that has nothing to do: a project of the real dvc.yaml and of datasets of small images, whose weights and
features `dvc repro extract` makes once, really, with encoders of timm's smallest nets. Then `dvc repro extract` and
`transferscope repro extract` again; and one encoder's features dropped: brought back by DVC from its cache, and linked by the
stage itself from the store. Best of three each. With --folder the project stays there as it is, and another run measures it
at once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = Path(sys.executable).parent
DVC = [str(COMMANDS / "dvc"), "repro", "extract"]
FLOW = [sys.executable, "-m", "pipelines.cli", "repro", "extract"]
DVC_IMPORTS = "import dvc.cli.parser, dvc.repo.reproduce, dvc.stage.cache, dvc.stage.run"
REPEATS, SIZE, PER_CLASS = 3, 32, 15
ONE_SIZE = {"img_size": SIZE}  # these take images of the size that they are built for
ARCHS: dict[str, dict[str, int]] = {
    "test_byobnet": {}, "test_resnet": {}, "test_efficientnet": {}, "test_efficientnet_ln": {}, "test_nfnet": {},
    "test_convnext": {}, "test_convnext2": {}, "test_convnext3": {}, "test_mambaout": {}, "test_maxvit": ONE_SIZE,
    "test_vit": {}, "test_vit2": {}, "test_vit3": ONE_SIZE, "test_vit4": {}, "test_vit_relpos": ONE_SIZE,
}  # fmt: skip


def command(project: Path, words: list[str]) -> subprocess.Popen[str]:
    """Start a command in the project, on the project's copy of the code."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = inherited | {
        "PYTHONPATH": os.pathsep.join([str(project), str(ROOT)]), "PATH": f"{COMMANDS}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(project / ".dvc" / "tmp" / "site"),
    }  # fmt: skip
    return subprocess.Popen(words, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(project: Path, words: list[str]) -> str:
    """Run a command in the project and return what it says."""
    process = command(project, words)
    said, _ = process.communicate()
    assert process.returncode == 0, said[-3000:]
    return said


def encoders(project: Path, number: int) -> dict[str, dict[str, object]]:
    """Return entries of random weights, which differ by name; the nets and how many of their layers are taken differ too."""
    archs = [*ARCHS][:number]
    asked = [sys.executable, "-m", "stages.encoders.choose", "3", *(f"{arch}=random" for arch in archs)]
    tapped = json.loads(run(project, asked).splitlines()[-1])
    found: dict[str, dict[str, object]] = {}
    for index in range(number):
        arch = archs[index % len(archs)]
        found[f"{arch}_{index:02d}"] = {
            "arch": arch, "arch_args": ARCHS[arch], "weights": "random", "input_size": SIZE,
            "layers": tapped[arch][: 2 + index // len(archs) % 3],
        }  # fmt: skip
    return found


def make(project: Path, number_encoders: int, number_datasets: int) -> None:
    """Write a project that git and DVC know, with image folders of two classes."""
    for part in ("dvc.yaml", "requirements.lock", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / part, project)
    shutil.copytree(ROOT / "stages", project / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    (project / "data" / "raw" / "weights").mkdir(parents=True)
    random = np.random.default_rng(0)
    names = [f"photos_{index:02d}" for index in range(number_datasets)]
    for name in names:
        for index in range(2 * PER_CLASS):
            path = project / "data" / "raw" / name / "ab"[index % 2] / f"{index:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(path)
    default = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    files = {name: {"kind": "imagefolder", "path": f"data/raw/{name}"} for name in names}
    changed = {
        "run": {**default["run"], "device": "cpu", "threads": 1}, "datasets": {"packaged": {}, "files": files},
        "targets": names, "encoders": encoders(project, number_encoders), "prune": {**default["prune"], "pairs": []},
    }  # fmt: skip
    (project / "params.yaml").write_text(yaml.safe_dump({**default, **changed}, sort_keys=False), encoding="utf-8")
    run(project, ["git", "init", "-q"])
    run(project, [str(COMMANDS / "dvc"), "init", "-q"])
    shutil.copy(ROOT / ".dvc" / "config", project / ".dvc" / "config")


def first(project: Path, stages: int) -> None:
    """Run all stages once and say how far it is."""
    started, done, said = time.perf_counter(), 0, []
    process = command(project, DVC)
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if line.startswith("Running stage"):
            done += 1
            if done % 10 == 0:
                print(f"{time.perf_counter() - started:5.0f} s: {done} of {stages} stages", file=sys.stderr, flush=True)
    assert process.wait() == 0, "".join(said)[-3000:]
    print(f"first run: {time.perf_counter() - started:.0f} s", flush=True)


def best(work: Callable[[], object], before: Callable[[], object] = lambda: None) -> tuple[float, float]:
    """Return the fewest seconds of three, and of the processes' CPU time, which other work on the machine changes less."""
    wall, cpu = [], []
    for _ in range(REPEATS):
        before()
        started, used = time.perf_counter(), psutil.Process().cpu_times()
        work()
        now = psutil.Process().cpu_times()
        wall.append(time.perf_counter() - started)
        cpu.append(now.children_user + now.children_system - used.children_user - used.children_system)
    return min(wall), min(cpu)


def nothing(project: Path, words: list[str]) -> None:
    """Run a command that is to find all up to date."""
    said = run(project, words)
    assert "up to date" in said, said[-3000:]
    assert "Running stage" not in said, said[-3000:]


def measure(project: Path) -> dict[str, tuple[float, float]]:
    """Return wall and CPU seconds by what was done."""
    name = next(iter(yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))["encoders"]))
    features, rates = project / "data" / "features" / name, project / "data" / "timings" / "extract.jsonl"
    extract = [sys.executable, "-m", "stages.extract", "--encoder", name]
    computed = rates.read_bytes()

    def drop() -> None:
        shutil.rmtree(features)

    found = {
        "nothing to do, dvc repro": best(lambda: nothing(project, DVC)),
        "nothing to do, transferscope repro": best(lambda: nothing(project, FLOW)),
        "of both: DVC's imports": best(lambda: run(project, [sys.executable, "-c", DVC_IMPORTS])),
        "one encoder dropped, dvc repro": best(lambda: run(project, DVC), drop),
        "one encoder dropped, the stage alone": best(lambda: run(project, extract), drop),
        "of the stage: its imports": best(lambda: run(project, [sys.executable, "-c", "import stages.extract"])),
    }
    assert rates.read_bytes() == computed, "features were computed again"
    return found


def main() -> None:
    """Print one line a way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoders", type=int, default=10)
    parser.add_argument("--datasets", type=int, default=17)
    parser.add_argument("--folder", type=Path, help="where the project stays; by default it is temporary")
    options = parser.parse_args()
    with TemporaryDirectory() as temporary:
        project = (options.folder or Path(temporary)).resolve()
        stages = 2 + options.datasets + 2 * options.encoders
        if not (project / "dvc.yaml").is_file():
            project.mkdir(parents=True, exist_ok=True)
            make(project, options.encoders, options.datasets)
        first(project, stages)
        load = os.getloadavg()[0]
        found = measure(project)
        kept = [path for path in (project / "data").rglob("*") if path.is_file()]
        outputs = sum(path.relative_to(project / "data").parts[0] in ("datasets", "features", "weights") for path in kept)
    print(
        f"{options.encoders} encoders x {options.datasets} datasets: {stages} stages, {outputs} files of outputs; "
        f"{os.cpu_count()} cores, load {load:.1f} before and {os.getloadavg()[0]:.1f} after; best of {REPEATS}"
    )
    print(f"{'seconds':40}{'wall':>8}{'CPU':>8}")
    for way, (wall, cpu) in found.items():
        print(f"{way:40}{wall:8.2f}{cpu:8.2f}")


if __name__ == "__main__":
    main()
