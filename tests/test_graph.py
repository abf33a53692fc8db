"""dvc.yaml sees all code that matters: what a stage's entry imports, directly or not, is among the stage's deps."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
LAZY = re.compile(r"stages(\.\w+)+:\w+")  # how a registry names what it imports on first use
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
# Nothing that a stage writes depends on these: messages, progress, exit codes, how a method is looked up.
NO_MATTER = {"stages/__init__.py", "stages/entry.py", "stages/errors.py", "stages/progress.py", "stages/registry.py"}


def file_of(module: str) -> str | None:
    """Return the file of a dotted module of the project, a package's `__init__.py` for a package."""
    path = module.replace(".", "/")
    return next((file for file in (f"{path}.py", f"{path}/__init__.py") if (ROOT / file).is_file()), None)


@cache
def imported(file: str) -> frozenset[str]:
    """Return the project's files that `file` imports."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    found: set[str | None] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {file_of(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from package import module` needs the module; anything else needs the package's own file.
            found |= {file_of(f"{node.module}.{alias.name}") or file_of(node.module) for alias in node.names}
        elif isinstance(node, ast.Constant) and LAZY.fullmatch(str(node.value)):
            found.add(file_of(node.value.partition(":")[0]))
    return frozenset(name for name in found if name and name.startswith("stages/"))


def closure(entry: str) -> set[str]:
    """Return every project file that running `entry` may import."""
    seen, waiting = set(), [entry]
    while waiting:
        file = waiting.pop()
        if file not in seen:
            seen.add(file)
            waiting += imported(file)
    return seen


# `check` looks names up in every family, and writes the same file whatever it finds there.
@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "check"])
def test_every_import_is_a_dependency(stage: str) -> None:
    definition = STAGES[stage].get("do", STAGES[stage])
    module = definition["cmd"].split()[2]
    entry = next(
        file
        for file in (f"{module.replace('.', '/')}/__main__.py", f"{module.replace('.', '/')}.py")
        if (ROOT / file).is_file()
    )
    deps = definition["deps"]
    uncovered = {
        file for file in closure(entry) - NO_MATTER if not any(file == dep or file.startswith(f"{dep}/") for dep in deps)
    }
    assert uncovered == set()


@pytest.mark.parametrize("stage", STAGES)
def test_every_dependency_on_code_exists_and_the_packages_count(stage: str) -> None:
    deps = STAGES[stage].get("do", STAGES[stage])["deps"]
    assert "requirements.lock" in deps
    for dep in deps:
        if dep.startswith("stages/"):
            assert (ROOT / dep).exists(), dep


def test_no_two_stages_write_one_output() -> None:
    # Groups over datasets, and over encoders and features computed elsewhere, share no name: params.yaml keeps them apart.
    shared = {"ingest_files": "ingest", **{name: name.removesuffix("_given") for name in STAGES if name.endswith("_given")}}
    outs = [(out, shared.get(name, name)) for name, stage in STAGES.items() for out in stage.get("do", stage).get("outs", [])]
    assert len({out for out, _ in outs}) == len(set(outs))


def test_stages_that_may_use_an_accelerator_say_which_param_names_it() -> None:
    definitions = {name: stage.get("do", stage) for name, stage in STAGES.items()}
    marked = {name: stage["meta"]["device"] for name, stage in definitions.items() if "device" in stage.get("meta", {})}
    assert set(marked) == {name for name, stage in definitions.items() if "stages/device.py" in stage["deps"]}
    for name, key in marked.items():
        section = key.partition(".")[0]
        assert {key, section} & set(definitions[name]["params"]), f"{name} does not depend on {key}"


def test_params_parsed_once_are_those_that_dvc_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.dependency import param
    from dvc.repo import Repo

    from pipelines import graph

    monkeypatch.chdir(ROOT)
    original, asked = param.read_param_file, []
    monkeypatch.setattr(param, "read_param_file", lambda *a, **named: asked.append(named) or original(*a, **named))
    with Repo(".") as repo:
        deps = [dep for stage in repo.index.stages for dep in stage.deps if isinstance(dep, param.ParamsDependency)]
        deps += [
            param.ParamsDependency(deps[0].stage, "params.yaml", keys) for keys in (["run.nothing", "run"], ["*.device"], [])
        ]
        expected = [dep.read_params() for dep in deps]
        asked.clear()
        with graph._params_parsed_once():
            assert [dep.read_params() for dep in deps] == expected
        assert len(asked) < 10 < len(deps)
        assert deps[0].read_params() == expected[0]
        assert len(asked) > 0
