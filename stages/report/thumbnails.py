"""Small pictures of source classes, as data URIs that a self-contained page can hold."""

from __future__ import annotations

import base64
import io

import polars as pl

from stages.artifacts.dataset import Dataset
from stages.datasets.decoding import Undecodable, decode_image
from stages.errors import InputProblem

SIDE = 56  # pixels at most: shown at half of that, sharp on screens of two pixels a point
SCHEMA = {"source": pl.String, "group": pl.String, "image": pl.String}


def picture(content: bytes, max_pixels: int, side: int, *, where: str) -> tuple[str, int]:
    """Return an encoded image as a PNG of at most `side` pixels in a data URI, and the longer side of the PNG.

    Raises:
        InputProblem: the image, which ingest accepted, cannot be decoded any more; the message names `where`.
    """
    try:
        image = decode_image(content, max_pixels=max_pixels)
    except Undecodable as error:
        what = f"cannot be decoded ({error})"
        raise InputProblem(what, where=where, next_step="dvc repro --force sources") from None
    image = image.convert("L" if image.mode in ("1", "L", "LA", "I", "I;16") else "RGB")
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}", max(image.size)


def thumbnails(groups: pl.DataFrame, max_pixels: int) -> pl.DataFrame:
    """Return a picture of every group that is a class of its source: the class's first training image.

    Args:
        groups: columns source and group, each pair once; a group that is no class of the source gets no picture, nor
            does a source of rows without images.
        max_pixels: bound on the image before it is decoded.

    Returns:
        source, group, image (a PNG as data URI), sorted by source and group.

    Raises:
        InputProblem: a source is not there, or an image that ingest accepted cannot be decoded any more.
    """
    made = [pl.DataFrame(schema=SCHEMA)]
    for (source,), asked in groups.sort("source", "group").group_by(["source"], maintain_order=True):
        dataset = Dataset.open(str(source))
        if not dataset.has_images:
            continue
        rows = dataset.rows.filter(pl.col("split") == "train").unique("label", keep="first", maintain_order=True)
        firsts = dict(
            rows.filter(pl.col("label").is_in(asked["group"].to_list())).sort("label").select("label", "id").iter_rows()
        )
        encoded = dataset.chosen(firsts.values())
        for group, identity in firsts.items():
            uri, _ = picture(encoded[identity], max_pixels, SIDE, where=f"{dataset.path}, image {identity!r}")
            made.append(pl.DataFrame({"source": [source], "group": [group], "image": [uri]}, schema=SCHEMA))
    return pl.concat(made).sort("source", "group")
