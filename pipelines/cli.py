"""The command line: run the pipeline, schedule it, and ask what it found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipelines import project
from stages.errors import InputProblem, Problem, TryAgain

WIDTH = 100  # columns that a recommendation is wrapped to

app = typer.Typer(
    help="Which pretrained model, layer, source data, head or source language? Cheap evidence before a fine-tuning run.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line and exit: 0 fine, 2 the user's input is wrong, 75 try again later, 1 a bug."""
    try:
        app()
    except Problem as problem:
        print(problem, file=sys.stderr)
        sys.exit(problem.exit_code)
    except KeyboardInterrupt:
        print("stopped; what has finished is kept, and the same command goes on from there", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # `transferscope sql ... | head`
        sys.stderr.close()
        sys.exit(0)


@app.command()
def init(
    images: Annotated[Path, typer.Argument(help="a folder <class>/<image> or {train,test}/<class>/<image>, or parquet")],
    encoders: Annotated[
        list[str],
        typer.Argument(help="timm models, ARCH or ARCH=WEIGHTS: hub, random, or a file below data/raw/weights"),
    ],
    name: Annotated[str | None, typer.Option(help="of the dataset; the folder's by default")] = None,
    layers: Annotated[int, typer.Option(min=0, help="to tap in each encoder beside `pooled`")] = 3,
) -> None:
    """Write params.yaml for your images and encoders.

    Every value that changes is printed; the file as it was is kept, and the way back is printed. Comments stay.
    """
    from pipelines import start

    project.require()
    print("\n".join(start.start(images, encoders, name=name, layers=layers)))
    print("next: transferscope repro")


@app.command()
def repro(
    targets: Annotated[list[str] | None, typer.Argument(help="stages, groups or .dvc files, as of `dvc repro`")] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="stages that may run side by side")] = 1,
    retry_seconds: Annotated[float, typer.Option(min=0, help="first pause of a stage that says `try again later`")] = 5.0,
) -> None:
    """Bring the pipeline up to date.

    As `dvc repro` does, with the same dvc.lock, and independent stages side by side. Without targets: all of dvc.yaml.
    """
    from pipelines import graph, mend, server, summary

    project.require()
    console = summary.console()
    with project.one_run():
        for done in mend.records():
            console.print(done, markup=False)
        nodes = graph.read(targets)
    if not any(node.changed for node in nodes.values()):
        console.print(f"{len(nodes)} stages, all up to date")
        return
    project.prepare_prefect("CRITICAL")  # what fails is said once, by the summary
    lost: Exception | None = None
    with server.running(scheduler=False) as wait:
        import httpx

        from pipelines.reproduce import reproduce

        wait()
        try:
            reproduce(targets or None, jobs, retry_seconds)
        except httpx.TransportError as error:
            lost = error
    if lost is not None:
        what = f"Prefect's server cannot be reached ({lost}); the stages that finished are kept"
        print(TryAgain(what, next_step="run the same command again"), file=sys.stderr, flush=True)
        os._exit(TryAgain.exit_code)  # a usual exit waits for Prefect, which tries to send each last event for seconds


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="of Prefect's API and dashboard on this machine")] = 4200,
) -> None:
    """Run the pipeline on the schedule of params.yaml.

    With PREFECT_API_URL set, that server keeps the schedule; otherwise one is started on this machine.
    """
    from pipelines import schedule
    from stages import params

    project.require()
    settings = params.load().schedule
    project.prepare_prefect("INFO")
    schedule.serve(settings, port)


@app.command()
def check() -> None:
    """Check params.yaml before anything runs.

    The first wrong name, key, path, layer or model is named, with the nearest valid ones.
    """
    project.require()
    _stage("check")
    print("params.yaml is valid")


@app.command()
def doctor() -> None:
    """Say what this machine lacks, before a long run."""
    from rich.console import Console
    from rich.table import Table

    from pipelines import doctor as checks

    project.require()
    shown = Table(box=None, show_header=False, pad_edge=False)
    lacking = 0
    for finding in checks.examine():
        lacking += finding.next_step is not None
        shown.add_row("ok" if finding.next_step is None else "lacks", finding.thing, finding.found)
        if finding.next_step is not None:
            shown.add_row("", "", f"Next: {finding.next_step}")
    Console(highlight=False).print(shown)
    if lacking:
        raise typer.Exit(InputProblem.exit_code)


@app.command()
def profile(name: Annotated[str, typer.Argument(help="a key of `profiles` in params.yaml, for instance full")]) -> None:
    """Write a profile's values over the sections of params.yaml.

    The file as it was is kept, and the way back is printed.
    """
    from pipelines import profile as profiles

    project.require()
    print("\n".join(profiles.apply(name)) or f"params.yaml holds all values of profile {name} already")


@app.command()
def recommend(
    target: Annotated[str | None, typer.Argument(help="a dataset or language; all by default")] = None,
    whole: Annotated[bool, typer.Option("--all", help="every answer with its evidence, however many")] = False,
) -> None:
    """Print the answers, and where the report is."""
    from rich.console import Console

    from pipelines import query

    project.require()
    width = min(WIDTH, Console().width) if sys.stdout.isatty() else WIDTH
    Console(width=width, highlight=False).print(query.recommendations(target, whole=whole or target is not None))
    print()
    print(project.REPORT if project.REPORT.is_file() else f"{project.REPORT} has not been made yet: dvc repro report")


@app.command()
def agreement(
    scores: Annotated[
        Path, typer.Argument(help="CSV or parquet: encoder, dataset and one column a metric, or metric and score")
    ],
    accuracies: Annotated[Path, typer.Argument(help="CSV or parquet: encoder, dataset, accuracy from 0 to 1")],
    csv: Annotated[bool, typer.Option("--csv", help="print the agreement of each dataset as CSV")] = False,
    out: Annotated[Path | None, typer.Option(help="write it to a .parquet, .csv or .json file")] = None,
) -> None:
    """Judge metrics by accuracies that are known.

    For a zoo that others scored and fine-tuned: rank correlations, regret, and which metric is better than chance.
    """
    from pipelines import query as queries
    from stages import published

    agreed, verdicts = published.compare(scores, accuracies)
    if csv:
        print(agreed.write_csv(), end="")
        return
    if out is not None:
        queries.save(agreed, out)
        print(f"{out}: {agreed.height:,} rows", file=sys.stderr)
    else:
        queries.show(agreed.select("target", "metric", "n_encoders", *published.SHOWN, "warning"))
    print("\nover all datasets, and against chance")
    queries.show(verdicts.select("metric", "verdict", *published.SHOWN_OF_ALL, "warning"))


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help='for instance "select target, answer from recommendations"')],
    csv: Annotated[bool, typer.Option("--csv", help="print CSV")] = False,
    json: Annotated[bool, typer.Option("--json", help="print a JSON array of rows")] = False,
    out: Annotated[Path | None, typer.Option(help="write a .parquet, .csv or .json file")] = None,
) -> None:
    """Ask the result tables in SQL.

    The dialect is polars'; `transferscope tables` lists the tables, docs/tables.md their columns.
    """
    from pipelines import query as queries

    project.require()
    if csv + json + (out is not None) > 1:
        raise InputProblem("choose one of --csv, --json and --out")
    answer = queries.ask(query)
    if out is not None:
        queries.save(answer, out)
        print(f"{out}: {answer.height:,} rows", file=sys.stderr)
    elif csv:
        print(answer.write_csv(), end="")
    elif json:
        print(answer.write_json())
    else:
        queries.show(answer)


@app.command()
def tables() -> None:
    """List the result tables and their questions."""
    from rich.console import Console
    from rich.table import Table

    from pipelines import query
    from stages.artifacts.tables import SCHEMAS

    project.require()
    shown = Table("table", "rows", "keys", "question", box=None, pad_edge=False, header_style="bold")
    shown.columns[1].justify = "right"
    for column in shown.columns:
        column.no_wrap, column.overflow = True, "ellipsis"  # one line a table, whatever the width
    found = list(query.made())
    for table in found:
        schema = SCHEMAS[table.name]
        rows = f"{table.rows:,}" if table.problem is None else "-"
        shown.add_row(table.name, rows, ", ".join(schema.keys), schema.question)
    Console(highlight=False, width=max(Console().width, 200) if not sys.stdout.isatty() else None).print(shown)
    for table in found:
        if table.problem is not None:
            print(f"{table.name}: {table.problem.what}; {table.problem.next_step}")


@app.command()
def layers(
    arch: Annotated[str, typer.Argument(help="a timm model, for instance vit_base_patch16_224")],
) -> None:
    """List the layers of a timm model for params.yaml."""
    _stage("encoders", arch)


@app.command()
def neighbours(
    encoder: Annotated[str, typer.Argument(help="an encoder of params.yaml, or features computed elsewhere")],
    dataset: Annotated[str, typer.Argument(help="a dataset that it has features of")],
    image: Annotated[str, typer.Argument(help="an id, or a file of the dataset or elsewhere")],
    layer: Annotated[str | None, typer.Option(help="by default the one that a linear head is fitted on")] = None,
    k: Annotated[int, typer.Option("--k", min=1, help="how many")] = 24,
    split: Annotated[str | None, typer.Option(help="look among train, val or test alone")] = None,
) -> None:
    """Show the nearest images as a contact sheet.

    Writes one self-contained page and prints where it is. An image that is not in the dataset goes through the encoder.
    """
    project.require()
    options = [*(["--layer", layer] if layer else []), *(["--split", split] if split else []), "--k", str(k)]
    _stage("neighbours", *options, "--", encoder, dataset, image)


@app.command()
def verify() -> None:
    """Find damaged files, and say how to mend them.

    Hashes datasets, weights, features, tables and DVC's cache again, which DVC does not do by itself.
    """
    from pipelines import verify as checks

    project.require()
    number, damaged = checks.everything()
    for damage in damaged:
        print(f"{damage.where}: {damage.what}", file=sys.stderr)
    if damaged:
        raise Problem(f"{len(damaged)} of {number} are damaged", next_step=checks.mend(damaged))
    print(f"{number} checked, none damaged")


@app.command("drop-store")
def drop_store() -> None:
    """Free the disk space of work in progress.

    It only speeds up later runs; no result is lost. Refused while a run is under way.
    """
    from pipelines import graph
    from stages.artifacts import store

    project.require()
    with project.one_run(), graph.nothing_running():
        freed = store.drop()
    print(f"{freed / 1e6:,.1f} MB freed")


def _stage(module: str, *arguments: str) -> None:
    """Run a stage's own command line in a process of its own; this one never loads torch."""
    done = subprocess.run([sys.executable, "-m", f"stages.{module}", *arguments], check=False)
    if done.returncode:
        raise typer.Exit(done.returncode)


if __name__ == "__main__":
    main()
