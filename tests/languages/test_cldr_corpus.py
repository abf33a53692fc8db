"""The corpus: labels that are facts, and splits that leak nothing."""

from __future__ import annotations

import polars as pl
import pytest

from stages.errors import InputProblem
from stages.languages import TASKS, cldr, known_languages, same_entity
from stages.languages.corpus import TEST_SHARE, gather, split

N_CLASSES = {"entity_type": 5, "territory_continent": 5, "same_entity": 2}
LANGUAGES = ["en", "es", "pt", "ru", "uk", "el", "hi"]


@pytest.fixture(scope="module", params=sorted(TASKS))
def task(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def examples_of(task: str) -> pl.DataFrame:
    return gather(TASKS[task], LANGUAGES)


def test_every_task_keeps_the_contract(task: str) -> None:
    found = TASKS[task]("es")
    assert found.schema == cldr.EXAMPLES
    assert found.equals(found.sort("entity", "text"))
    assert found.null_count().sum_horizontal().item() == 0
    assert not found.get_column("text").is_duplicated().any(), "one text would have two labels, or count twice"
    assert (found.get_column("text") == found.get_column("text").str.to_lowercase()).all()
    assert not found.get_column("text").str.contains(r"[()]").any()


@pytest.mark.parametrize("language", LANGUAGES)
def test_labels_are_balanced_enough_for_macro_f1(task: str, language: str) -> None:
    sizes = cldr.class_sizes(TASKS[task](language))
    assert len(sizes) == N_CLASSES[task]
    assert min(sizes.values()) >= 50
    assert max(sizes.values()) <= 0.55 * sum(sizes.values())


def test_a_name_that_two_types_share_is_left_out() -> None:
    found = cldr.entity_type("en")
    assert "arabic" in cldr.names("en")["language"].values()
    assert "arabic" in cldr.names("en")["script"].values()
    assert "arabic" not in found.get_column("text")
    labels = dict(found.select("entity", "label").iter_rows())
    assert labels["territory:FR"] == "territory"
    assert labels["currency:PLN"] == "currency"
    assert labels["unit:length-kilometer"] == "unit"


def test_pairs_are_right_or_wrong_about_one_couple_of_entities() -> None:
    found = same_entity.same_entity("de")
    german, english = cldr.names("de"), cldr.names("en")
    for entity, text, label in found.iter_rows():
        kind, both = entity.split(":")
        mine, its = text.split("\t")
        codes = both.split("+")
        assert mine in {german[kind][code] for code in codes}
        assert its in {english[kind][code] for code in codes}
        same = any(mine == german[kind][code] and its == english[kind][code] for code in codes)
        assert label == ("same" if same else "different")
    halves = found.get_column("label").value_counts()["count"].to_list()
    assert abs(halves[0] - halves[1]) <= 0.05 * found.height
    assert found.filter(pl.col("text") == "deutschland\tgermany")["label"].to_list() == ["same"]
    gaps = [abs(len(english[kind][a]) - len(english[kind][b])) for kind, a, b in map(_split, found["entity"].unique())]
    assert sum(gaps) / len(gaps) < 1, "length gives little away"
    of_english = same_entity.same_entity("en")
    assert of_english.filter(pl.col("text") == "germany\tallemagne")["label"].to_list() == ["same"]


def _split(entity: str) -> tuple[str, str, str]:
    kind, both = entity.split(":")
    one, other = both.split("+")
    return kind, one, other


def test_continents_are_those_of_the_atlas() -> None:
    home = cldr.continents()
    known = {
        "territory:FR": "europe", "territory:KE": "africa", "territory:BR": "america", "territory:JP": "asia",
        "territory:NZ": "oceania", "zone:America/Lima": "america", "currency:PLN": "europe", "currency:KES": "africa",
    }  # fmt: skip
    assert {entity: home[entity] for entity in known} == known
    assert "territory:RU" not in home, "its time zones lie on two continents"
    assert "territory:SC" not in home, "a zone named after an ocean tells no continent"


def test_no_test_entity_and_no_test_text_is_trained_on_in_any_language(task: str) -> None:
    parts = split(examples_of(task), run_seed=0, task=task, seed=0, max_train=300)
    train, test = (parts.filter(pl.col("part") == part) for part in ("train", "test"))
    assert not set(train["entity"]) & set(test["entity"])
    assert not set(train["text"]) & set(test["text"])
    sizes = train.group_by("language").len()
    assert sizes["len"].max() == 300
    assert sizes.height == len(LANGUAGES)
    share = parts.filter(pl.col("part") == "test").height / parts.height
    assert TEST_SHARE - 0.1 < share < TEST_SHARE + 0.05


def test_the_side_of_an_entity_does_not_depend_on_the_other_languages(task: str) -> None:
    few = split(gather(TASKS[task], ["es", "pt"]), run_seed=0, task=task, seed=1, max_train=10_000)
    many = split(examples_of(task), run_seed=0, task=task, seed=1, max_train=10_000)
    one = few.filter(pl.col("part").is_not_null()).select("entity", "part").unique()
    other = many.filter(pl.col("part").is_not_null()).select("entity", other="part").unique()
    both = one.join(other, on="entity")
    assert both.height > 500
    assert (both["part"] == both["other"]).all()


def test_splits_are_the_same_again_and_different_for_another_seed(task: str) -> None:
    examples = examples_of(task)
    once, again, other = (split(examples, run_seed=0, task=task, seed=seed, max_train=500) for seed in (0, 0, 1))
    assert once.equals(again)
    assert not once.equals(other)


def test_known_languages_all_give_every_task_its_classes() -> None:
    known = known_languages()
    assert len(known) > 80
    assert {"en", "es", "pt", "ru", "uk", "ja", "ar", "sw"} <= set(known)
    assert "tlh" not in known
    for language in known[::10]:
        for task in TASKS:
            assert len(cldr.class_sizes(TASKS[task](language))) == N_CLASSES[task]


def test_a_language_without_examples_is_named() -> None:
    with pytest.raises(InputProblem, match="no example in 'xx'"):
        gather(lambda language: pl.DataFrame(schema=cldr.EXAMPLES), ["xx"])
