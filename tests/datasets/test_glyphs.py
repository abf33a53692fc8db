"""Rendered characters: which there are, that no two classes are one picture, and that what is drawn never moves."""

from __future__ import annotations

import io
import time
from collections import Counter, defaultdict

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from sklearn.neighbors import KNeighborsClassifier

from stages.datasets import KINDS, validate_entry
from stages.datasets.contract import Raw
from stages.datasets.glyphs import FACES, SCRIPTS, characters
from stages.errors import InputProblem
from stages.params import DatasetEntry


def rows(**options: object) -> list[Raw]:
    entry = DatasetEntry(kind="glyphs", **options)
    return list(KINDS["glyphs"].read(validate_entry("mine", entry)).rows)


def content(raw: Raw) -> bytes:
    assert isinstance(raw.content, bytes)
    return raw.content


def pixels(raw: Raw) -> np.ndarray:
    image = Image.open(io.BytesIO(content(raw)))
    assert image.mode == "L"
    return np.asarray(image)


def test_a_hundred_classes_of_sixty_take_seconds() -> None:
    started = time.process_time()
    found = rows(scripts=["latin", "greek", "cyrillic", "digits"], classes=100, images_per_class=60)
    assert time.process_time() - started < 10  # two or three on an idle core
    assert Counter(Counter(raw.label for raw in found).values()) == {60: 100}
    assert len({content(raw) for raw in found}) == 6000
    sizes = {pixels(raw).shape for raw in found[::97]}
    assert sizes == {(32, 32)}


def test_letters_that_look_alike_are_one_class_of_the_first_script() -> None:
    found = {character: script for script, character in characters(["latin", "greek", "cyrillic"], FACES)}
    for same in ("AΑА", "BΒВ", "EΕЕ", "KΚ", "OΟО", "PΡР", "TΤТ", "XΧХ", "oοо", "aа", "eе", "pр", "xх"):
        assert [character in found for character in same] == [True] + [False] * (len(same) - 1), same
    for own in "ΔΣΩαβλБЖЯфю":
        assert own in found
    assert {found[character] for character in "Aa"} == {"latin"}
    assert characters(["cyrillic", "latin"], FACES)[0] == ("cyrillic", "А")
    assert {"o", "O", "v", "V"} <= found.keys(), "upper and lower case differ in size and are kept"


def test_no_two_classes_have_the_same_pixels_in_the_reference_face() -> None:
    import matplotlib as mpl

    font = ImageFont.truetype(f"{mpl.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 40, layout_engine=ImageFont.Layout.BASIC)
    drawn = defaultdict(list)
    for _, character in characters(list(SCRIPTS), FACES):
        canvas = Image.new("L", (96, 96))
        ImageDraw.Draw(canvas).text((48, 48), character, font=font, fill=255, anchor="mm")
        assert canvas.getbbox(), character
        drawn[canvas.tobytes()].append(character)
    assert [group for group in drawn.values() if len(group) > 1] == []


@pytest.mark.parametrize("script", list(SCRIPTS))
def test_every_script_draws_in_every_face_that_has_it(script: str) -> None:
    """A missing character would be the face's box: the same picture for two classes, whatever the jitter."""
    found = characters([script], FACES)
    assert len(found) >= 10
    assert {name for name, _ in found} == {script}
    images = rows(scripts=[script], images_per_class=1, size=48)
    assert len(images) == len(found)
    assert all(pixels(raw).max() > pixels(raw).min() + 60 for raw in images)


def test_more_classes_or_images_leave_the_others_alone() -> None:
    small = {raw.id: content(raw) for raw in rows(scripts=["hebrew"], classes=5, images_per_class=3)}
    large = {raw.id: content(raw) for raw in rows(scripts=["hebrew"], images_per_class=6)}
    assert len(small) == 15
    assert small.items() <= large.items()
    other = {raw.id: content(raw) for raw in rows(scripts=["hebrew"], classes=5, images_per_class=3, seed=1)}
    assert other.keys() == small.keys()
    assert not set(other.values()) & set(small.values())


def test_scripts_take_turns_under_a_limit_on_classes() -> None:
    labels = {raw.label for raw in rows(scripts=["latin", "digits", "armenian"], classes=12, images_per_class=1)}
    assert Counter(str(label).split()[0] for label in labels) == {"latin": 4, "digits": 4, "armenian": 4}


def test_the_classes_can_be_told_apart() -> None:
    """Nearest neighbour on raw pixels: far above chance, so the label is in the picture; below 1, so the jitter is too."""
    found = rows(scripts=["digits"], images_per_class=80, size=24)
    x = np.stack([pixels(raw).ravel() for raw in found]).astype(float)
    y = np.array([raw.label for raw in found])
    late = np.arange(len(found)) % 80 >= 60
    accuracy = KNeighborsClassifier(1).fit(x[~late], y[~late]).score(x[late], y[late])
    assert 0.5 < accuracy < 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scripts": ["latim"]}, "there is no script 'latim'; nearest valid: latin"),
        ({"scripts": ["latin"], "faces": ["DejaVuSan"]}, "there is no face 'DejaVuSan'; nearest valid: DejaVuSans"),
        ({"scripts": []}, "scripts: List should have at least 1"),
        ({"scripts": ["latin"], "size": 4}, "size: Input should be greater"),
        ({"scripts": ["hebrew"], "faces": ["cmr10"]}, "none of the faces cmr10 holds a character of hebrew"),
    ],
)
def test_mistakes_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputProblem, match=message):
        rows(**{"images_per_class": 1, **options})
