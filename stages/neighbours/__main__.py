"""python -m stages.neighbours glyph_vit digits test/00012 --k 20

The images that an encoder sees nearest to one image, as a contact sheet in data/reports/neighbours. The image is named by its
id, or by a file: of the dataset, which is known by its content, or a new one, which goes through the encoder.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages import params
from stages.artifacts import atomic
from stages.artifacts.dataset import SPLITS, Dataset
from stages.artifacts.features import FeatureSet
from stages.datasets.decoding import Undecodable, decode_image
from stages.errors import InputProblem, Problem
from stages.errors import nearest as spelt_like
from stages.neighbours.nearest import nearest
from stages.neighbours.page import Shown, page
from stages.params import Encoder, Params
from stages.report.thumbnails import picture

PAGES = Path("data/reports/neighbours")
SIDE = 224  # pixels of a picture at most, which is shown at 144 and more
FEW = 1000  # ids among which the nearest spelling is looked for


@dataclass(frozen=True)
class Asked:
    """The image asked for: its vector [d], and its row where it is one of the dataset's."""

    name: str
    vector: NDArray[Any]
    row: int | None
    content: bytes | None  # of a new image


def ask(settings: Params, encoder: str, dataset: Dataset, features: FeatureSet, layer: str, image: str) -> Asked:
    """Find the image by id or file, and its features.

    Raises:
        InputProblem: it is neither an id nor a file, or a new file that cannot be decoded or has no encoder to go through.
    """
    rows = features.index.with_row_index("row")
    path = Path(image)
    found = rows.filter(pl.col("id") == image)
    if found.is_empty() and path.is_file():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found = rows.join(dataset.rows.filter(pl.col("sha256") == digest).select("id"), on="id").sort("id")
    if len(found):
        row = int(found["row"][0])
        return Asked(found["id"][0], features.layer(layer)[row], row, None)
    if not path.is_file():
        alike = rows.filter(pl.col("id").str.contains(path.stem, literal=True)).head(FEW)["id"]
        near = spelt_like(image, alike if len(alike) else rows.head(FEW)["id"])
        raise InputProblem(f"there is no image {image!r}, and no such file; {near}", where=str(dataset.path))
    if not isinstance(settings.candidate(encoder), Encoder):
        raise InputProblem(
            f"the features of {encoder!r} were computed elsewhere, so a new image has none", where=image,
            next_step="name an image of the dataset by its id",
        )  # fmt: skip
    content = path.read_bytes()
    return Asked(path.name, embed(encoder, layer, content, settings.ingest.max_pixels, image), None, content)


def embed(encoder: str, layer: str, content: bytes, max_pixels: int, where: str) -> NDArray[np.float32]:
    """Return the features [d] of one encoded image; raises InputProblem where it cannot be decoded."""
    import torch

    from stages.encoders import Preprocess, Tapped, load

    model, card = load(encoder)
    preprocess = Preprocess.of(card)
    try:
        pixels = preprocess.pixels(decode_image(content, max_pixels=max_pixels))
    except Undecodable as error:
        raise InputProblem(f"cannot be decoded ({error})", where=where) from None
    with torch.inference_mode():
        kept, _ = Tapped(model, [layer])(preprocess.normalise(torch.from_numpy(pixels)[None]))
    vector: NDArray[np.float32] = kept[layer][0].float().numpy()
    return vector


def sheet(settings: Params, encoder: str, dataset_name: str, image: str, layer: str | None, k: int, split: str | None) -> str:
    """Return the contact sheet's HTML.

    Raises:
        InputProblem: an unknown encoder, dataset, layer or image, features that are not there, or no image to compare with.
    """
    layer = layer or settings.candidate(encoder).head_layer
    if dataset_name not in settings.all_datasets:
        near = spelt_like(dataset_name, settings.all_datasets)
        raise InputProblem(f"there is no dataset {dataset_name!r}; {near}", where="params.yaml: datasets")
    dataset, features = Dataset.open(dataset_name), FeatureSet.open(encoder, dataset_name)
    matrix = features.layer(layer)
    asked = ask(settings, encoder, dataset, features, layer, image)
    chosen = np.ones(len(features.index), dtype=bool) if split is None else (features.index["split"] == split).to_numpy()
    if asked.row is not None:
        chosen = chosen & (np.arange(len(chosen)) != asked.row)
    rows = np.flatnonzero(chosen)
    if not len(rows):
        raise InputProblem("there is no other image to compare with", where=f"{features.path}, split {split or 'all'}")
    found_rows, distances = nearest(matrix, asked.vector, rows, k)
    facts = dataset.rows.select("id", "label", "split")
    known = features.index[found_rows.tolist()].select("id").join(facts, on="id", how="left", maintain_order="left")
    own = facts.filter(pl.col("id") == asked.name).row(0, named=True) if asked.row is not None else {}
    encoded = {} if not dataset.has_images else dataset.chosen([*known["id"], *([asked.name] if own else [])])
    limit = settings.ingest.max_pixels
    found = [
        _shown(row["id"], row, encoded.get(row["id"]), limit, float(distance))
        for row, distance in zip(known.iter_rows(named=True), distances, strict=True)
    ]
    return page(
        _shown(asked.name, own, asked.content or encoded.get(asked.name), limit), found, encoder=encoder, dataset=dataset_name,
        layer=layer, among=f"{len(rows):,} {'images' if split is None else f'images of {split}'}",
    )  # fmt: skip


def _shown(name: str, facts: Mapping[str, Any], content: bytes | None, limit: int, distance: float | None = None) -> Shown:
    uri, side = (None, 0) if content is None else picture(content, limit, SIDE, where=name)
    return Shown(name, facts.get("label"), facts.get("split"), uri, side, distance)


def main(argv: list[str] | None = None) -> int:
    """Write the sheet, say where it is, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m stages.neighbours", description="The nearest images as a contact sheet.")
    parser.add_argument("encoder", help="an encoder of params.yaml, or features computed elsewhere")
    parser.add_argument("dataset", help="a dataset that it has features of")
    parser.add_argument("image", help="an id, or a file of the dataset or elsewhere")
    parser.add_argument("--layer", help="by default the one that a linear head is fitted on")
    parser.add_argument("--k", type=int, default=24, help="how many")
    parser.add_argument("--split", choices=SPLITS, help="look among these alone")
    asked = parser.parse_args(argv)
    try:
        if asked.k < 1:
            raise InputProblem(f"--k {asked.k}: at least one image is needed")
        content = sheet(params.load(), asked.encoder, asked.dataset, asked.image, asked.layer, asked.k, asked.split)
        name = hashlib.sha256(f"{asked.image}\0{asked.layer}\0{asked.k}\0{asked.split}".encode()).hexdigest()[:8]
        target = PAGES / f"{asked.encoder}-{asked.dataset}-{name}.html"
        atomic.write_text(target, content)
    except Problem as problem:
        print(problem, file=sys.stderr)
        return problem.exit_code
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
