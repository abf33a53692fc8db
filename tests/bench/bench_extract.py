"""python tests/bench/bench_extract.py

The extract stage against the bare forward pass of the same model, in the same process on the same images: images a
second of timm's own `model(x)` on ready tensors, of the encoder loop (bytes to arrays of two layers), of decoding alone,
and of the stage's whole way from the dataset's files to finished shards. Each model has a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image

from stages import extraction, ingest, params
from stages.artifacts.dataset import Dataset
from stages.device import pick_device
from stages.encoders import Preprocess, Tapped, build, data_config
from stages.params import Encoder

MODELS = {
    "test_byobnet": ({"in_chans": 1}, 32, ["pooled", "stages.1"], 2048),
    "mobilenetv1_100": ({}, 128, ["pooled", "blocks.3"], 384),
}
REPEATS = 5  # the best counts; the ways take turns, so that a busy machine slows all of them
BATCH = 128


def write_photographs(folder: Path, n: int) -> None:
    """Write n smooth JPEG images of 100 x 100 in two classes."""
    random = np.random.default_rng(0)
    for index in range(n):
        target = folder / "ab"[index % 2] / f"{index:05d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        small.resize((100, 100), Image.Resampling.BICUBIC).save(target, quality=90)


def peak_mib() -> float:
    """Return the process's highest resident memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def measure(arch: str, workers: int, threads: int, result: Any) -> None:
    """Send images a second by way, and the peak memory of loading and of everything."""
    arguments, size, layers, n = MODELS[arch]
    torch.set_num_threads(threads)
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        write_photographs(Path("photos"), n)
        encoder = Encoder(arch=arch, arch_args=arguments, weights="random", input_size=size, layers=layers)
        settings = params.Params.model_validate({
            "datasets": {"files": {"photos": {"kind": "imagefolder", "path": "photos"}}}, "targets": ["photos"],
            "encoders": {"it": encoder.model_dump()}, "rank": {"metrics": ["logme"]},
            "languages": {"tasks": ["entity_type"], "languages": ["en", "es", "pt"]},
        })  # fmt: skip
        ingest.main(settings, "photos")
        dataset = Dataset.open("photos")
        model = build(arch, arguments, num_classes=100, seed=0)
        preprocess = Preprocess.of(data_config(encoder, model))
        device = pick_device(settings.run)
        job = extraction.Job(
            Tapped(model, layers), preprocess, device, "auto", BATCH, 1024, "float32", workers, 10**8,
            keep_probabilities=True, label=arch,
        )  # fmt: skip
        encoded = list(dataset.images())
        batches = list(extraction._decoded(job, encoded))
        ready = [preprocess.normalise(batch.to(device)) for batch in batches]
        model.to(device)

        def bare() -> None:
            with torch.inference_mode():
                for batch in ready:
                    model(batch)
            if device.type == "cuda":
                torch.cuda.synchronize()

        def stage() -> None:
            shutil.rmtree("work", ignore_errors=True)
            extraction.extract_shards(job, dataset, Path("work"))

        ways: dict[str, Callable[[], Any]] = {
            "bare": bare,
            "loop": lambda: list(extraction.run_encoder(job, batches)),
            "decode": lambda: list(extraction._decoded(job, encoded)),
            "stage": stage,
        }
        before = peak_mib()
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(REPEATS):
            for way, run in ways.items():
                started = time.perf_counter()
                run()
                best[way] = min(best[way], time.perf_counter() - started)
        result.send(({way: n / seconds for way, seconds in best.items()}, before, peak_mib(), str(device)))
        os.chdir("/")


def main() -> None:
    """Print one line a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {options.threads} threads, {options.workers} decoders, load "
        f"{os.getloadavg()[0]:.1f}; torch {torch.__version__}, timm {timm.__version__}; images/s, best of {REPEATS}"
    )
    print(f"{'model':18}{'bare':>8}{'loop':>8}{'decode':>8}{'stage':>8}{'loop/bare':>11}{'stage/bound':>13}{'peak MiB':>10}")
    context = multiprocessing.get_context("spawn")
    for arch in MODELS:
        receive, send = context.Pipe(duplex=False)
        process = context.Process(target=measure, args=(arch, options.workers, options.threads, send))
        process.start()
        send.close()
        rates, _, peak, device = receive.recv()
        process.join()
        cells = "".join(f"{rates[way]:8,.0f}" for way in ("bare", "loop", "decode", "stage"))
        # Decoding and the forward pass share the cores of a CPU; only beside an accelerator do they overlap freely.
        shared = 1 / (1 / rates["bare"] + 1 / rates["decode"])
        bound = shared if device == "cpu" else min(rates["bare"], rates["decode"])
        print(f"{arch:18}{cells}{rates['loop'] / rates['bare']:11.2f}{rates['stage'] / bound:13.2f}{peak:10,.0f}")


if __name__ == "__main__":
    main()
