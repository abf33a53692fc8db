"""Which image is for training and which for testing, and in which order the classes stand."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from stages.artifacts.dataset import SPLITS
from stages.errors import InputProblem

_HEX_DIGITS = 13  # 52 bits of the sha256: what a float holds exactly


def assign(rows: pl.DataFrame, *, val_fraction: float, test_fraction: float) -> pl.DataFrame:
    """Return `rows` (sha256, split) with no split missing: the source's own are kept, those it lacks come out of train.

    An image goes by the sha256 of its content alone. So it stays where it is when others are added or removed, and
    copies of one image never straddle two splits that were made here. With u the sha256 as a number in [0, 1):
    test below `test_fraction`, then val up to `test_fraction + val_fraction`, where these are to be made.

    Raises:
        InputProblem: the source names the splits of some images only, or has splits but no train.
    """
    own = set(rows["split"].drop_nulls().unique())
    if own and rows["split"].null_count():
        raise InputProblem(
            f"names a split for {rows['split'].count()} images and none for {rows['split'].null_count()}",
            next_step="give every image a split, or none",
        )
    if own and "train" not in own:
        raise InputProblem(f"has {' and '.join(sorted(own))} images and none for training", next_step="add a train split")
    u = pl.col("sha256").str.slice(0, _HEX_DIGITS).str.to_integer(base=16) / 16**_HEX_DIGITS
    to_test = 0.0 if "test" in own else test_fraction
    to_val = 0.0 if "val" in own else val_fraction
    made = pl.when(u < to_test).then(pl.lit("test")).when(u < to_test + to_val).then(pl.lit("val")).otherwise(pl.lit("train"))
    return rows.with_columns(split=pl.when(pl.col("split").fill_null("train") == "train").then(made).otherwise("split"))


def class_order(labels: Sequence[str], class_names: Sequence[str] | None) -> list[str]:
    """Return the labels that occur, in the source's own order where it has one; else numbers by value, text by letter."""
    present = set(labels)
    if class_names is not None and present <= set(class_names):
        return [name for name in dict.fromkeys(class_names) if name in present]
    if all(label.isdecimal() for label in present):
        return sorted(present, key=lambda label: (int(label), label))
    return sorted(present)


def counts(rows: pl.DataFrame) -> dict[str, int]:
    """Return images per split, and the copies: of one content under several splits or several labels."""
    found = dict(rows["split"].value_counts().iter_rows())
    copies = rows.group_by("sha256").agg(pl.col("split", "label").n_unique())
    return {
        **{split: int(found.get(split, 0)) for split in SPLITS},
        "contents_in_several_splits": copies.filter(pl.col("split") > 1).height,
        "contents_with_several_labels": copies.filter(pl.col("label") > 1).height,
    }
