"""The public encoders as params.yaml names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

ARCHS = {
    "v1": ("mobilenetv1_100", "mobilenetv1_100.coral_qat_in1k.safetensors"),
    "v2": ("mobilenetv2_100", "mobilenetv2_100.coral_qat_in1k.safetensors"),
    "birds": ("mobilenetv2_100", "mobilenetv2_100.coral_qat_inat_birds.safetensors"),
    "chance": ("mobilenetv2_100", None),
    "random_v1": ("mobilenetv1_100", None),
    "random_v2": ("mobilenetv2_100", None),
}


@pytest.fixture
def real_encoders(real_inputs: Path, project: Path) -> Callable[..., dict[str, object]]:
    """Link weights into the project and return the section `encoders`: layers by architecture, `pooled` by default."""

    def make(names: Sequence[str], *, size: int, layers: Mapping[str, list[str]] | None = None) -> dict[str, object]:
        chosen: dict[str, object] = {}
        for name in names:
            arch, file = ARCHS[name]
            origin: object = "random"
            if file is not None:
                link = project / "data" / "raw" / "weights" / file
                link.symlink_to(real_inputs / "weights" / file)
                origin = {"file": str(link.relative_to(project))}
            chosen[name] = {
                "arch": arch, "arch_args": {"pad_type": "same"}, "weights": origin, "input_size": size, "mean": 0.5, "std": 0.5,
                "layers": (layers or {}).get(arch, ["pooled"]),
            }  # fmt: skip
        return chosen

    return make
