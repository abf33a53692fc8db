"""python tests/bench/bench_extract_memory.py [--largest 1000000] [--figure docs/memory.svg]

Peak memory of an extraction over the number of images, from 10,000 on: a synthetic dataset of small PNG files in shards of
100,000, written by a process of its own; the smallest encoder at 16 px, whose features are written and joined.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import multiprocessing
import os
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import altair as alt
import numpy as np
import polars as pl
import torch
from PIL import Image

from stages import extraction
from stages.artifacts import manifest
from stages.artifacts.dataset import MANIFEST_SCHEMA, VERSION, Dataset, dataset_path
from stages.encoders import Preprocess, Tapped, build, data_config
from stages.params import Encoder

SIDE = 16  # pixels
DATASET_SHARD = 100_000  # images
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)


def write_dataset(n: int) -> None:
    """Write a dataset of n images, 64 of them different."""
    random, encoded = np.random.default_rng(0), []
    for _ in range(64):
        held = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)).save(held, "PNG")
        encoded.append(held.getvalue())
    folder = dataset_path("synthetic")
    folder.mkdir(parents=True)
    ids = [f"{index:08d}" for index in range(n)]
    hashes = [hashlib.sha256(name.encode()).hexdigest() for name in ids]  # as long and as different as those of the images
    rows = pl.DataFrame({"id": ids, "sha256": hashes}).with_row_index().with_columns(
        shard=(pl.col("index") // DATASET_SHARD).cast(pl.Int64), split=pl.lit("train"), label=pl.lit("a"),
        class_index=pl.lit(0, pl.Int64), width=pl.lit(SIDE, pl.Int64), height=pl.lit(SIDE, pl.Int64),
    )  # fmt: skip
    for (shard,), part in rows.group_by(["shard"], maintain_order=True):
        content = part.select("id", bytes=pl.Series([encoded[index % 64] for index in part["index"]]))
        content.write_parquet(folder / f"images-{shard:05d}.parquet")
    rows.select(list(MANIFEST_SCHEMA)).write_parquet(folder / "manifest.parquet")
    manifest.write(folder, kind="dataset", version=VERSION, inputs={}, classes=["a"])


def extract(n: int, result: Any) -> None:
    """Send the peak memory in MiB before and after, and the seconds."""
    torch.set_num_threads(1)
    encoder = Encoder(arch="test_byobnet", arch_args={"in_chans": 1}, weights="random", input_size=SIDE)
    model = build(encoder.arch, encoder.arch_args, num_classes=0, seed=0)
    job = extraction.Job(
        Tapped(model, encoder.layers), Preprocess.of(data_config(encoder, model)), torch.device("cpu"), "auto", 256, 4096,
        "float32", 2, 10**8, keep_probabilities=False, label=f"{n:,} images",
    )  # fmt: skip
    before, started = peak_mib(), time.perf_counter()
    extraction.extract(job, Dataset.open("synthetic"), Path("work"))
    result.send((before, peak_mib(), time.perf_counter() - started))


def peak_mib() -> float:
    """Return the process's highest resident memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def draw(found: pl.DataFrame, path: Path) -> None:
    """Draw peak memory over the number of images."""
    points = alt.Chart(found, title="Peak memory of extract").encode(
        alt.X("images:Q", axis=alt.Axis(values=list(SIZES), format="~s"))
        .scale(type="log", domain=[9_000, 1_100_000]),
        alt.Y("peak_mib:Q", title="MiB", scale=alt.Scale(domainMin=0)),
    )  # fmt: skip
    (points.mark_line() + points.mark_point(filled=True, size=60)).properties(width=420, height=200).save(path)


def main() -> None:
    """Print one line a size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=100_000)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    figure = options.figure.absolute() if options.figure else None
    context = multiprocessing.get_context("spawn")
    print(f"{'images':>10}{'before MiB':>12}{'peak MiB':>10}{'images/s':>10}")
    found = []
    for n in (size for size in SIZES if size <= options.largest):
        with TemporaryDirectory(dir="/var/tmp") as folder:  # on a disk, where /tmp may be memory
            os.chdir(folder)
            writer = context.Process(target=write_dataset, args=(n,))
            writer.start()
            writer.join()
            if writer.exitcode:
                raise SystemExit("the dataset could not be written")
            receive, send = context.Pipe(duplex=False)
            process = context.Process(target=extract, args=(n, send))
            process.start()
            send.close()
            before, peak, seconds = receive.recv()
            process.join()
            os.chdir("/")
        found.append({"images": n, "peak_mib": peak})
        print(f"{n:10,}{before:12,.0f}{peak:10,.0f}{n / seconds:10,.0f}", flush=True)
    if figure:
        draw(pl.DataFrame(found), figure)


if __name__ == "__main__":
    main()
