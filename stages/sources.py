"""DVC entry: `python -m stages.sources` writes what each encoder's weights are made of, one small file an encoder."""

from __future__ import annotations

import json
from pathlib import Path

from stages import entry
from stages.artifacts import atomic, manifest
from stages.artifacts.dataset import Dataset
from stages.artifacts.raw import raw_file
from stages.params import Encoder, FileWeights, Params, PretrainWeights

SOURCES = Path("data/sources")
WEIGHT_FILES = Path("data/raw/weights")


def main(settings: Params, _name: str) -> None:
    """Write `data/sources/<encoder>.json`: these are what DVC watches, so an encoder depends on its own source alone."""
    with atomic.new_folder(SOURCES) as folder:
        for name, encoder in settings.encoders.items():
            content = json.dumps(made_of(name, encoder), sort_keys=True) + "\n"
            (folder / f"{name}.json").write_text(content, encoding="utf-8")


def made_of(name: str, encoder: Encoder) -> dict[str, str]:
    """Return the content key of a dataset or weight file; nothing for weights from the hub or at random.

    Raises:
        InputProblem: the dataset is not there, or the file is absent or outside data/raw/weights.
    """
    if isinstance(encoder.weights, PretrainWeights):
        return {"dataset": encoder.weights.pretrain, "identity": Dataset.open(encoder.weights.pretrain).identity}
    if isinstance(encoder.weights, FileWeights):
        return {"sha256": manifest.sha256(weight_file(encoder.weights.file, f"params.yaml: encoders.{name}.weights.file"))}
    return {}


def weight_file(path: Path, where: str) -> Path:
    """Return `path`, which params.yaml names at `where`; raises InputProblem unless it is a file below data/raw/weights."""
    return raw_file(path, WEIGHT_FILES, where, kind="weights", key="file")


if __name__ == "__main__":
    entry.run("sources", main)
