"""Features for the pairs of a user's table: what URIEL knows, what texts say where they are given, the source's size."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from stages.languages import mix
from stages.languages.texts import PairFeature, Texts

LOG_EXAMPLES = "source_log_examples"  # log10(1 + examples of the source)
N_LANGUAGES = "n_source_languages"


def with_features(pairs: pl.DataFrame, features: Mapping[str, PairFeature], texts: Texts) -> pl.DataFrame:
    """Add the features that the table lacks, those of a mix as the mean of its languages weighted by their examples.

    A language of which a feature is unknown has no part in the mean. Features unknown for all pairs are left out, and so is
    what tells of the sources' sizes where it is always the same.
    """
    wanted = {name: feature for name, feature in features.items() if name not in pairs.columns}
    asked = pairs.select("source", "target").unique(maintain_order=True)
    of_source = {source: mix.shares(source) for source in asked["source"].unique()}
    long = pl.DataFrame(
        [(source, language, share) for source, parts in of_source.items() for language, share in parts.items()],
        schema={"source": pl.String, "language": pl.String, "share": pl.Float64},
        orient="row",
    )
    members = asked.join(long, on="source")
    single = members.select("language", "target").unique().sort("language", "target")
    values = {
        name: pl.Series(name, [feature(one, other, texts) for one, other in single.iter_rows()], dtype=pl.Float64)
        for name, feature in wanted.items()
    }
    known = single.with_columns(*(column for column in values.values() if column.null_count() < len(column)))
    names = [name for name in wanted if name in known.columns]
    means = (
        members.join(known, on=["language", "target"], how="left")
        .group_by("source", "target")
        .agg(
            ((pl.col(name) * pl.col("share")).sum() / pl.col("share").filter(pl.col(name).is_not_null()).sum()).fill_nan(None)
            for name in names
        )
    )
    sizes = pl.DataFrame({"source": list(of_source), N_LANGUAGES: [float(len(parts)) for parts in of_source.values()]})
    table = pairs.join(means, on=["source", "target"], how="left").join(sizes, on="source", how="left")
    table = table.with_columns((1 + pl.col("n_source").cast(pl.Float64)).log10().alias(LOG_EXAMPLES))
    constant = [name for name in (N_LANGUAGES, LOG_EXAMPLES) if table[name].drop_nulls().n_unique() < 2]
    return table.drop(constant).sort("task", "source", "target", "n_shots", "seed")


def coverage(pairs: pl.DataFrame, features: Mapping[str, PairFeature]) -> dict[str, float]:
    """Return feature -> share of the pairs for which it is known."""
    present = [name for name in features if name in pairs.columns and not name.endswith("_coverage")]
    return {name: 1 - pairs[name].null_count() / max(pairs.height, 1) for name in present}
