"""An image folder with traps: each is quarantined with its reason, the rest goes on, and nothing is decoded first."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from stages.artifacts.dataset import Dataset
from stages.datasets.decoding import Undecodable, decode_image

RunStage = Callable[..., subprocess.CompletedProcess[str]]


def png_bomb(side: int = 40_000) -> bytes:
    """A whole, valid grey PNG of side x side zeros in a few kilobytes: 1.6 gigapixels, compressed 1000 to 1."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    packer = zlib.compressobj(9)
    row = bytes(side // 8 + 1)  # one bit a pixel, and the filter byte
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def photograph(seed: int, size: int = 48) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()


@pytest.fixture
def hostile(project: Path) -> Path:
    """Forty good photographs, and one of every trap."""
    root = project / "data" / "raw" / "photos"
    for index in range(40):
        path = root / "ab"[index % 2] / f"{index:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photograph(index))
    traps = {
        "truncated.jpg": photograph(99)[:900],
        "empty.jpg": b"",
        "bomb.png": png_bomb(),
        "text.jpg": b"This is no image at all.\n" * 9,
        "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n",
        "vector.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "large.bmp": b"BM" + bytes(300_000),
    }
    for name, content in traps.items():
        (root / "a" / name).write_bytes(content)
    (root / "a" / "gone.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(root / "a" / "pipe.jpg")
    (root / "loose.jpg").write_bytes(photograph(100))
    return root


def settings(**ingest: object) -> dict[str, object]:
    return {
        "datasets": {"files": {"photos": {"kind": "imagefolder", "path": "data/raw/photos"}}},
        "targets": ["photos"],
        "ingest": {"max_bytes": 200_000, **ingest},
    }


def test_traps_are_quarantined_and_the_rest_goes_on(
    hostile: Path, write_params: Callable[..., Path], run_stage: RunStage
) -> None:
    write_params(**settings(max_quarantine_fraction=0.3))
    done = run_stage("ingest", "--dataset", "photos")
    assert done.returncode == 0, done.stderr
    assert "photos: 40 images, 2 classes, 10 quarantined" in done.stdout
    dataset = Dataset.open("photos", verify=True)
    reasons = dict(dataset.quarantine.iter_rows())
    assert reasons.keys() == {
        "a/truncated.jpg", "a/empty.jpg", "a/bomb.png", "a/text.jpg", "a/script.eps", "a/vector.svg", "a/large.bmp",
        "a/gone.jpg", "a/pipe.jpg", "loose.jpg",
    }  # fmt: skip
    for name, reason in {
        "a/truncated.jpg": "truncated: ",
        "a/empty.jpg": "empty: 0 bytes",
        "a/bomb.png": "too large: ",
        "a/text.jpg": "not an image: ",
        "a/script.eps": "not an image: ",
        "a/vector.svg": "not an image: ",
        "a/large.bmp": "too large: 300002 bytes are more than 200000",
        "a/gone.jpg": "cannot be read: No such file or directory",
        "a/pipe.jpg": "cannot be read: not a regular file",
        "loose.jpg": "no label: ",
    }.items():
        assert reasons[name].startswith(reason), name
    assert dataset.facts["quarantined"] == 10
    assert dict(dataset.images()) == {f"{'ab'[i % 2]}/{i:02d}.jpg": photograph(i) for i in range(40)}
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr


def test_too_many_traps_stop_the_stage_with_the_three_most_frequent_reasons(
    hostile: Path, write_params: Callable[..., Path], run_stage: RunStage
) -> None:
    write_params(**settings(max_quarantine_fraction=0.1))
    done = run_stage("ingest", "--dataset", "photos")
    assert done.returncode == 2
    assert "10 of 50 images cannot be used (3 not an image, 2 cannot be read, 2 too large)" in done.stderr
    assert "more than the 10.0% allowed" in done.stderr
    assert "Next: " in done.stderr
    assert not Path("data/datasets/photos").exists()
    assert not list(Path("data/store/scratch").glob("*photos*.[0-9]*"))


@pytest.mark.parametrize("max_pixels", [50_000_000, 2_000_000_000])
def test_a_bomb_is_refused_from_its_header(max_pixels: int) -> None:
    bomb = png_bomb()
    assert len(bomb) < 300_000
    tracemalloc.start()
    with pytest.raises(Undecodable, match="too large"):
        decode_image(bomb, max_pixels=max_pixels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000
    with pytest.raises(Undecodable, match="too large"):  # the header alone is enough: no pixel was asked for
        decode_image(bomb[:60], max_pixels=max_pixels)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_every_cut_of_an_image_is_decoded_or_refused_never_anything_else(form: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(buffer, format=form)
    data = buffer.getvalue()
    refused = 0
    for length in range(0, len(data) * 9 // 10, 7):
        try:
            decode_image(data[:length], max_pixels=10_000)
        except Undecodable:
            refused += 1
    assert refused == len(range(0, len(data) * 9 // 10, 7))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_flipped_bytes_are_decoded_or_refused_never_anything_else(form: str) -> None:
    random = np.random.default_rng(1)
    buffer = io.BytesIO()
    Image.fromarray(random.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(buffer, format=form)
    for _ in range(150):
        data = bytearray(buffer.getvalue())
        for position in random.integers(0, min(len(data), 200), 3):
            data[position] = random.integers(256)
        try:
            image = decode_image(bytes(data), max_pixels=10_000)
        except Undecodable:
            continue
        assert image.mode in ("L", "RGB")
        assert image.width * image.height <= 10_000


def test_labels_with_odd_characters_are_only_text(
    project: Path, write_params: Callable[..., Path], run_stage: RunStage
) -> None:
    root = project / "data" / "raw" / "photos"
    for label in ("a;rm -rf $HOME", "<script>alert(1)</script>".replace("/", "_"), "naïve ☃"):
        (root / label).mkdir(parents=True)
        for index in range(20):
            (root / label / f"{index}.jpg").write_bytes(photograph(zlib.crc32(f"{label}{index}".encode())))
    write_params(**settings())
    assert run_stage("ingest", "--dataset", "photos").returncode == 0
    assert set(pl.read_parquet("data/datasets/photos/manifest.parquet")["label"]) == {path.name for path in root.iterdir()}
