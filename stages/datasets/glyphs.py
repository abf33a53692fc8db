"""Characters rendered from the fonts that matplotlib ships: many scripts, many faces, drawn a little differently each time."""

from __future__ import annotations

import importlib
import io
import math
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from pydantic import AfterValidator, Field

from stages import seeds
from stages.datasets.contract import DatasetKind, Raw, Source
from stages.errors import InputProblem, nearest
from stages.params import Count, Section

# First and last code points; unassigned ones and marks in between are left out. Only what the faces below hold.
SCRIPTS: dict[str, tuple[tuple[int, int], ...]] = {
    "latin": ((0x41, 0x5A), (0x61, 0x7A)),
    "greek": ((0x391, 0x3A9), (0x3B1, 0x3C9)),
    "cyrillic": ((0x410, 0x44F),),
    "digits": ((0x30, 0x39),),
    "armenian": ((0x531, 0x556), (0x561, 0x586)),
    "hebrew": ((0x5D0, 0x5EA),),
    "georgian": ((0x10D0, 0x10F0),),
    "arabic": ((0x627, 0x63A), (0x641, 0x64A)),  # isolated forms
    "lao": ((0xE81, 0xEAE),),
    "lisu": ((0xA4D0, 0xA4F7),),
    "tifinagh": ((0x2D30, 0x2D65),),
}
_KEPT_CATEGORIES = ("Lu", "Ll", "Lo", "Nd")  # letters and decimal digits

# Faces whose character map tells the truth: the other bundled files draw boxes (LastResort) or symbols (cmsy, cmmi, STIXSiz)
# under the code points of letters.
FACES: tuple[str, ...] = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
    *("cmb10", "cmr10", "cmss10", "cmti10", "cmtt10"),
)
REFERENCE_FACE = "DejaVuSans"  # the one that holds every script
LOOKS_THE_SAME = 0.02  # share of the ink that differs; A, Alpha and Cyrillic A have 0, o and Armenian oh 0.008, p and rho 0.037

_OVERSAMPLING = 2  # characters are drawn at this multiple of `size`, then transformed down
_EM = 0.75  # of the canvas: the widest letters still fit when enlarged
_ROTATION = math.radians(12)
_SHEAR = 0.2
_SCALE = (0.8, 1.15)
_SHIFT = 1 / 16  # of the canvas
_STROKES = (0, 0, 1, 2)  # pixels added around the outline, before scaling down
_PAPER = (0, 60)  # grey levels, black is 0
_INK = (150, 255)
_NOISE = 12.0  # largest standard deviation, in grey levels


def _script(name: str) -> str:
    if name not in SCRIPTS:
        raise ValueError(f"there is no script {name!r}; {nearest(name, SCRIPTS)}")
    return name


def _face(name: str) -> str:
    if name not in FACES:
        raise ValueError(f"there is no face {name!r}; {nearest(name, FACES)}")
    return name


class Options(Section):
    """Which characters, and how many pictures of each.

    `classes` is the most there may be: they are then taken from the scripts in turn, so that each keeps its share.
    `faces` None means every face that holds the character. `size` is in pixels, square. `seed` draws other pictures; it
    is the dataset's own, so that another seed of the run trains and tests on the same images.
    """

    scripts: Annotated[list[Annotated[str, AfterValidator(_script)]], Field(min_length=1)]
    classes: Annotated[int, Field(ge=2)] | None = None
    images_per_class: Count
    size: Annotated[int, Field(ge=8, le=512)] = 32
    faces: Annotated[list[Annotated[str, AfterValidator(_face)]], Field(min_length=1)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0


def read(options: Options) -> Source:
    """Open grey PNGs character by character, the faces in turn; each picture's jitter has a random stream of its own.

    Raises:
        InputProblem: the chosen faces hold none of the chosen scripts.
    """
    faces = options.faces or FACES
    chosen = characters(options.scripts, faces)
    if not chosen:
        raise InputProblem(
            f"none of the faces {', '.join(faces)} holds a character of {', '.join(options.scripts)}",
            where="params.yaml: faces",
            next_step="leave `faces` out to take every face that has them",
        )
    chosen = chosen[: options.classes]

    def raws() -> Iterator[Raw]:
        for script, character in chosen:
            holding = [face for face in faces if ord(character) in _code_points(face)]
            drawn: dict[tuple[str, int], Image.Image] = {}
            for number in range(options.images_per_class):
                stream = seeds.generator(options.seed, "glyphs", character, number)
                key = holding[number % len(holding)], _STROKES[stream.integers(len(_STROKES))]
                if key not in drawn:
                    drawn[key] = _draw(character, key[0], options.size * _OVERSAMPLING, key[1])
                pixels = _jitter(drawn[key], options.size, stream)
                encoded = io.BytesIO()
                Image.fromarray(pixels).save(encoded, format="PNG")
                yield Raw(f"U+{ord(character):04X}/{number:05d}", f"{script} {character}", None, encoded.getvalue())

    return Source(raws(), total=len(chosen) * options.images_per_class)


def characters(scripts: Sequence[str], faces: Sequence[str]) -> list[tuple[str, str]]:
    """Return (script, character) of all that some face holds, the scripts in turn.

    Of characters that look the same in different scripts only the first script's is kept: two classes that no picture
    could tell apart would be noise.
    """
    held = frozenset().union(*(_code_points(face) for face in faces))
    by_script = [(name, [chr(code) for code in _alphabet(name) if code in held]) for name in dict.fromkeys(scripts)]
    kept: list[list[tuple[str, str]]] = []
    seen: list[npt.NDArray[np.int64]] = []
    for name, alphabet in by_script:
        pictures = [np.asarray(_draw(character, REFERENCE_FACE, 96, 0), dtype=np.int64) for character in alphabet]
        new = [index for index, picture in enumerate(pictures) if not any(_same(picture, other) for other in seen)]
        seen += [pictures[index] for index in new]
        kept.append([(name, alphabet[index]) for index in new])
    return [pair for turn in zip_longest(*kept) for pair in turn if pair is not None]


def _alphabet(script: str) -> list[int]:
    return [
        code
        for first, last in SCRIPTS[script]
        for code in range(first, last + 1)
        if unicodedata.category(chr(code)) in _KEPT_CATEGORIES
    ]


def _same(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> bool:
    return bool(np.abs(one - other).sum() < LOOKS_THE_SAME * (one.sum() + other.sum()))


def _font_file(face: str) -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"


@cache
def _code_points(face: str) -> frozenset[int]:
    fonts: Any = importlib.import_module("fontTools.ttLib")  # comes with matplotlib; it has no type information
    with fonts.TTFont(_font_file(face), lazy=True) as font:
        return frozenset(font.getBestCmap())


@cache
def _font(face: str, pixels: int) -> ImageFont.FreeTypeFont:
    # The basic layout is the same with and without the optional shaping library.
    return ImageFont.truetype(_font_file(face), pixels, layout_engine=ImageFont.Layout.BASIC)


def _draw(character: str, face: str, side: int, stroke: int) -> Image.Image:
    """Return the character white on black, `side` x `side`, on the same baseline as all others of its face."""
    canvas = Image.new("L", (side, side))
    font = _font(face, round(_EM * side))
    ImageDraw.Draw(canvas).text((side / 2, side / 2), character, fill=255, font=font, anchor="mm", stroke_width=stroke)
    return canvas


def _jitter(canvas: Image.Image, size: int, stream: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return the canvas turned, sheared, scaled, shifted, in other greys and with noise: (size, size) uint8."""
    side = canvas.width
    angle, shear = stream.uniform(-_ROTATION, _ROTATION), stream.uniform(-_SHEAR, _SHEAR)
    step = side / size / stream.uniform(*_SCALE)
    # Where each output pixel comes from: the inverse of turn, shear and scale about the centre.
    across = (step * math.cos(angle), step * (math.sin(angle) + shear))
    down = (-step * math.sin(angle), step * math.cos(angle))
    shift = stream.uniform(-_SHIFT * side, _SHIFT * side, 2)
    left = side / 2 + shift[0] - (across[0] + across[1]) * size / 2
    top = side / 2 + shift[1] - (down[0] + down[1]) * size / 2
    turned = canvas.transform(
        (size, size), Image.Transform.AFFINE, (*across, left, *down, top), resample=Image.Resampling.BILINEAR
    )
    paper, ink = stream.uniform(*_PAPER), stream.uniform(*_INK)
    noise = stream.normal(0, stream.uniform(0, _NOISE), (size, size))
    grey = paper + (ink - paper) * np.asarray(turned, dtype=np.float64) / 255 + noise
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


KIND = DatasetKind(Options, read)
