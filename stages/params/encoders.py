"""Sections `encoders`, `pretrain`, `extract` and `finetune`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator

from stages.params.section import Count, Once, Section, Slug

DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")


class PretrainWeights(BaseModel):
    """Weights trained here on one of the datasets, and the options of the objective, which its own module validates."""

    model_config = ConfigDict(extra="allow", frozen=True)
    pretrain: Slug
    objective: str = "supervised"

    @property
    def options(self) -> dict[str, Any]:
        """Return everything but the dataset and the objective."""
        return dict(self.model_extra or {})


class FileWeights(Section):
    """Weights from a .safetensors or .pth file below data/raw/weights.

    A .safetensors file may name the outputs of its head: `classes` in its metadata, a JSON list.
    """

    file: Path


def _weights_form(value: Any) -> str | None:
    """Return the tag of the form of `weights` that a value is in; as in `explain`, the user never wrote the capitals."""
    if isinstance(value, PretrainWeights) or (isinstance(value, dict) and "pretrain" in value and "file" not in value):
        return "Pretrain"
    if isinstance(value, FileWeights) or (isinstance(value, dict) and list(value) == ["file"]):
        return "File"
    return "Word" if value in ("hub", "random") else None


WeightsForm = Annotated[
    Annotated[Literal["hub", "random"], Tag("Word")]
    | Annotated[PretrainWeights, Tag("Pretrain")]
    | Annotated[FileWeights, Tag("File")],
    Discriminator(
        _weights_form,
        custom_error_type="weights_form",
        custom_error_message="is none of hub, random, {pretrain: <dataset>} and {file: <path>}",
    ),
]


class Encoder(Section):
    """One timm model with its weights, the layers to tap, and overrides of timm's own data config."""

    arch: str
    arch_args: dict[str, Any] = {}
    weights: WeightsForm
    layers: Annotated[Once[str], Field(min_length=1)] = ["pooled"]  # one vector an image; @gem and @class instead of the mean
    grids: Once[str] = []  # layers kept with all their positions, for methods that look at parts of an image
    input_size: Annotated[int, Field(ge=8)] | None = None  # pixels, square
    mean: float | tuple[float, ...] | None = None
    std: float | tuple[float, ...] | None = None
    interpolation: Literal["bilinear", "bicubic", "nearest"] | None = None

    @property
    def head_layer(self) -> str:
        """Return the layer that a linear head is fitted on: `pooled` where it is kept, else the last one named."""
        return "pooled" if "pooled" in self.layers else self.layers[-1]


class Pretrain(Section):
    """Training, whatever the objective: AdamW, one-cycle learning rate."""

    epochs: Count = 8
    batch_size: Count = 128
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)


class Extract(Section):
    """How features are computed and kept."""

    batch_size: Literal["auto"] | Count = 256  # auto: from the sizes of the model; halved where the memory is too small
    shard_images: Count = 4096  # images between two points from which a killed run resumes
    dtype: Literal["float32", "float16"] = "float32"
    channels_last: Literal["auto"] | bool = "auto"  # memory layout of convolutions; auto: on CUDA. Mostly faster on a CPU too
    compile: bool = False  # the model by torch.compile; the closing line says from how many images that pays
    decode: Literal["pillow", "device"] = "pillow"  # device: JPEG by torchvision, on a GPU there; pixels differ slightly
    predecode: bool = False  # keep pixels in data/store: the next encoder of the same input decodes nothing
    devices: Literal["auto"] | list[str] = "auto"  # one process each; auto: every GPU
    ray: str | None = None  # address of a Ray cluster, host:port or auto, whose hosts share this folder; needs the extra `ray`

    @field_validator("devices", mode="before")
    @classmethod
    def _of_one_kind(cls, written: Any) -> Any:
        if written == "auto":
            return written
        if not isinstance(written, list) or not written or not all(DEVICE.fullmatch(str(name)) for name in written):
            raise ValueError(f"{written!r} is neither auto nor a list of devices as cpu, cuda:0 and mps")
        if len({name.partition(":")[0] for name in written}) > 1:
            raise ValueError(f"{', '.join(written)} are of several kinds, between which features differ in their last digits")
        return written

    def what_matters(self) -> dict[str, Any]:
        """Return what features depend on: how and where they are computed is not among it."""
        return self.model_dump(exclude={"devices", "ray", "predecode"})


class Finetune(Section):
    """The ground truth of ranking: a linear head and full fine-tuning, on a small budget."""

    modes: Once[Literal["linear", "full"]] = ["linear", "full"]
    seeds: Count = 2
    epochs: Count = 6
    batch_size: Count = 64
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    max_train: Count = 500
    linear_c: float = Field(default=1.0, gt=0)  # inverse penalty of the linear head
