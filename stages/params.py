"""params.yaml as typed, validated models: one section per stage, every mistake named with its nearest valid choice."""

from __future__ import annotations

import difflib
import os
import re
import zoneinfo
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from stages.errors import InputProblem, nearest

PARAMS_FILE = Path("params.yaml")
SLUG = re.compile(r"^[a-z0-9_]+$")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
CRON_FIELDS = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 7)}
EDIT = f"edit {PARAMS_FILE}, then `transferscope check`"


def _slug(name: str) -> str:
    if not SLUG.match(name):
        suggestion = re.sub(r"[^a-z0-9_]+", "_", name.lower()).strip("_")
        raise ValueError(f"{name!r} is not a name of lower-case letters, digits and _; try {suggestion!r}")
    return name


def _once(items: list[Any]) -> list[Any]:
    twice = [item for index, item in enumerate(items) if item in items[:index]]
    if twice:
        raise ValueError(f"{twice[0]!r} is named twice")
    return items


def _cron(text: str) -> str:
    """Check the form alone; the fields' order and names are those of crontab(5)."""
    fields = text.split()
    if len(fields) != len(CRON_FIELDS):
        raise ValueError(f"{text!r} has {len(fields)} fields instead of five: {', '.join(CRON_FIELDS)}")
    for written, (name, (low, high)) in zip(fields, CRON_FIELDS.items(), strict=True):
        valid = {str(number) for number in range(low, high + 1)} | set({"month": MONTHS, "weekday": WEEKDAYS}.get(name, ()))
        for part in written.lower().split(","):
            span, *steps = part.split("/")
            ends = [end.lstrip("0") or end[-1:] for end in span.split("-")]  # 05 is 5, and 00 is 0
            known = span == "*" or (len(ends) <= 2 and valid.issuperset(ends))
            if not known or len(steps) > 1 or not all(step.isascii() and step.isdigit() and int(step) for step in steps):
                raise ValueError(f"{part!r} in {text!r} is no {name}: write *, or {low} to {high}, as in 1,5 or 1-5 or */2")
    return text


def _timezone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder of zones
        raise ValueError(f"there is no timezone {name!r}; {nearest(name, zoneinfo.available_timezones())}") from None
    return name


T = TypeVar("T")
Slug = Annotated[str, AfterValidator(_slug)]
Once = Annotated[list[T], AfterValidator(_once)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Base of every section: unknown keys are mistakes, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Run(Section):
    """What holds for the whole run."""

    seed: int = Field(default=0, ge=0)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    workers: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    threads: Count = (
        1  # of torch and BLAS, in each stage; fixed here because the order of sums, and so the last bit, depends on it
    )

    @property
    def decoding_workers(self) -> int:
        """Return how many threads decode images, "auto" being one for each core of this process; no output depends on it."""
        if self.workers != "auto":
            return self.workers
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class DatasetEntry(BaseModel):
    """One dataset: its kind, and the options of that kind, which the kind's own module validates."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: str

    @property
    def options(self) -> dict[str, Any]:
        """Return everything but the kind."""
        return dict(self.model_extra or {})


class Datasets(Section):
    """Datasets in two groups, because DVC watches `path` in the second and knows no optional dependency."""

    packaged: dict[Slug, DatasetEntry] = {}
    files: dict[Slug, DatasetEntry] = {}


class Ingest(Section):
    """Limits of ingest and the shares of the splits where the source brings none."""

    max_quarantine_fraction: float = Field(default=0.05, ge=0, le=1)
    max_pixels: Count = 50_000_000
    max_bytes: Count = 100_000_000
    shard_megabytes: Count = 128
    val_fraction: Fraction = 0.1
    test_fraction: Fraction = 0.2


class PretrainWeights(Section):
    """Weights trained here on one of the datasets."""

    pretrain: Slug


class FileWeights(Section):
    """Weights from a .safetensors or .pth file below data/raw/weights."""

    file: Path


def _weights_form(value: Any) -> str | None:
    """Return the tag of the form of `weights` that a value is in; as in `explain`, the user never wrote the capitals."""
    if isinstance(value, PretrainWeights) or (isinstance(value, dict) and list(value) == ["pretrain"]):
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
    layers: Annotated[Once[str], Field(min_length=1)] = ["pooled"]
    input_size: Annotated[int, Field(ge=8)] | None = None  # pixels, square
    mean: float | tuple[float, ...] | None = None
    std: float | tuple[float, ...] | None = None
    interpolation: Literal["bilinear", "bicubic", "nearest"] | None = None

    @property
    def head_layer(self) -> str:
        """Return the layer that a linear head is fitted on: `pooled` where it is kept, else the last one named."""
        return "pooled" if "pooled" in self.layers else self.layers[-1]


class Pretrain(Section):
    """Supervised training: AdamW, one-cycle learning rate, cross-entropy without label smoothing."""

    epochs: Count = 8
    batch_size: Count = 128
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)


class Extract(Section):
    """How features are computed and kept."""

    batch_size: Count = 256
    shard_images: Count = 4096  # images between two points from which a killed run resumes
    dtype: Literal["float32", "float16"] = "float32"


class Finetune(Section):
    """The ground truth of ranking: a linear head and full fine-tuning, on a small budget."""

    modes: Annotated[Once[Literal["linear", "full"]], Field(min_length=1)] = ["linear", "full"]
    seeds: Count = 2
    epochs: Count = 6
    batch_size: Count = 64
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    max_train: Count = 500
    linear_c: float = Field(default=1.0, gt=0)  # inverse penalty of the linear head


class Rank(Section):
    """Which transferability metrics are computed."""

    metrics: Annotated[Once[str], Field(min_length=1)]
    max_per_class: Count | None = None


class PrunePair(Section):
    """One source to prune for one target, seen through a surrogate trained on the whole source."""

    source: Slug
    target: Slug
    surrogate: Slug
    layer: str = "pooled"


class Prune(Section):
    """Pruning methods, and the grid of the proof that pre-trains again on what is kept."""

    pairs: Once[PrunePair] = []
    methods: Annotated[Once[str], Field(min_length=1)] = ["label_mapping", "feature_mapping", "random"]
    fractions: Annotated[Once[Fraction], Field(min_length=2)] = [0.2, 0.5]
    seeds: Count = 2
    tolerance: float = Field(default=0.01, ge=0)  # of downstream accuracy, for "as good as the full source"


class Probe(Section):
    """Learning curves of the heads on nested draws."""

    heads: Annotated[Once[str], Field(min_length=1)] = ["naive_bayes", "logistic"]
    layer: str = "pooled"
    seeds: Count = 5
    sizes: Annotated[Once[Count], Field(min_length=3)] | None = None  # None: a log grid up to all data
    c: float = Field(default=1.0, gt=0)
    epsilon: float = Field(default=0.01, gt=0)  # distance to a head's own asymptote that counts as reached


class Languages(Section):
    """The measured cross-lingual table: tasks, languages, target examples."""

    tasks: Annotated[Once[str], Field(min_length=1)]
    languages: Annotated[Once[str], Field(min_length=3)]
    shots: Once[Annotated[int, Field(ge=0)]] = [0, 10, 30, 100]
    seeds: Count = 2
    max_source: Count = 1000
    features: Once[str] = []
    goal: float = Field(default=0.8, gt=0, lt=1)  # the score that n_for_goal aims at


class Recommend(Section):
    """What the recommendations aim at."""

    metric: str = "logme"
    labels_at_hand: Count = 300


class Schedule(Section):
    """When `transferscope serve` runs the pipeline."""

    cron: Annotated[str, AfterValidator(_cron)] = "0 3 * * *"
    timezone: Annotated[str, AfterValidator(_timezone)] = "UTC"
    jobs: Count = 1


class Params(Section):
    """All of params.yaml."""

    run: Run = Run()
    datasets: Datasets
    targets: Annotated[Once[Slug], Field(min_length=1)]
    ingest: Ingest = Ingest()
    encoders: Annotated[dict[Slug, Encoder], Field(min_length=1)]
    pretrain: Pretrain = Pretrain()
    extract: Extract = Extract()
    finetune: Finetune = Finetune()
    rank: Rank
    prune: Prune = Prune()
    probe: Probe = Probe()
    languages: Languages
    recommend: Recommend = Recommend()
    schedule: Schedule = Schedule()

    @property
    def all_datasets(self) -> dict[str, DatasetEntry]:
        """Return the datasets of both groups by name."""
        return {**self.datasets.packaged, **self.datasets.files}

    def encoder(self, name: str) -> Encoder:
        """Return an encoder by name; raises InputProblem with the nearest names where there is none."""
        if name not in self.encoders:
            what = f"there is no encoder {name!r}; {nearest(name, self.encoders)}"
            raise InputProblem(what, where=f"{PARAMS_FILE}: encoders", next_step=EDIT)
        return self.encoders[name]

    @model_validator(mode="after")
    def _names_exist(self) -> Params:
        twice = set(self.datasets.packaged) & set(self.datasets.files)
        if twice:
            raise ValueError(f"datasets: {sorted(twice)[0]!r} is in both groups; rename one")
        for name, entry in self.datasets.packaged.items():
            if "path" in entry.options:
                raise ValueError(f"datasets.packaged.{name}: has a `path`; move it to datasets.files, where DVC watches it")
        for name, entry in self.datasets.files.items():
            if "path" not in entry.options:
                raise ValueError(f"datasets.files.{name}: needs `path`, the file or folder that DVC watches")
        known = self.all_datasets

        def expect(where: str, name: str, among: dict[str, Any]) -> None:
            if name not in among:
                raise ValueError(f"{where}: there is no {name!r}; {nearest(name, among)}")

        for index, target in enumerate(self.targets):
            expect(f"targets.{index}", target, known)
        for name, encoder in self.encoders.items():
            if isinstance(encoder.weights, PretrainWeights):
                expect(f"encoders.{name}.weights.pretrain", encoder.weights.pretrain, known)
        for index, pair in enumerate(self.prune.pairs):
            expect(f"prune.pairs.{index}.source", pair.source, known)
            expect(f"prune.pairs.{index}.target", pair.target, known)
            expect(f"prune.pairs.{index}.surrogate", pair.surrogate, self.encoders)
            surrogate = self.encoders[pair.surrogate]
            if surrogate.weights != PretrainWeights(pretrain=pair.source):
                raise ValueError(
                    f"prune.pairs.{index}.surrogate: {pair.surrogate!r} is not trained on {pair.source!r}; "
                    f"give it `weights: {{pretrain: {pair.source}}}`"
                )
            if pair.layer not in surrogate.layers:
                raise ValueError(
                    f"prune.pairs.{index}.layer: {pair.surrogate!r} keeps no {pair.layer!r}; "
                    f"{nearest(pair.layer, surrogate.layers)}"
                )
        for name, encoder in self.encoders.items():
            if self.probe.layer not in encoder.layers:
                raise ValueError(
                    f"probe.layer: encoder {name!r} keeps no {self.probe.layer!r}; {nearest(self.probe.layer, encoder.layers)}"
                )
        if self.recommend.metric not in self.rank.metrics:
            raise ValueError(
                f"recommend.metric: {self.recommend.metric!r} is not computed; "
                f"{nearest(self.recommend.metric, self.rank.metrics)}"
            )
        return self


def explain(error: ValidationError, model: type[BaseModel], prefix: tuple[str, ...] = ()) -> str:
    """Turn pydantic's first complaint into one sentence: where, what, and the nearest valid choices."""
    first = error.errors()[0]
    location = (*prefix, *(str(part) for part in first["loc"]))
    # Union members leave their class name in the location; the user never wrote it.
    shown = ".".join(part for part in location if not part[:1].isupper() and "[" not in part and "constrained" not in part)
    if first["type"] == "extra_forbidden":
        owner: Any = model
        for part in first["loc"][:-1]:
            owner = _field_model(owner, str(part))
        fields = set(owner.model_fields) if owner is not None else set()
        return f"{shown}: there is no such key; {nearest(str(first['loc'][-1]), fields)}"
    if first["type"] == "literal_error":
        wrong, expected = str(first["input"]), str(first["ctx"]["expected"])
        close = difflib.get_close_matches(wrong, re.findall(r"'([^']+)'", expected), n=1)
        return f"{shown}: {wrong!r} is not one of {expected}" + (f"; did you mean {close[0]!r}?" if close else "")
    if first["type"] == "weights_form":
        return f"{shown}: {first['input']!r} {first['msg']}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{shown}: {message}" if shown and not message.startswith(shown) else message


def _field_model(owner: Any, part: str) -> Any:
    """Return the model class of field `part` of `owner`, or of the values when `owner` is a mapping's value model."""
    if owner is None or not hasattr(owner, "model_fields"):
        return owner
    field = owner.model_fields.get(part)
    if field is None:
        return owner
    candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def load(path: Path = PARAMS_FILE) -> Params:
    """Read and validate params.yaml.

    Raises:
        InputProblem: the file is absent, is not YAML, or says something invalid; one message, the first mistake.
    """
    next_step = f"edit {path}, then `transferscope check`"
    if not path.is_file():
        raise InputProblem("does not exist", where=str(path), next_step="run this in the project's folder")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputProblem(f"is not YAML: {error}", where=str(path), next_step=next_step) from None
    if not isinstance(content, dict):
        raise InputProblem("is empty, or not a mapping", where=str(path), next_step=next_step)
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise InputProblem(explain(error, Params), where=str(path), next_step=next_step) from None
