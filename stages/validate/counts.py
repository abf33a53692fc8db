"""What params.yaml says of the result tables: how many rows, and which names in which columns."""

from __future__ import annotations

from typing import Any

import great_expectations.expectations as gxe

from stages.params import Params


def of_params(settings: Params) -> dict[str, list[Any]]:
    """Return, per table, the rows and names that params.yaml asks for. A table that it leaves empty has no entry."""
    encoders, targets = list(settings.candidates), settings.targets
    tapped = sum(len(candidate.layers) for candidate in settings.candidates.values())
    pairs = len(encoders) * len(targets)
    both = [_names("encoder", encoders), _names("target", targets)]
    probe, simulation, finetune = settings.probe, settings.simulation, settings.finetune
    found = {
        "transferability": [
            _rows(tapped * len(targets) * len(settings.rank.metrics)), *both, _names("metric", settings.rank.metrics),
        ],
        "probe_curves": [*both, _names("head", probe.heads), _names("seed", range(probe.seeds))],
        "probe_crossover": [_rows(pairs), *both],
        "probe_assumptions": [_rows(pairs), *both],
        "sample_complexity": [
            _names("k", simulation.classes), _names("n_dims", simulation.dims), _names("seed", range(simulation.seeds)),
        ],
    }  # fmt: skip
    # Of features computed elsewhere there is no encoder that could be tuned in full.
    tuned = {mode: settings.encoders if mode == "full" else settings.candidates for mode in finetune.modes}
    tuned = {mode: named for mode, named in tuned.items() if named}
    if tuned and settings.rank.accuracies is None:
        found["finetuned"] = [
            _rows(sum(map(len, tuned.values())) * len(targets) * finetune.seeds), _among("encoder", encoders),
            _names("target", targets), _names("mode", tuned), _names("seed", range(finetune.seeds)),
        ]  # fmt: skip
        found["agreement"] = [_names("target", targets), _among("metric", settings.rank.metrics)]
    if settings.prune.pairs:
        sources = sorted({pair.source for pair in settings.prune.pairs})
        ends = sorted({pair.target for pair in settings.prune.pairs})
        found["pruning_scores"] = [
            _names("source", sources), _names("target", [*ends, *settings.prune.combine]),
            _among("method", settings.prune.methods),  # those of single images have no rows of groups
        ]  # fmt: skip
    if settings.trained_pairs:
        found["pruning_outcomes"] = [
            _names("source", sorted({pair.source for pair in settings.trained_pairs})),
            _names("seed", range(settings.prune.seeds)), _names("mode", settings.prune.modes),
        ]  # fmt: skip
    if settings.languages.tasks:
        found["language_pairs"] = [
            gxe.ExpectColumnDistinctValuesToContainSet(column="task", value_set=list(settings.languages.tasks))
        ]
    return found


def _rows(count: int) -> Any:
    return gxe.ExpectTableRowCountToEqual(value=count)


def _names(column: str, names: Any) -> Any:
    return gxe.ExpectColumnDistinctValuesToEqualSet(column=column, value_set=list(names))


def _among(column: str, names: Any) -> Any:
    return gxe.ExpectColumnDistinctValuesToBeInSet(column=column, value_set=list(names))
