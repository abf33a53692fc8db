"""DVC's stage graph, read through DVC itself: what each stage needs, and whether DVC would run it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stages.errors import InputProblem, TryAgain, nearest


@dataclass(frozen=True)
class Node:
    """One DVC stage.

    Attributes:
        name: how DVC addresses it, for instance `extract@glyph_vit`, `sub/dvc.yaml:train` or `data/raw/photos.dvc`.
        needs: names of the stages whose outputs it reads, sorted.
        changed: DVC's verdict when the graph was read: its command, a dep, a param or an output differs from dvc.lock.
        record: the file where DVC keeps the hashes of its outputs: dvc.lock, or the .dvc file itself.
        key: the stage's name in that file, None in a .dvc file.
        device: the param that names the device it runs on, None for the CPU alone.
    """

    name: str
    needs: tuple[str, ...]
    changed: bool
    record: Path
    key: str | None
    device: str | None = None


def outputs(nodes: Iterable[Node]) -> dict[str, object]:
    """Return each stage's outputs as DVC last recorded them; stages that it has not recorded are left out.

    DVC rewrites dvc.lock in place: what cannot be read just now counts as not recorded.
    """
    files: dict[Path, Any] = {}
    found: dict[str, object] = {}
    for node in nodes:
        with suppress(OSError, yaml.YAMLError, KeyError, TypeError):
            if node.record not in files:
                files[node.record] = {}
                files[node.record] = parse(node.record)
            content = files[node.record]
            found[node.name] = content["outs"] if node.key is None else content["stages"][node.key]["outs"]
    return found


def parse(path: Path) -> Any:
    """Read one of DVC's YAML files."""
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(path.read_bytes())  # the C one is ten times faster
    return loader.get_single_data()


def read(targets: Sequence[str] | None = None) -> dict[str, Node]:
    """Return the targets and everything they need, by name, each stage after those it needs.

    Args:
        targets: whatever `dvc repro` takes as targets: stages, groups such as `extract`, .dvc and dvc.yaml files.
            None or empty: all of dvc.yaml.

    Raises:
        InputProblem: a target does not exist, or DVC cannot read the project's files.
        TryAgain: another DVC process holds the repository.
    """
    from dvc.repo import Repo, lock_repo
    from dvc.repo.reproduce import get_active_graph, plan_repro

    with explained(), Repo(".") as repo, lock_repo(repo), _params_parsed_once():
        chosen = [stage for target in targets or ["dvc.yaml"] for stage in _collect(repo, target)]
        graph = get_active_graph(repo.index.graph)  # edges lead from a stage to what it needs
        order = plan_repro(graph, chosen)
        return {
            stage.addressing: Node(
                name=stage.addressing,
                needs=tuple(sorted(need.addressing for need in graph.successors(stage))),
                changed=_changed(stage),
                record=_record(stage),
                key=getattr(stage, "name", None),
                device=(stage.meta or {}).get("device"),
            )
            for stage in order
        }


@contextmanager
def _params_parsed_once() -> Iterator[None]:
    """Let DVC parse a params file once, not once a stage: with a hundred stages that is half of the time it takes.

    A key that is not found step by step, as one with a wildcard, is left to DVC.
    """
    from dvc.dependency import param

    whole: Any = param.read_param_file
    parsed: dict[str, Any] = {}

    def read_keys(fs: Any, path: str, key_paths: list[str] | None = None, flatten: bool = False, **options: Any) -> Any:
        if not key_paths or not flatten or options:
            return whole(fs, path, key_paths, flatten, **options)
        if path not in parsed:
            parsed[path] = whole(fs, path)
        found: dict[str, Any] = {}
        for key in key_paths:
            value = parsed[path]
            for part in key.split("."):
                if not isinstance(value, dict) or part not in value:
                    found |= whole(fs, path, [key], flatten=True)
                    break
                value = value[part]
            else:
                found[key] = value
        return found

    param.read_param_file = read_keys
    try:
        yield
    finally:
        param.read_param_file = whole


def require_remote() -> None:
    """Check that DVC has a remote to pull from and push to.

    Raises:
        InputProblem: it has none.
    """
    from dvc.repo import Repo

    with explained(), Repo(".") as repo:
        if not repo.config["core"].get("remote"):
            raise InputProblem(
                "no remote is set", where="params.yaml: schedule", next_step="dvc remote add --default storage /a/folder"
            )


@contextmanager
def nothing_running() -> Iterator[None]:
    """Keep every other DVC process of the project from working.

    DVC lets its repository's lock go while a stage's command runs; then its list of read and written paths names the
    process. So both are held, the second for all paths.

    Raises:
        InputProblem: this is no DVC project.
        TryAgain: another DVC process is at work.
    """
    from dvc.repo import Repo, lock_repo
    from dvc.rwlock import rwlock

    with explained(), Repo(".") as repo, lock_repo(repo):
        hardlink = repo.config["core"].get("hardlink_lock", False)
        with rwlock(repo.tmp_dir, repo.fs, "transferscope", [], [repo.root_dir], hardlink):
            yield


def _collect(repo: Any, target: str) -> list[Any]:
    from dvc.exceptions import DvcException

    try:
        found: list[Any] = list(repo.stage.collect(target))
    except DvcException as error:
        stages = [stage.addressing for stage in repo.index.stages]
        groups = {name.partition("@")[0] for name in stages}
        raise InputProblem(
            f"there is no stage {target!r} ({error}); {nearest(target, {*stages, *groups})}", next_step="dvc stage list"
        ) from None
    return found


def _changed(stage: Any) -> bool:
    from dvc.lock import LockError

    try:
        return bool(stage.changed())
    except LockError:  # another DVC process works on its files; by the time this stage runs, DVC decides again
        return True


def _record(stage: Any) -> Path:
    path = Path(stage.path)
    return path if path.suffix == ".dvc" else path.with_name("dvc.lock")


@contextmanager
def explained() -> Iterator[None]:
    """Turn DVC's exceptions into messages for a person."""
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.lock import LockError

    try:
        yield
    except LockError:
        raise TryAgain("another DVC process holds the project", next_step="wait for it, then run again") from None
    except NotDvcRepoError:
        raise InputProblem("is not a DVC project", where=str(Path.cwd()), next_step="dvc init") from None
    except DvcException as error:
        cause = f": {error.__cause__}" if error.__cause__ else ""
        raise InputProblem(f"DVC cannot read the project: {error}{cause}", next_step="dvc status") from None
