"""Tables that the user brings: what is read, and every mistake named with its row and column."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from stages.artifacts.accuracies import FOLDER, accuracy_file, read_accuracies, read_scores
from stages.errors import InputProblem

GOOD = "encoder,dataset,accuracy,notes\nresnet50,cars, 0.91 ,mine\nvit_base,cars,0.875,\nresnet50,pets,1,\n"


def accuracies(path: Path) -> pl.DataFrame:
    return read_accuracies(path, {"resnet50", "vit_base"}, {"cars", "pets"}, "params.yaml")


def write(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "mine.csv"
    path.write_text(content, encoding="utf-8")
    return path


def test_csv_and_parquet_say_the_same(tmp_path: Path) -> None:
    found = accuracies(write(tmp_path, GOOD))
    assert found.rows() == [("resnet50", "cars", 0.91), ("resnet50", "pets", 1.0), ("vit_base", "cars", 0.875)]
    parquet = tmp_path / "mine.parquet"
    found.reverse().write_parquet(parquet)
    assert accuracies(parquet).equals(found)
    assert accuracies(write(tmp_path, "\ufeff" + GOOD.replace("\n", "\r\n"))).equals(found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD.replace("vit_base", "vit_bsae"), r"mine.csv: line 3, column encoder: there is no encoder 'vit_bsae'.*vit_base"),
        (GOOD.replace("pets", "pest"), "line 4, column dataset: there is no dataset 'pest' in params.yaml; .*pets"),
        (GOOD.replace("0.875", "87.5"), "line 3, column accuracy: 87.5 is a percentage; .* 0 to 1\nNext: write 0.875"),
        (GOOD.replace("0.875", "87.5%"), "line 3, column accuracy: 87.5% is a percentage"),
        (GOOD.replace("0.875", "0.9%"), "line 3, column accuracy: 0.9% is a percentage.*\nNext: write 0.009"),
        (GOOD.replace("0.875", "-0.1"), "line 3, column accuracy: -0.1 is not from 0 to 1"),
        (GOOD.replace("0.875", "875"), "line 3, column accuracy: 875 is not from 0 to 1"),
        (GOOD.replace("0.875", "nan"), "line 3, column accuracy: nan is not from 0 to 1"),
        (GOOD.replace("0.875", '"0,875"'), "line 3, column accuracy: '0,875' is no number"),
        (GOOD.replace("0.875", ""), "line 3, column accuracy: is empty"),
        (GOOD.replace("vit_base", ""), "line 3, column encoder: is empty"),
        (GOOD.replace("vit_base", "resnet50"), "line 3, column encoder: encoder resnet50, dataset cars is in line 2 already"),
        (GOOD.replace("dataset", "target"), "has no column 'dataset'; its columns: encoder, target, accuracy, notes"),
        (GOOD.replace(",", ";"), "has no column 'encoder' .columns are told apart by commas."),
        ("encoder,dataset,accuracy\n", "has no rows"),
        ("", "is empty"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_row_and_column(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputProblem, match=message):
        accuracies(write(tmp_path, content))


def test_rows_of_parquet_are_counted_from_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.parquet"
    pl.DataFrame({"encoder": ["resnet50"], "dataset": ["cars"], "accuracy": [91.0]}).write_parquet(path)
    with pytest.raises(InputProblem, match=r"mine.parquet: row 1, column accuracy: 91.0 is a percentage"):
        accuracies(path)
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(InputProblem, match="cannot be read"):
        accuracies(path)


def test_files_are_below_the_folder_that_is_watched(project: Path) -> None:
    with pytest.raises(InputProblem, match=r"outside data/raw/accuracies(.|\n)*accuracies: data/raw/accuracies/mine.csv"):
        accuracy_file(Path("mine.csv"), "params.yaml: rank.accuracies")
    FOLDER.mkdir(parents=True)
    (FOLDER / "mine.csv").write_text(GOOD)
    assert accuracy_file(FOLDER / "mine.csv", "") == FOLDER / "mine.csv"
    with pytest.raises(InputProblem, match=r"mime.csv does not exist(.|\n)*mine.csv"):
        accuracy_file(FOLDER / "mime.csv", "params.yaml: rank.accuracies")
    with pytest.raises(InputProblem, match=r"none of \.csv, \.parquet"):
        accuracies(FOLDER / "mine.xlsx")


WIDE = "encoder,dataset,logme,leep\nresnet50,cars,0.9,\nvit_base,cars,1.1,-2\n"
LONG = """encoder,dataset,metric,score,higher_is_better
resnet50,cars,logme,0.9,true
vit_base,cars,logme,1.1,
vit_base,cars,leep,-2,TRUE
resnet50,cars,leep,nan,true
"""


def test_wide_and_long_scores_say_the_same(tmp_path: Path) -> None:
    wide = read_scores(write(tmp_path, WIDE))
    assert wide.rows() == [
        ("resnet50", "cars", "leep", None, True), ("vit_base", "cars", "leep", -2.0, True),
        ("resnet50", "cars", "logme", 0.9, True), ("vit_base", "cars", "logme", 1.1, True),
    ]  # fmt: skip
    assert read_scores(write(tmp_path, LONG)).equals(wide)
    lower = read_scores(write(tmp_path, LONG.replace("-2,TRUE", "-2,false").replace("nan,true", "nan,False")))
    assert lower.filter(pl.col("metric") == "leep")["higher_is_better"].to_list() == [False, False]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (WIDE.replace("1.1", "high"), "line 3, column logme: 'high' is no number"),
        (WIDE.replace("1.1", "inf"), "line 3, column logme: inf is not finite"),
        (WIDE.replace("vit_base", "resnet50"), "line 3, column encoder: encoder resnet50, dataset cars"),
        ("encoder,dataset\nresnet50,cars\n", "has no scores"),
        (LONG.replace("-2", "low"), "line 4, column score: 'low' is no number"),
        (LONG.replace("TRUE", "yes"), "line 4, column higher_is_better: 'yes' is neither true nor false"),
        (LONG.replace("TRUE", "false"), "'leep' is better when higher in some rows"),
        (LONG.replace("vit_base,cars,logme", "resnet50,cars,logme"), "metric logme is in line 2 already"),
        (LONG.replace("cars,leep", "cars,", 1), "line 4, column metric: is empty"),
    ],
)
def test_a_mistake_in_scores_is_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputProblem, match=message):
        read_scores(write(tmp_path, content))
