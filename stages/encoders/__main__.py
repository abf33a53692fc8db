"""List the layers of a timm model: `python -m stages.encoders vit_base_patch16_224`."""

from __future__ import annotations

import sys

from stages.encoders import build, layer_names
from stages.errors import Problem

if __name__ == "__main__":
    try:
        print("\n".join(layer_names(build(sys.argv[1], {}, num_classes=0, device="meta"))))
    except Problem as problem:
        print(problem, file=sys.stderr)
        sys.exit(problem.exit_code)
