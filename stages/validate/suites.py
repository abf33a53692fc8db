"""What is expected of datasets, weights, features, prunings and result tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import great_expectations.expectations as gxe
import numpy as np
import polars as pl

from stages.artifacts import tables
from stages.artifacts.dataset import SPLITS, Dataset
from stages.artifacts.features import FeatureSet
from stages.artifacts.pruning import Pruning
from stages.artifacts.weights import read_card, weights_path
from stages.params import Params
from stages.validate.counts import of_params
from stages.validate.expect import Suite

DATASET = "dataset "  # how the artifacts begin whose content is the user's
SHA256 = "^[0-9a-f]{64}$"
LOOKED_AT = 4096  # rows of a layer whose values are looked at, evenly spread: features may be larger than the disk is fast


def suites(settings: Params) -> Iterator[Suite]:
    """Yield the suite of every artifact that params.yaml asks for.

    Raises:
        InputProblem: an artifact is absent or damaged.
    """
    for name in settings.all_datasets:
        yield from _dataset(name, settings.ingest.max_quarantine_fraction)
    if settings.encoders:
        yield _weights(settings)
    for name, candidate in settings.candidates.items():
        for target in settings.targets:
            yield from _features(name, target, candidate.layers)
    for pair in settings.prune.pairs:
        yield _pruning(pair.source, pair.target, settings)
    counted = of_params(settings)
    for name, schema in tables.SCHEMAS.items():
        yield Suite(f"table {name}", tables.load(name), (*of_schema(schema), *counted.get(name, ())), tuple(schema.keys))


def _dataset(name: str, most: float) -> Iterator[Suite]:
    dataset = Dataset.open(name)
    read, left = dataset.rows, dataset.quarantine
    expected: tuple[Any, ...] = (
        gxe.ExpectColumnValuesToBeUnique(column="id"),
        gxe.ExpectColumnValuesToNotBeNull(column="label"),
        gxe.ExpectColumnValuesToBeInSet(column="split", value_set=list(SPLITS)),
        gxe.ExpectColumnDistinctValuesToContainSet(column="split", value_set=["train", "test"]),
        gxe.ExpectColumnDistinctValuesToEqualSet(column="class_index", value_set=list(range(len(dataset.classes)))),
        gxe.ExpectColumnDistinctValuesToEqualSet(column="label", value_set=dataset.classes),
        gxe.ExpectColumnValuesToMatchRegex(column="sha256", regex=SHA256),
        gxe.ExpectColumnValuesToBeBetween(column="width", min_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="height", min_value=1),
    )
    yield Suite(f"{DATASET}{name}", read, expected, ("id",))
    expected = (
        gxe.ExpectTableRowCountToBeBetween(max_value=int(most * (len(read) + len(left)))),
        gxe.ExpectColumnValuesToNotBeNull(column="reason"),
    )
    yield Suite(f"{DATASET}{name}, quarantine", left, expected, ("id",))


def _weights(settings: Params) -> Suite:
    rows = []
    for name, encoder in settings.encoders.items():
        card, path = read_card(name), weights_path(name)
        size = path.stat().st_size if path.is_file() else 0
        rows.append(
            (name, card.arch, encoder.arch, card.sha256, size, min(card.std), len(card.classes) in (0, card.num_classes))
        )
    columns = ["encoder", "arch", "arch in params.yaml", "sha256", "bytes", "least std", "a name for each class"]
    expected = (
        gxe.ExpectColumnDistinctValuesToEqualSet(column="encoder", value_set=list(settings.encoders)),
        gxe.ExpectColumnPairValuesToBeEqual(column_A="arch", column_B="arch in params.yaml"),
        gxe.ExpectColumnValuesToMatchRegex(column="sha256", regex=SHA256),
        gxe.ExpectColumnValuesToBeBetween(column="bytes", min_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="least std", min_value=0, strict_min=True),
        gxe.ExpectColumnValuesToBeInSet(column="a name for each class", value_set=[True]),
    )
    return Suite("weights", pl.DataFrame(rows, schema=columns, orient="row"), expected, ("encoder",))


def _features(encoder: str, target: str, layers: list[str]) -> Iterator[Suite]:
    features, rows = FeatureSet.open(encoder, target), Dataset.open(target).rows
    index = pl.concat(
        [features.index, rows.select(pl.col("id", "split", "class_index").name.prefix("dataset "))], how="horizontal"
    )
    same = [gxe.ExpectColumnPairValuesToBeEqual(column_A=name, column_B=f"dataset {name}") for name in features.index.columns]
    yield Suite(f"features {encoder} on {target}", index, (gxe.ExpectColumnValuesToBeUnique(column="id"), *same), ("id",))
    facts = pl.DataFrame([_statistics(layer, features.layer(layer)) for layer in features.layers])
    expected: tuple[Any, ...] = (
        gxe.ExpectColumnDistinctValuesToEqualSet(column="layer", value_set=layers),
        gxe.ExpectColumnValuesToBeInSet(column="rows", value_set=[len(rows)]),
        gxe.ExpectColumnValuesToBeBetween(column="dimensions", min_value=1),
        gxe.ExpectColumnValuesToBeInSet(column="not finite", value_set=[0]),
        gxe.ExpectColumnValuesToBeBetween(column="dimensions that vary", min_value=1),
    )
    yield Suite(f"layers of {encoder} on {target}", facts, expected, ("layer",))
    probabilities = features.mapped_probabilities
    if probabilities is not None and features.source_classes is not None:
        looked = np.asarray(probabilities[_spread(len(probabilities))], dtype=np.float64)
        sums = pl.DataFrame({"id": features.index["id"].gather(_spread(len(probabilities))), "sum": looked.sum(axis=1)})
        sums = sums.with_columns(columns=pl.lit(probabilities.shape[1]), least=pl.Series(looked.min(axis=1)))
        half = 2.0**-10 * max(1, probabilities.shape[1]) ** 0.5  # float16 rounds each of them
        expected = (
            gxe.ExpectColumnValuesToBeInSet(column="columns", value_set=[len(features.source_classes)]),
            gxe.ExpectColumnValuesToBeBetween(column="sum", min_value=1 - half, max_value=1 + half),
            gxe.ExpectColumnValuesToBeBetween(column="least", min_value=0),
        )
        yield Suite(f"source probabilities of {encoder} on {target}", sums, expected, ("id",))


def _spread(count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.unique(np.linspace(0, count - 1, min(count, LOOKED_AT)).astype(np.int64))


def _statistics(layer: str, values: np.ndarray[Any, Any]) -> dict[str, object]:
    looked = np.asarray(values[_spread(len(values))], dtype=np.float64)
    return {
        "layer": layer,
        "rows": len(values),
        "dimensions": values.shape[1],
        "not finite": int((~np.isfinite(looked)).sum()),
        "dimensions that vary": int((np.ptp(looked, axis=0) > 0).sum()),
    }


def _pruning(source: str, target: str, settings: Params) -> Suite:
    """Look at what each method keeps: images of the source's training split, each once, more at a larger share."""
    known = Dataset.open(source).rows.filter(pl.col("split") == "train").select("id")
    rows = []
    for method in settings.prune.methods:
        pruning = Pruning.open(source, target, method)
        for draw in range(pruning.facts["draws"]):
            for fraction in pruning.fractions:
                kept = pruning.kept(fraction, draw).select("id")
                rows.append((method, fraction, draw, len(kept), kept.join(known, on="id", how="anti").height,
                             len(kept) - kept.n_unique()))  # fmt: skip
    columns = ["method", "keep_fraction", "draw", "images", "not in the source", "twice"]
    frame = pl.DataFrame(rows, schema=columns, orient="row")
    less = pl.col("images").shift(1).over("method", "draw", order_by="keep_fraction").fill_null(0)
    frame = frame.with_columns(less.alias("images at the next smaller share"))
    expected = (
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["method", "keep_fraction", "draw"]),
        gxe.ExpectColumnDistinctValuesToEqualSet(column="method", value_set=settings.prune.methods),
        gxe.ExpectColumnDistinctValuesToEqualSet(column="keep_fraction", value_set=sorted(settings.prune.fractions)),
        gxe.ExpectColumnValuesToBeInSet(column="not in the source", value_set=[0]),
        gxe.ExpectColumnValuesToBeInSet(column="twice", value_set=[0]),
        gxe.ExpectColumnValuesToBeBetween(column="images", min_value=1, max_value=len(known)),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(
            column_A="images", column_B="images at the next smaller share", or_equal=True
        ),
    )
    return Suite(f"pruning {source} for {target}", frame, expected, ("method", "keep_fraction", "draw"))


def of_schema(schema: tables.Schema) -> list[Any]:
    """Return what a table's schema says of its rows: unique keys, rows at all, columns, null policy, ranges."""
    keys = list(schema.keys)
    unique = gxe.ExpectCompoundColumnsToBeUnique(column_list=keys) if len(keys) > 1 else (
        gxe.ExpectColumnValuesToBeUnique(column=keys[0]))  # fmt: skip
    expected: list[Any] = [unique]
    if not schema.may_be_empty:
        expected.append(gxe.ExpectTableRowCountToBeBetween(min_value=1))
    for name, column in schema.columns.items():
        expected.append(gxe.ExpectColumnToExist(column=name))
        if not column.nullable:
            expected.append(gxe.ExpectColumnValuesToNotBeNull(column=name))
        if column.low is not None or column.high is not None:
            expected.append(gxe.ExpectColumnValuesToBeBetween(column=name, min_value=column.low, max_value=column.high))
    return expected
