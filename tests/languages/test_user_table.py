"""The user's own transfer table: what is taken and how it is brought to one form, what is nulled, what is refused and where."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from stages import check, params, transfer
from stages.artifacts import tables
from stages.errors import InputProblem
from stages.languages import PAIR_FEATURES, codes, mix
from stages.languages.features import with_features
from stages.languages.intake import accept
from stages.languages.names import code_of

LANGUAGES = ["en", "es", "hi", "sw", "ta"]


def table(**columns: list[object]) -> pl.DataFrame:
    """All ordered pairs of five languages, with columns replaced or added."""
    pairs = [(s, t) for s in LANGUAGES for t in LANGUAGES if s != t]
    base: dict[str, list[object]] = {
        "task": ["ner"] * 20, "source": [s for s, _ in pairs], "target": [t for _, t in pairs], "n_target": [0] * 20,
        "score": [0.3 + 0.01 * i for i in range(20)], "metric": ["f1"] * 20,
    }  # fmt: skip
    return pl.DataFrame({**base, **columns})


def refused(raw: pl.DataFrame) -> str:
    with pytest.raises(InputProblem) as caught:
        accept(raw, "mine.csv")
    return str(caught.value)


def test_a_clean_table_is_taken_as_it_is() -> None:
    found = accept(table(len_ratio=[i / 20 for i in range(20)]), "mine.csv")
    assert found.notes == []
    assert found.pairs.height == 20
    assert found.pairs.filter(pl.col("source") == "en", pl.col("target") == "es").row(0, named=True) == {
        "task": "ner", "source": "en", "target": "es", "n_shots": 0, "seed": 0, "score": 0.3, "metric": "f1",
        "n_source": None, "n_target": None, "len_ratio": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("deu", "de"), ("ger", "de"), ("DE", "de"), ("de-AT", "de"), (" German ", "de"), ("iw", "he"), ("cmn", "zh"),
        ("zh_Hans_CN", "zh"), ("Chinese (Simplified)", "zh"), ("Farsi", "fa"), ("swh", "sw"), ("no", "no"), ("nob", "nb"),
        ("tl", "fil"), ("ckb", "ckb"), ("Tamil", "ta"), ("uzb", "uz"),
        ("xx", None), ("und", None), ("klingonish", None), ("", None),
    ],
)  # fmt: skip
def test_languages_by_any_of_their_codes_and_names(written: str, code: str | None) -> None:
    assert code_of(written) == code


def test_two_and_three_letters_name_one_language() -> None:
    pairs = json.loads((codes.uriel_data() / "letter_codes.json").read_text(encoding="utf-8"))
    assert len(pairs) > 180
    assert [two for two, three in pairs.items() if code_of(two) is None or code_of(two) != code_of(three)] == []


def test_aliases_are_counted() -> None:
    renamed = {"en": "eng", "es": "Spanish", "hi": "hi", "sw": "swh", "ta": "ta"}
    raw = table().with_columns(pl.col("source", "target").replace(renamed))
    found = accept(raw, "mine.csv")
    assert found.pairs.equals(accept(table(), "mine.csv").pairs)
    assert found.notes == ["languages written in another way: Spanish is es, eng is en, swh is sw"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"target": ["Spansh"] * 20}, ["mine.csv, row 1, column target: there is no language 'Spansh'", "spanish"]),
        ({"source": ["en"] * 6 + ["zz"] * 14}, ["row 7, column source: there is no language 'zz'; nearest valid:"]),
        ({"score": [0.5] * 3 + [1.2] + [0.4] * 16}, ["row 4, column score: 1.2 is outside 0 to 1, in 1 rows"]),
        ({"score": [50.0 + i for i in range(20)]}, ["row 1, column score: 50 is outside", "in percent by 100"]),
        ({"score": ["0.5"] * 8 + ["high"] + ["0.4"] * 11}, ["row 9, column score: 'high' is no number"]),
        ({"score": [None] * 20}, ["column score: holds no score"]),
        ({"metric": ["f1"] * 10 + ["em"] * 10}, ["row 11, column metric: task 'ner' is scored by 'em' here and by 'f1'"]),
        ({"metric": ["f1"] * 19 + [None]}, ["row 20, column metric: is empty"]),
        ({"task": [" "] + ["ner"] * 19}, ["row 1, column task: is empty"]),
        ({"n_target": [0] * 5 + [-1] + [0] * 14}, ["row 6, column n_target: -1 is no whole number from 0 up"]),
        ({"n_target": [0] * 5 + [None] + [0] * 14}, ["row 6, column n_target: is empty", "write 0"]),
        ({"seed": [0.5] * 20}, ["row 1, column seed: 0.5 is no whole number"]),
        ({"source": ["en:10+fr"] + ["en"] * 19}, ["row 1, column source: 'en:10+fr' gives examples for some of"]),
        ({"source": ['{"en": "many"}'] + ["en"] * 19}, ["row 1, column source:", "many is no number of examples"]),
        ({"source": ['{"en"'] + ["en"] * 19}, ["row 1, column source:", "is not JSON"]),
        ({"source": ['{"en": 0}'] + ["en"] * 19}, ["row 1, column source:", "gives no language any example"]),
        ({"source": ["en:10+eng:5"] + ["en"] * 19}, ["row 1, column source: 'en:10+eng:5' names 'en' twice"]),
        (
            {"source": ["fr:10+es:5"] + ["en"] * 19, "target": ["es"] + ["hi"] * 19, "n_target": [7] + [0] * 19},
            ["row 1, column n_target: says 7 target examples, the source says 5"],
        ),
        ({"x_distance": ["far"] * 20, "n_target": ["a"] * 20}, ["row 1, column n_target: 'a' is no number"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_row_and_column(changes: dict[str, list[object]], said: list[str]) -> None:
    message = refused(table(**changes))
    for part in said:
        assert part in message
    assert "Next: " in message


@pytest.mark.parametrize("column", ["task", "source", "target", "score"])
def test_a_missing_column_is_named_beside_those_there_are(column: str) -> None:
    assert f"mine.csv: has no column {column!r}; its columns: " in refused(table().drop(column))


def test_repeated_rows_are_counted_and_contradictions_refused() -> None:
    raw = table()
    found = accept(pl.concat([raw, raw.head(3)]), "mine.csv")
    assert found.pairs.equals(accept(raw, "mine.csv").pairs)
    assert found.notes == ["3 rows that repeat another one left out"]
    other = raw.head(1).with_columns(score=pl.lit(0.9))
    assert "mine.csv, row 21, column score: gives what row 1 gives" in refused(pl.concat([raw, other]))
    runs = pl.concat([raw.with_columns(seed=pl.lit(0)), other.with_columns(seed=pl.lit(1))])
    assert accept(runs, "mine.csv").pairs.height == 21


def test_rows_without_a_score_and_columns_of_text_are_left_out_and_counted() -> None:
    found = accept(table(score=[None, float("nan")] + [0.5] * 18, model=["x"] * 20), "mine.csv")
    assert found.pairs.height == 18
    assert found.notes == ["2 rows without a score left out", "columns that hold no numbers left out: model"]


def test_placeholders_of_published_distance_tables_become_null_with_a_count() -> None:
    raw = table()
    pairs = list(raw.select("source", "target").iter_rows())
    distances = [0.1 + 0.01 * i for i in range(20)]
    syntax = [1.0 if "ta" in pair else value for pair, value in zip(pairs, distances, strict=True)]
    one_zero = [0.0 if pair == ("en", "es") else value for pair, value in zip(pairs, distances, strict=True)]
    negative = [-1.0 if "sw" in pair else value for pair, value in zip(pairs, distances, strict=True)]
    script = [float("ta" not in pair) for pair in pairs]
    found = accept(
        raw.with_columns(
            syntax_distance=pl.Series(syntax), near_distance=pl.Series(one_zero), lost_distance=pl.Series(negative),
            genetic_distance=pl.Series(syntax), same_script=pl.Series(script), useless=pl.lit(0), year=pl.lit(2024),
            endless=pl.Series([float("inf")] + [0.5] * 18 + [0.6]),
        ),
        "mine.csv",
    )  # fmt: skip
    nulls = {name: count for name, count in found.pairs.null_count().row(0, named=True).items() if count}
    assert nulls == {"n_source": 20, "n_target": 20, "syntax_distance": 8, "lost_distance": 8, "endless": 1}
    assert "useless" not in found.pairs.columns
    assert set(found.pairs["year"]) == {2024.0}
    assert found.notes == [
        "lost_distance: 8 placeholders made null",
        "syntax_distance: 8 placeholders made null, of ta, en, es",
        "useless: 0 in all 20 rows tells nothing, left out",
    ]


@pytest.mark.parametrize(
    "written", ['{"sw": 50, "en": 1000, "hi": 0}', "en:1000+sw:50", " sw:50; en:1000", "en:1000,sw:50"]
)  # fmt: skip
def test_a_mix_by_any_of_its_forms(written: str) -> None:
    assert mix.write(mix.parse(written)) == "en:1000+sw:50"
    assert mix.shares("en:1000+sw:50") == pytest.approx({"en": 20 / 21, "sw": 1 / 21})
    assert mix.languages("en:1000+sw:50") == ["en", "sw"]


def test_what_a_mix_has_of_the_target_are_target_examples() -> None:
    mixture = {"en": 1000, "es": 30}
    raw = pl.DataFrame({"task": "ner", "source": [mixture] * 3, "target": ["es", "en", "hi"], "score": [0.7, 0.8, 0.4]})
    found = accept(raw, "mine.parquet").pairs.select("target", "source", "n_shots", "n_source").rows()
    assert sorted(found) == [("en", "es", 1000, 30), ("es", "en", 30, 1000), ("hi", "en:1000+es:30", 0, 1030)]


def test_a_target_trained_on_itself_alone_is_its_own_source() -> None:
    raw = pl.DataFrame(
        {"task": "ner", "source": ["es:30", "es:300", "es"], "target": ["es", "es", "hi"], "score": [0.5, 0.6, 0.2]}
    )
    found = accept(raw, "mine.csv").pairs.select("source", "target", "n_shots").rows()
    assert found == [("es", "es", 30), ("es", "es", 300), ("es", "hi", 0)]


def test_a_source_with_several_sizes_is_named_with_its_size() -> None:
    raw = pl.DataFrame(
        {"task": ["a", "a", "b"], "source": ["en:10", "en:100", "en:10"], "target": ["es"] * 3, "score": [0.1, 0.2, 0.3]}
    )
    assert accept(raw, "mine.csv").pairs["source"].to_list() == ["en:10", "en:100", "en"]


def test_features_of_a_mix_are_means_weighted_by_examples() -> None:
    raw = pl.DataFrame({
        "task": "ner", "source": ["en:300+hi:100", "en", "hi", "en:1+tok:1"], "target": ["es"] * 4,
        "score": [0.1, 0.2, 0.3, 0.4], "syntax_distance": [0.9, 0.8, 0.7, 0.6],
    })  # fmt: skip
    features = {name: PAIR_FEATURES[name] for name in ("syntax_distance", "geographic_distance", "word_overlap")}
    found = with_features(accept(raw, "mine.csv").pairs, features, {})
    at = dict(found.select("source", "geographic_distance").iter_rows())
    assert at["en:300+hi:100"] == pytest.approx(0.75 * at["en"] + 0.25 * at["hi"])
    assert at["en"] == pytest.approx(features["geographic_distance"]("en", "es", {}))
    assert at["en:1+tok:1"] == pytest.approx(at["en"]), "Toki Pona is spoken nowhere: it has no part in the mean"
    assert sorted(found["syntax_distance"]) == [0.6, 0.7, 0.8, 0.9], "the user's own column stays"
    assert "word_overlap" not in found.columns, "no texts were given"
    texts = {"en": ("house cat",), "es": ("casa cat",), "hi": ("ghar",)}
    with_texts = with_features(accept(raw, "mine.csv").pairs, features, texts)
    assert dict(with_texts.select("source", "word_overlap").iter_rows())["en:300+hi:100"] == pytest.approx(0.75 / 3)


def test_a_table_stands_alone_or_joins_the_measured_tasks(
    project: Path, write_params: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = project / "data" / "raw" / "languages"
    folder.mkdir()
    table(source=[*table()["source"][:-1], "tam"]).write_csv(folder / "mine.csv")
    pl.DataFrame({"language": ["eng", "es", "es"], "text": ["The Cat", "El cat", "casa"]}).write_csv(folder / "texts.csv")
    here = {"table": "data/raw/languages/mine.csv", "texts": "data/raw/languages/texts.csv"}
    alone = params.load(write_params(languages={**here, "tasks": [], "languages": ["en", "es", "pt"]}))
    check.check(alone)
    transfer.main(alone)
    found = tables.load("language_pairs")
    assert found.height == 20
    assert found["syntax_distance"].null_count() == 0
    assert found.filter(pl.col("source") == "en", pl.col("target") == "es")["word_overlap"].item() == pytest.approx(1 / 4)
    said = capsys.readouterr().out
    assert "mine.csv: languages written in another way: tam is ta" in said
    assert "syntax_distance 100%" in said
    section = {**here, "tasks": ["entity_type"], "languages": ["en", "es", "pt"], "shots": [0], "seeds": 1}
    transfer.main(params.load(write_params(languages=section)))
    joined = tables.load("language_pairs")
    assert dict(joined.group_by("task").len().iter_rows()) == {"entity_type": 9, "ner": 20}
    assert set(joined["metric"]) == {"f1", "macro_f1"}


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"task,source\n1,2,3\n", "mine.csv", "mine.csv: cannot be read"),
        (b"not parquet", "mine.parquet", "mine.parquet: cannot be read"),
        (b"", "mine.csv", "mine.csv: cannot be read"),
        (b"x", "mine.xlsx", "mine.xlsx is no .csv and no .parquet"),
        (b"x", "../mine.csv", "is outside data/raw/languages"),
        (None, "mine.csv", "mine.csv does not exist; in data/raw/languages: nearest valid: mime.csv"),
        (table(task=["entity_type"] * 20).write_csv().encode(), "mine.csv", "column task: its task 'entity_type' has the name"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used(
    project: Path, write_params: Callable[..., Path], content: bytes | None, name: str, said: str
) -> None:
    folder = project / "data" / "raw" / "languages"
    folder.mkdir()
    (folder / "mime.csv").write_bytes(b"")
    if content is not None:
        (folder / name).write_bytes(content)
    section = {
        "table": f"data/raw/languages/{name}",
        "tasks": ["entity_type"],
        "languages": ["en", "es", "pt"],
        "seeds": 1,
        "shots": [0],
    }
    with pytest.raises(InputProblem) as caught:
        transfer.main(params.load(write_params(languages=section)))
    assert said in str(caught.value)


def test_texts_without_a_table_are_a_mistake_of_params(write_params: Callable[..., Path]) -> None:
    with pytest.raises(InputProblem, match="texts: belongs to a `table`"):
        params.load(write_params(languages={"tasks": ["entity_type"], "texts": "a.csv", "languages": ["en", "es", "pt"]}))


def test_norwegian_needs_no_quotes(project: Path, write_params: Callable[..., Path]) -> None:
    path = write_params()
    path.write_text(path.read_text().replace("- pt", "- no"))
    assert params.load(path).languages.languages == ["en", "es", "no"]
