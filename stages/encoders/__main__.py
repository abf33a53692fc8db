"""List the layers of a timm model: `python -m stages.encoders vit_base_patch16_224`."""

from __future__ import annotations

import argparse
import sys

import torch
from timm.data import resolve_model_data_config

from stages.encoders import Tapped, build, layer_names
from stages.encoders.pooling import grid, mean
from stages.errors import Problem

FLOAT = 4  # bytes
IMAGES = 1000


def listing(arch: str) -> list[tuple[str, ...]]:
    """Return rows of layer, vector, MB on disk per 1,000 images in float32, grid, MB, and what may follow its name.

    Raises:
        InputProblem: timm does not know the model.
    """
    model = build(arch, {}, num_classes=0, device="meta")
    image = torch.empty(1, *resolve_model_data_config(model)["input_size"], device="meta")
    rows: list[tuple[str, ...]] = []
    for layer, output in Tapped(model, layer_names(model)).maps(image).items():
        if not output.space:
            rows.append((layer, *_said(mean(output)), "", "", ""))
            continue
        poolings = "@gem @class" if output.class_token and output.prefix else "@gem"
        rows.append((layer, *_said(mean(output)), *_said(grid(output)), poolings))
    return rows


def _said(array: torch.Tensor) -> tuple[str, str]:
    return " x ".join(map(str, array.shape[1:])), f"{array.numel() * FLOAT * IMAGES / 1e6:,.1f} MB"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m stages.encoders", description="List the layers of a timm model.")
    parser.add_argument("arch", help="timm's name of the model")
    arch = parser.parse_args().arch
    rows = [("layer", "vector", "per 1,000", "grid", "per 1,000", "poolings besides the mean"), *listing(arch)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"\nfloat32 on disk; any module has a name (`{_example(arch)}`), `layers:` takes vectors, `grids:` whole grids")


def _example(arch: str) -> str:
    names = [name for name, _ in build(arch, {}, num_classes=0, device="meta").named_modules() if name.count(".") > 1]
    return names[len(names) // 2] if names else "..."


if __name__ == "__main__":
    try:
        main()
    except Problem as problem:
        print(problem, file=sys.stderr)
        sys.exit(problem.exit_code)
