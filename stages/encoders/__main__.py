"""List the layers of a timm model: `python -m stages.encoders vit_base_patch16_224`."""

from __future__ import annotations

import argparse
import sys

from stages.encoders import build, layer_names
from stages.errors import Problem

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stages.encoders", description="List the layers of a timm model.")
    parser.add_argument("arch", help="timm's name of the model")
    try:
        print("\n".join(layer_names(build(parser.parse_args().arch, {}, num_classes=0, device="meta"))))
    except Problem as problem:
        print(problem, file=sys.stderr)
        sys.exit(problem.exit_code)
