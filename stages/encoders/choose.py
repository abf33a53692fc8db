"""Choose layers of timm models without computing anything: `python -m stages.encoders.choose 3 resnet50=hub test_vit=random`.

Prints a JSON object, arch -> layers, for each ARCH=WEIGHTS asked for; a model that cannot be taken ends it with a message.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from torch import nn

from stages.encoders import build, check_input, data_config, depths, known_architecture
from stages.encoders.layers import POOLED, UNPOOLED
from stages.errors import InputProblem, Problem
from stages.params import Encoder


def layers(arch: str, weights: str, count: int) -> list[str]:
    """Return "pooled" and up to `count` whole stages of a model, evenly spread over its later two thirds.

    Args:
        arch: timm's model name.
        weights: `hub` where timm has to have weights for it, anything else where not.
        count: layers beside "pooled".

    Raises:
        InputProblem: timm does not know the model or has no weights for it, or it does not take images by itself.
    """
    known_architecture(arch, fetched=weights == "hub")
    model = build(arch, {}, num_classes=0, device="meta")
    size = data_config(Encoder(arch=arch, weights="random"), model).input_size
    depth = depths(model)
    names = [name for name in depth if name not in (POOLED, UNPOOLED)]
    later = [name for name in names if depth[name] > 1 / 3 and not any(name.startswith(f"{other}.") for other in names)]
    whole = spread(later, count)
    return [POOLED, *(whole if _tapped(model, [POOLED, *whole], size, arch) else _alone(model, whole, size, arch))]


def spread(names: Sequence[str], count: int) -> list[str]:
    """Return `count` of the names in their order, evenly spread, the last one included; all where there are fewer."""
    count = min(count, len(names))
    return [names[len(names) * (index + 1) // count - 1] for index in range(count)]


def _tapped(model: nn.Module, names: list[str], size: tuple[int, int, int], arch: str) -> bool:
    try:
        check_input(model, names, size, where=arch)
    except InputProblem:
        return False
    return True


def _alone(model: nn.Module, names: list[str], size: tuple[int, int, int], arch: str) -> list[str]:
    """Return the layers that can be tapped: not every model runs all its modules."""
    check_input(model, [POOLED], size, where=arch)  # else it is the model that is at fault
    return [name for name in names if _tapped(model, [name], size, arch)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stages.encoders.choose", description="Choose layers of timm models.")
    parser.add_argument("count", type=int, help="layers of each beside pooled")
    parser.add_argument("encoders", nargs="+", metavar="ARCH=WEIGHTS", help="hub, random or a file")
    asked = parser.parse_args()
    try:
        pairs = [encoder.partition("=") for encoder in asked.encoders]
        print(json.dumps({arch: layers(arch, weights, asked.count) for arch, _, weights in pairs}))
    except Problem as problem:
        print(problem, file=sys.stderr)
        sys.exit(problem.exit_code)
