"""python tests/bench/bench_ingest.py

Ingest of 2,000 JPEG of 320 x 240 against the bare loop that reads and decodes the same files with Pillow, on the same
machine, best of three, files in the page cache. Ingest also hashes, shards, splits and syncs to disk.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from stages import ingest, params

IMAGES, SIZE, REPEATS = 2_000, (320, 240), 3
PARAMS = """
datasets: {{files: {{photos: {{kind: imagefolder, path: photos}}}}}}
targets: [photos]
run: {{workers: {workers}}}
encoders: {{tiny: {{arch: test_byobnet, weights: random}}}}
rank: {{metrics: [logme]}}
languages: {{tasks: [entity_type], languages: [en, es, pt]}}
"""


def make_photographs() -> None:
    """Write smooth noise, which compresses about as photographs do, in ten classes."""
    random = np.random.default_rng(0)
    for index in range(IMAGES):
        coarse = random.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        path = Path("photos") / str(index % 10) / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC).save(path, quality=90)


def bare_loop() -> None:
    for path in sorted(Path("photos").rglob("*.jpg")):
        with Image.open(path) as image:
            image.load()


def rate(work: Callable[[], None]) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return round(IMAGES / best, 1)


def main() -> None:
    """Print one JSON line: images/s of each way, and what it ran on."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_photographs()
        megabytes = sum(path.stat().st_size for path in Path("photos").rglob("*.jpg")) / 1e6
        rates = {"bare_decode": rate(bare_loop)}
        for workers in (1, 2):
            Path("params.yaml").write_text(PARAMS.format(workers=workers), encoding="utf-8")
            settings = params.load()
            rates[f"ingest_{workers}_workers"] = rate(lambda settings=settings: ingest.main(settings, "photos"))
        rates["bare_decode_again"] = rate(bare_loop)
        os.chdir("/")
    facts = {"images": IMAGES, "megabytes": round(megabytes, 1), "cpus": os.cpu_count(), "load": os.getloadavg()[0]}
    print(json.dumps({"images_per_second": rates, **facts, "pillow": PIL.__version__, "machine": platform.machine()}))


if __name__ == "__main__":
    main()
