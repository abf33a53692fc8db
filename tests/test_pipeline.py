"""The whole graph on a small scale, as DVC runs it: every stage, its outputs, the no-op, a removed encoder, the page."""

from __future__ import annotations

import hashlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from stages.artifacts import tables

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow
NUMBER = re.compile(r"-?\d+(\.\d+)?")

GLYPHS = {"kind": "glyphs", "scripts": ["latin"], "classes": 8, "images_per_class": 30, "size": 16}
NET = {"arch": "test_byobnet", "arch_args": {"in_chans": 1}, "input_size": 32, "layers": ["pooled", "stages.1"]}
DEFAULT = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
SMALL = {
    **DEFAULT,
    "datasets": {
        "packaged": {"glyphs": GLYPHS, "hebrew": {**GLYPHS, "scripts": ["hebrew"], "classes": 6}},
        "files": {},
    },
    "targets": ["hebrew"],
    "encoders": {"trained": {**NET, "weights": {"pretrain": "glyphs"}}, "untrained": {**NET, "weights": "random"}},
    "pretrain": {"epochs": 1},
    "finetune": {"seeds": 1, "epochs": 1, "max_train": 60},
    "rank": {**DEFAULT["rank"], "metrics": ["tmi", "logme", "leep"]},
    "prune": {
        **DEFAULT["prune"],
        "pairs": [{"source": "glyphs", "target": "hebrew", "surrogate": "trained"}],
        "methods": ["label_mapping", "random"], "fractions": [0.25, 0.5], "seeds": 1, "epochs": 1,
    },
    "probe": {**DEFAULT["probe"], "seeds": 2, "sizes": [20, 40, 80]},
    "simulation": {**DEFAULT["simulation"], "classes": [2], "dims": [10, 20, 40], "seeds": 2},
    "languages": {
        **DEFAULT["languages"],
        "tasks": ["entity_type"], "languages": ["en", "es", "pt", "fr", "it", "ru"], "shots": [0, 30], "seeds": 2, "goal": 0.5,
    },
    "recommend": {"metric": "logme", "labels_at_hand": 50},
    "profiles": {},
}  # fmt: skip


def dvc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}  # as most machines are
    environment = {**inherited, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(folder)}
    return subprocess.run(["dvc", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def files(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file of the project but those of DVC, the store, the timings and Python's own."""
    skipped = re.compile(r"^(\.dvc/|data/store/|data/timings/)|__pycache__|\.egg-info")
    paths = [path for path in folder.rglob("*") if path.is_file()]
    named = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in named.items() if not skipped.search(name)}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with the repository's code and graph and small params, run once."""
    folder = tmp_path_factory.mktemp("small")
    for name in ("stages", "dvc.yaml", "requirements.lock", ".dvcignore"):
        source = ROOT / name
        copied = shutil.copytree if source.is_dir() else shutil.copy
        copied(source, folder / name)
    for name in ("weights", "accuracies", "languages"):
        (folder / "data" / "raw" / name).mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(SMALL, sort_keys=False), encoding="utf-8")
    assert dvc(folder, "init", "--no-scm", "-q").returncode == 0
    listed = dvc(folder, "stage", "list", "--name-only").stdout.split()  # in the order of dvc.yaml: what comes before is ready
    written, before = {}, files(folder)
    for stage in listed:
        done = dvc(folder, "repro", "--single-item", stage)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        after = files(folder)
        written[stage] = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
        before = after
    (folder / "written.json").write_text(json.dumps(written), encoding="utf-8")
    return folder


def test_every_table_is_made_and_sorted(small: Path) -> None:
    for name, schema in tables.SCHEMAS.items():
        frame = pl.read_parquet(small / "data" / "results" / f"{name}.parquet")
        assert len(frame), name
        assert frame.equals(frame.sort(list(schema.keys))), name


def test_a_stage_writes_its_declared_outputs_alone(small: Path) -> None:
    lock = yaml.safe_load((small / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    written = json.loads((small / "written.json").read_text(encoding="utf-8"))
    assert set(written) == set(lock)
    for stage, names in written.items():
        declared = [entry["path"] for entry in lock[stage]["outs"]]
        stray = [name for name in names if not any(name == path or name.startswith(f"{path}/") for path in declared)]
        assert stray == ["dvc.lock"], stage


def test_running_again_runs_nothing(small: Path) -> None:
    before = files(small)
    again = dvc(small, "repro")
    assert again.returncode == 0
    assert "Running stage" not in again.stdout
    assert "up to date" in again.stdout
    assert files(small) == before


@pytest.mark.parametrize("command", [["status"], ["dag"], ["metrics", "show"], ["plots", "show"]])
def test_dvc_commands_work(small: Path, command: list[str]) -> None:
    done = dvc(small, *command)
    assert done.returncode == 0, done.stderr
    if command == ["metrics", "show"]:
        assert "best_accuracy.hebrew" in done.stdout
    if command == ["plots", "show"]:
        plots = (small / "dvc_plots" / "index.html").read_text(encoding="utf-8")
        assert all(name in plots for name in ("probe_curves", "pruning"))  # two encoders have no agreement


def test_the_page_needs_no_network(small: Path) -> None:
    page = (small / "data" / "reports" / "index.html").read_text(encoding="utf-8")
    without_scripts = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", without_scripts)
    charts = json.loads(re.search(r'id="charts">(.*?)</script>', page, flags=re.DOTALL)[1].replace("<\\/", "</"))  # type: ignore[index]
    assert set(re.findall(r'<figure id="([^"]+)"', page)) == set(charts)
    for name in ("rank", "extract", "prune", "probe", "languages"):
        assert f'<section id="{name}">' in page


@pytest.mark.filterwarnings("ignore")  # marimo's own
def test_the_notebook_answers_five_questions(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("marimo", reason="marimo is not installed: pip install -e '.[analyst]'")
    monkeypatch.chdir(small)
    notebook = runpy.run_path(str(ROOT / "docs" / "questions.py"))
    _, found = notebook["app"].run()
    assert len(found["encoders"]) == 2 * len(NET["layers"])
    assert found["encoders"].drop_nulls("rank")["rank"].is_sorted()
    assert found["encoders"]["best accuracy"].null_count() == 0
    assert set(found["classes"]["method"]) == {"label_mapping", "random"}
    assert set(found["languages"]["task"]) == {"entity_type"}
    assert set(found["trust"]["metric"]) <= {"tmi", "logme", "leep"}
    assert (found["heads"]["naive Bayes is ahead by"] > 0).all()


def opened(browser: Any, small: Path, **how: Any) -> Any:
    page = small / "data" / "reports" / "index.html"
    browser.said.clear()
    browser.asked.clear()
    browser.open(page, ready="document.body.dataset.drawn", **how)
    assert browser.said == []
    outside = [url for url in browser.asked if not url.startswith((page.absolute().as_uri(), "data:", "blob:"))]
    assert outside == []
    return browser


def test_every_figure_is_drawn_and_every_link_leads_somewhere(small: Path, browser: Any) -> None:
    page = opened(browser, small)
    figures = page.run("document.querySelectorAll('figure').length")
    assert figures > 5
    assert page.run("Number(document.body.dataset.drawn)") == figures
    marks = """[...document.querySelectorAll('figure')].map(figure => {
      const marks = [...figure.querySelectorAll('svg .role-mark :is(path, image, text)')];
      const boxes = marks.map(mark => mark.getBoundingClientRect());
      return boxes.filter(box => box.width + box.height > 1).length;
    })"""
    assert min(page.run(marks)) > 1
    links = page.run("[...document.querySelectorAll('a')].map(link => link.getAttribute('href'))")
    assert len(links) > 5
    for link in links:
        if link.startswith("#"):
            assert page.run(f"document.querySelectorAll('{link}').length") == 1, link
        else:
            assert (small / "data" / "reports" / link).is_file(), link


def test_a_click_on_a_column_sorts(small: Path, browser: Any) -> None:
    page = opened(browser, small)
    page.run("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    page.run("""window.table = [...document.querySelectorAll('.rows table')].find(table => table.tBodies[0].rows.length > 3);
      window.text = cell => cell.textContent.replace('\u2212', '-').trim();
      window.cells = place => [...table.tBodies[0].rows].map(row => text(row.children[place]));
      window.heads = [...table.querySelectorAll('th')]""")
    columns = page.run("heads.map((head, place) => cells(place))")
    numeric = [number for number, cells in enumerate(columns) if all(map(NUMBER.fullmatch, cells)) and len(set(cells)) > 1]
    for place in numeric[:2]:
        for sign, state in ((1, "ascending"), (-1, "descending")):
            page.run(f"heads[{place}].click()")
            assert page.run("heads.map(head => head.ariaSort).filter(Boolean)") == [state]
            numbers = [sign * float(cell) for cell in page.run(f"cells({place})")]
            assert numbers == sorted(numbers)
            assert len(numbers) == len(columns[place])
    assert numeric


@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (1100, False), (1100, True)])
def test_the_page_fits_its_width_and_can_be_read(small: Path, browser: Any, width: int, dark: bool) -> None:
    page = opened(browser, small, width=width, dark=dark)
    assert page.run("document.documentElement.scrollWidth") <= width
    contrasts = """(() => {
      const light = text => {  // relative luminance, WCAG 2
        const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map(c => c / 255)
          .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const paper = light(getComputedStyle(document.body).backgroundColor);
      return [...document.querySelectorAll('h1, h2, p, a, summary, small, td, th, footer')].map(element => {
        const ink = light(getComputedStyle(element).color);
        return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
      });
    })()"""
    assert min(page.run(contrasts)) >= 4.5  # WCAG's AA
    paper = page.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) < 384) == dark
    seen = page.call("Page.captureScreenshot")["data"]
    assert len(seen) > 20_000


def test_data_docs_open_without_the_network(small: Path, browser: Any) -> None:
    folder = small / "data" / "reports" / "validation"
    browser.said.clear()
    browser.asked.clear()
    browser.open(folder / "index.html", width=390, dark=True)
    assert browser.run("document.querySelectorAll('tbody tr').length") == len(list(folder.glob("*.html"))) - 1
    assert browser.run("document.documentElement.scrollWidth") <= 390
    browser.open(folder / "table-transferability.html", width=390, ready="document.title.startsWith('table')")
    assert browser.run("document.documentElement.scrollWidth") <= 390
    assert "passed" in browser.run("getComputedStyle(document.querySelector('.fa-check-circle'), '::before').content")
    assert browser.said == []
    assert all(url.startswith("file:") for url in browser.asked)


def test_a_removed_encoder_leaves_every_table(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fewer"
    shutil.copytree(small, folder, symlinks=True)
    fewer = {**SMALL, "encoders": {"trained": SMALL["encoders"]["trained"]}}  # type: ignore[index]
    (folder / "params.yaml").write_text(yaml.safe_dump(fewer, sort_keys=False), encoding="utf-8")
    done = dvc(folder, "repro")
    assert done.returncode == 0, done.stderr[-3000:]
    for stage in ("weights@trained", "extract@trained", "finetune@trained"):  # nothing of what stays is computed again
        assert f"Running stage '{stage}'" not in done.stdout
    for name in tables.SCHEMAS:
        frame = pl.read_parquet(folder / "data" / "results" / f"{name}.parquet")
        if "encoder" in frame.columns:
            assert set(frame["encoder"]) == {"trained"}, name


def test_a_mistake_stops_before_anything_runs(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "wrong"
    shutil.copytree(small, folder, symlinks=True)
    wrong = {**SMALL, "encoders": {"trained": {**NET, "weights": {"pretrain": "glyphs"}, "layers": ["pooled", "stages.9"]}}}
    (folder / "params.yaml").write_text(yaml.safe_dump(wrong, sort_keys=False), encoding="utf-8")
    done = dvc(folder, "repro")
    assert done.returncode != 0
    assert "stages.9" in done.stderr
    assert "exited with 2" in done.stderr
    assert done.stdout.count("Running stage") == 1


def test_a_section_left_out_is_named(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "without"
    shutil.copytree(small, folder, symlinks=True)
    without = {name: section for name, section in SMALL.items() if name != "ingest"}
    (folder / "params.yaml").write_text(yaml.safe_dump(without, sort_keys=False), encoding="utf-8")
    done = dvc(folder, "repro", "check")
    assert done.returncode != 0
    assert "ingest is left out" in done.stderr
