"""python tests/bench/bench_extract.py

The extract stage against what bounds it, on the same photographs (JPEG files) in the same process: the bare forward pass
of timm's own `model(x)` on ready tensors, with as many threads as the stage gives torch; and bare decoding, resized for the
encoder, in as many threads as there are cores. The stage goes all the way from the dataset's files to finished shards. The
ways take turns; a ratio is the median over the turns, so a machine that is busy for a while changes it little.

Then the same for a dataset that grows by a tenth, spread over all of it: the seconds of the whole, of what was added, and
whether the bytes are those of a run from nothing.

Beside it, with TRANSFERSCOPE_PEERS_PYTHON naming a Python that has them: timm's inference script, clip-retrieval and
thingsvision on the same files and weights (peers_extract.py).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from stages import extraction, ingest, params
from stages.artifacts.dataset import Dataset
from stages.datasets.decoding import decode_image
from stages.device import pick_device
from stages.encoders import Preprocess, Tapped, build, data_config
from stages.extraction.compiled import Compiled
from stages.params import Encoder

# model, input size, side of the photographs, layers, images
CASES = [
    ("mobilenetv1_100", 128, (100, 100), ["pooled", "blocks.3"], 512),
    ("mobilenetv1_100", 224, (500, 375), ["pooled", "blocks.3"], 192),
    ("resnet50", 224, (500, 375), ["pooled", "layer3"], 64),
]
TURNS = 3
BATCH = 32
PEERS = "TRANSFERSCOPE_PEERS_PYTHON"


def write_photographs(folder: Path, n: int, side: tuple[int, int]) -> None:
    """Write n smooth JPEG images in two classes."""
    random = np.random.default_rng(0)
    for index in range(n):
        target = folder / "ab"[index % 2] / f"{index:05d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(random.integers(0, 256, (side[1] // 8, side[0] // 8, 3), dtype=np.uint8))
        small.resize(side, Image.Resampling.BICUBIC).save(target, quality=90)


def ingested(encoder: Encoder) -> tuple[params.Params, Dataset]:
    """Ingest the folder `photos` and return the params and the dataset."""
    settings = params.Params.model_validate({
        "datasets": {"files": {"photos": {"kind": "imagefolder", "path": "photos"}}}, "targets": ["photos"],
        "encoders": {"it": encoder.model_dump()}, "rank": {"metrics": ["logme"]},
        "languages": {"tasks": ["entity_type"], "languages": ["en", "es", "pt"]},
    })  # fmt: skip
    ingest.main(settings, "photos")
    return settings, Dataset.open("photos")


def grow(n: int) -> None:
    """Print what a dataset of n photographs costs from nothing, and after a tenth of them were added."""
    encoder = Encoder(arch="mobilenetv1_100", weights="random", input_size=128, layers=["pooled", "blocks.3"])
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        write_photographs(Path("all"), n, (100, 100))
        for number, path in enumerate(sorted(Path("all").rglob("*.jpg"))):
            if number % 10:  # nine of ten, of both classes
                target = Path("photos", *path.parts[1:])
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, target)
        _, before = ingested(encoder)
        model = build(encoder.arch, {}, num_classes=0, seed=0)
        job = extraction.Job(
            Tapped(model, encoder.layers), Preprocess.of(data_config(encoder, model)), torch.device("cpu"), "auto", BATCH, 4096,
            "float32", os.cpu_count() or 1, 10**8, keep_probabilities=False, label=encoder.arch,
        )  # fmt: skip
        places = [Path("work", name) for name in ("before", "grown")] + [Path("again", "whole")]
        for place in places:
            place.mkdir(parents=True)
        first = seconds(lambda: extraction.extract(job, before, places[0]))
        shutil.rmtree("photos")
        os.rename("all", "photos")
        _, after = ingested(encoder)
        grown = seconds(lambda: extraction.extract(job, after, places[1]))
        whole = seconds(lambda: extraction.extract(job, after, places[2]))
        same = all(
            path.read_bytes() == (places[1] / "joined" / path.name).read_bytes() for path in places[2].glob("joined/*.npy")
        )
        print(
            f"{len(before.rows):,} images in {first:.1f} s; grown to {len(after.rows):,}: {grown:.1f} s, from nothing "
            f"{whole:.1f}: {grown / whole:.1%}; bytes {'equal' if same else 'DIFFER'}"
        )
        os.chdir("/")


def seconds(run: Callable[[], Any]) -> float:
    """Return how long one call takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def measure(case: tuple[Any, ...], threads: int, channels_last: bool, compiled: bool, precision: str, result: Any) -> None:
    """Send images a second by way and turn, what the stage says of its bottleneck, and the peers' rates."""
    arch, size, side, layers, n = case
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(threads)
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        write_photographs(Path("photos"), n, side)
        encoder = Encoder(arch=arch, weights="random", input_size=size, layers=layers)
        settings, dataset = ingested(encoder)
        model = build(arch, {}, num_classes=0, seed=0)
        save_file(model.state_dict(), "weights.safetensors")
        preprocess, device = Preprocess.of(data_config(encoder, model)), pick_device(settings.run)
        job = extraction.Job(
            (Compiled if compiled else Tapped)(model, layers), preprocess, device, precision, BATCH, 4096, "float32", cores,
            10**8, keep_probabilities=False, label=arch, channels_last=channels_last,
        )  # fmt: skip
        encoded = [data for _, data in dataset.images()]
        ready = [preprocess.normalise(batch.to(device)) for batch in extraction.decoded(job, _cut(list(dataset.images())))]
        model.to(device)
        clock = extraction.Clock()

        def bare() -> None:
            with torch.inference_mode():
                for batch in ready:
                    model(batch)
            if device.type == "cuda":
                torch.cuda.synchronize()

        def decode() -> None:
            with ThreadPoolExecutor(cores) as pool:
                for _ in pool.map(lambda data: preprocess.pixels(decode_image(data, max_pixels=10**8)), encoded):
                    pass

        def stage() -> None:
            shutil.rmtree("work", ignore_errors=True)
            extraction.extract_shards(job, dataset, Path("work"), clock)

        ways = {"bare": bare, "decode": decode, "stage": stage}
        bare()
        stage()  # compiles where it is asked to
        rates = {way: [] for way in ways}
        for _ in range(TURNS):
            for way, run in ways.items():
                rates[way].append(n / seconds(run))
        result.send((rates, clock.told(), str(device), _peers(arch, size, threads, cores)))
        os.chdir("/")


def _cut(items: list[Any]) -> list[list[Any]]:
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]


def _peers(arch: str, size: int, threads: int, workers: int) -> dict[str, float | str]:
    python = os.environ.get(PEERS)
    if not python:
        return {}
    arguments = [arch, size, "photos", "weights.safetensors", BATCH, threads, workers]
    script = Path(__file__).with_name("peers_extract.py")
    done = subprocess.run([python, script, *map(str, arguments)], capture_output=True, text=True, check=False)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"peers": done.stderr.strip()[-200:]}


def main() -> None:
    """Print one line a case and number of threads, and one for what the others reach."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, os.cpu_count() or 1}))
    parser.add_argument("--channels-last", action="store_true", help="the stage alone; the bare pass stays as timm makes it")
    parser.add_argument("--compile", action="store_true", help="the stage alone")
    parser.add_argument("--precision", choices=("auto", "bfloat16"), default="auto", help="of the stage alone")
    parser.add_argument("--grow", type=int, default=3000, help="images of the dataset that grows")
    options = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; torch {torch.__version__}, timm "
        f"{timm.__version__}; images/s and ratios, medians of {TURNS} turns"
    )
    print(f"{'model':16}{'px':>5}{'threads':>9}{'bare':>8}{'decode':>8}{'stage':>8}{'/bare':>7}{'/decode':>9}{'/bound':>8}")
    context = multiprocessing.get_context("spawn")
    for case in CASES:
        for threads in options.threads:
            receive, send = context.Pipe(duplex=False)
            how = (options.channels_last, options.compile, options.precision)
            process = context.Process(target=measure, args=(case, threads, *how, send))
            process.start()
            send.close()
            rates, told, device, peers = receive.recv()
            process.join()
            turns = list(zip(*rates.values(), strict=True))
            # Where torch has all cores, decoding takes its time from the same ones: the sum of both times is the bound.
            cores = os.cpu_count() or 1
            shared = threads >= cores and device == "cpu"
            bound = [1 / (1 / b + 1 / d) if shared else min(b, d) for b, d, _ in turns]
            ratios = [
                median(s / b for b, _, s in turns), median(s / d for _, d, s in turns),
                median(s / limit for (_, _, s), limit in zip(turns, bound, strict=True)),
            ]  # fmt: skip
            cells = "".join(f"{median(rates[way]):8,.0f}" for way in ("bare", "decode", "stage"))
            print(f"{case[0]:16}{case[1]:5}{threads:9}{cells}{ratios[0]:7.2f}{ratios[1]:9.2f}{ratios[2]:8.2f}  {told}")
            best = max((rate for rate in peers.values() if isinstance(rate, float)), default=None)
            said = [f"{name} {rate:,.0f}" if isinstance(rate, float) else f"{name}: {rate}" for name, rate in peers.items()]
            if best:
                print(f"{'':21}{', '.join(said)}: {median(rates['stage']) / best:.2f} times the best of them")
            elif said:
                print(f"{'':21}{'; '.join(said)}")
    grow(options.grow)
    if not os.environ.get(PEERS):
        print(f"no comparison with other programs: {PEERS} names no Python that has them")


if __name__ == "__main__":
    main()
