"""params.yaml as typed, validated models: one section per stage, every mistake named with its nearest valid choice."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, model_validator

from stages.errors import InputProblem, nearest
from stages.params.answers import AUTO, Recommend, Schedule
from stages.params.data import DatasetEntry, Datasets, Ingest
from stages.params.encoders import Encoder, Extract, FileWeights, Finetune, Pretrain, PretrainWeights
from stages.params.explain import explain
from stages.params.given import GivenFeatures
from stages.params.languages import Languages
from stages.params.probe import Probe, Simulation
from stages.params.prune import Combination, Prune, PrunePair
from stages.params.rank import Rank
from stages.params.run import Run
from stages.params.section import EDIT, PARAMS_FILE, Count, Once, Section, Slug

__all__ = [
    "EDIT",
    "PARAMS_FILE",
    "Combination",
    "Count",
    "DatasetEntry",
    "Datasets",
    "Encoder",
    "Extract",
    "FileWeights",
    "Finetune",
    "GivenFeatures",
    "Ingest",
    "Languages",
    "Params",
    "Pretrain",
    "PretrainWeights",
    "Probe",
    "Prune",
    "PrunePair",
    "Rank",
    "Recommend",
    "Run",
    "Schedule",
    "Section",
    "Simulation",
    "explain",
    "load",
    "merged",
    "parse",
]


class Params(Section):
    """All of params.yaml."""

    run: Run = Run()
    datasets: Datasets
    targets: Annotated[Once[Slug], Field(min_length=1)]
    ingest: Ingest = Ingest()
    encoders: dict[Slug, Encoder]
    features: dict[Slug, GivenFeatures] = {}
    pretrain: Pretrain = Pretrain()
    extract: Extract = Extract()
    finetune: Finetune = Finetune()
    rank: Rank
    prune: Prune = Prune()
    probe: Probe = Probe()
    simulation: Simulation = Simulation()
    languages: Languages
    recommend: Recommend = Recommend()
    schedule: Schedule = Schedule()
    profiles: dict[Slug, dict[str, Any]] = {}

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

    @property
    def candidates(self) -> dict[str, Encoder | GivenFeatures]:
        """Return everything that has features, by name: the encoders, then the features computed elsewhere."""
        return {**self.encoders, **self.features}

    def candidate(self, name: str) -> Encoder | GivenFeatures:
        """Return one of the candidates by name; raises InputProblem with the nearest names where there is none."""
        if name not in self.candidates:
            what = f"there is no encoder {name!r}; {nearest(name, self.candidates)}"
            raise InputProblem(what, where=f"{PARAMS_FILE}: encoders", next_step=EDIT)
        return self.candidates[name]

    def datasets_of(self, name: str) -> list[str]:
        """Return the datasets whose features a candidate needs: every target, and the pairs it is a pruning surrogate for."""
        pairs = [pair for pair in self.prune.pairs if pair.surrogate == name]
        return list(dict.fromkeys([*self.targets, *(side for pair in pairs for side in (pair.source, pair.target))]))

    @property
    def trained_pairs(self) -> list[PrunePair]:
        """Return the pruning pairs that have a network to train for the proof: features computed elsewhere are none."""
        return [pair for pair in self.prune.pairs if (pair.encoder or pair.surrogate) in self.encoders]

    @model_validator(mode="after")
    def _names_exist(self) -> Params:
        if not self.candidates:
            raise ValueError("encoders: is empty, and so is features; name one encoder, or features computed elsewhere")
        both = set(self.encoders) & set(self.features)
        if both:
            raise ValueError(f"features.{sorted(both)[0]}: is an encoder's name already; choose another")
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
            expect(f"prune.pairs.{index}.surrogate", pair.surrogate, self.candidates)
            surrogate = self.candidates[pair.surrogate]
            weights = surrogate.weights if isinstance(surrogate, Encoder) else None
            if weights == "random" or (isinstance(weights, PretrainWeights) and weights.pretrain != pair.source):
                raise ValueError(
                    f"prune.pairs.{index}.surrogate: {pair.surrogate!r} is not trained on {pair.source!r}; "
                    f"give it `weights: {{pretrain: {pair.source}}}`"
                )
            if pair.encoder is not None:
                expect(f"prune.pairs.{index}.encoder", pair.encoder, self.encoders)
            if pair.layer not in surrogate.layers:
                raise ValueError(
                    f"prune.pairs.{index}.layer: {pair.surrogate!r} keeps no {pair.layer!r}; "
                    f"{nearest(pair.layer, surrogate.layers)}"
                )
        for name in self.prune.combine:
            if name in known:
                raise ValueError(f"prune.combine.{name}: is a dataset's name already; choose another")
        for name, candidate in self.candidates.items():
            if self.probe.layer not in candidate.layers:
                raise ValueError(
                    f"probe.layer: encoder {name!r} keeps no {self.probe.layer!r}; "
                    f"{nearest(self.probe.layer, candidate.layers)}"
                )
        if self.recommend.metric not in (AUTO, *self.rank.metrics):
            raise ValueError(
                f"recommend.metric: {self.recommend.metric!r} is not computed; "
                f"{nearest(self.recommend.metric, [AUTO, *self.rank.metrics])}"
            )
        if not self.finetune.modes and self.rank.accuracies is None:
            raise ValueError("finetune.modes: is empty, and rank.accuracies names no accuracies that are known; give one")
        return self


def load(path: Path = PARAMS_FILE) -> Params:
    """Read and validate params.yaml.

    Raises:
        InputProblem: the file is absent, is not YAML, or says something invalid; one message, the first mistake.
    """
    if not path.is_file():
        raise InputProblem("does not exist", where=str(path), next_step="run this in the project's folder")
    return parse(path.read_text(encoding="utf-8"), str(path))


def parse(text: str, where: str) -> Params:
    """Validate the text of a params.yaml, its profiles included; `where` names it in messages.

    Raises:
        InputProblem: as `load`.
    """
    next_step = f"edit {where}, then `transferscope check`"
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputProblem(f"is not YAML: {error}", where=where, next_step=next_step) from None
    if not isinstance(content, dict):
        raise InputProblem("is empty, or not a mapping", where=where, next_step=next_step)
    loaded = _validated(content, where, next_step)
    for name, changes in loaded.profiles.items():  # a mistake in one is named now, not when an hour's run asks for it
        _validated(merged(content, changes), f"{where}, profile {name}", next_step)
    return loaded


def merged(content: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return `content` with `changes` over it, key by key; lists and values are replaced whole."""
    both = {
        key: merged(content[key], value) if isinstance(value, dict) and isinstance(content.get(key), dict) else value
        for key, value in changes.items()
    }
    return {**content, **both}


def _validated(content: dict[str, Any], where: str, next_step: str) -> Params:
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise InputProblem(explain(error, Params), where=where, next_step=next_step) from None
