"""From encoded bytes nobody vouches for to an upright 8-bit image, the one place where images are decoded."""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

# Formats that are pixels and nothing else: no EPS (starts Ghostscript), no WMF, no containers of documents.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")
END_OF_JPEG = b"\xff\xd9"
WHITE_16 = 65535
ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Undecodable(ValueError):
    """The bytes are not a usable image. The text is "category: detail", the same for the same bytes everywhere."""


def decode_image(data: bytes, *, max_pixels: int) -> Image.Image:
    """Return the image in `data` upright, as mode "L" or "RGB", without alpha.

    16-bit grey is scaled, not clipped; alpha lies over white; palettes and CMYK become RGB by (1 - ink)(1 - black);
    EXIF orientation is applied; of an animation the first frame is taken. Grey stays grey. May be called from many
    threads. The size is checked in the header, before any pixel is decoded; Pillow's own limit (179 million pixels)
    stays in force below a larger `max_pixels`.

    Raises:
        Undecodable: empty, truncated, damaged, too large, or in no format of `FORMATS`.
    """
    if not data:
        raise Undecodable("empty: 0 bytes")
    with _quiet_pillow():
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise Undecodable(f"too large: {width}x{height} is more than {max_pixels} pixels")
                image.load()
                return _upright(_eight_bit(image), _orientation(image))
        except (Undecodable, MemoryError):
            raise
        except UnidentifiedImageError:
            raise Undecodable("not an image: no known format") from None
        except Image.DecompressionBombError as error:
            raise Undecodable(f"too large: {error}") from None
        except Exception as error:  # hostile bytes make decoders raise nearly anything
            raise Undecodable(_reason(error)) from None


@dataclass(frozen=True)
class PlainJpeg:
    """What the header of a JPEG says that any decoder reads alike: 8-bit grey or YCbCr, upright, whole."""

    grey: bool
    pixels: int


def plain_jpeg(data: bytes, *, max_pixels: int) -> PlainJpeg | None:
    """Return what the header says, None for everything else: other formats and colours, turned, cut off, too large, damaged."""
    if not data.endswith(END_OF_JPEG):
        return None
    with _quiet_pillow():
        try:
            with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
                width, height = image.size
                parts = [part[0] for part in getattr(image, "layer", [])]
                coded_rgb = image.info.get("adobe_transform") == 0 or parts == [*b"RGB"]
                alike = image.format == "JPEG" and image.mode in ("L", "RGB") and not coded_rgb
                if not alike or width * height > max_pixels or _orientation(image) in UPRIGHT:
                    return None
                return PlainJpeg(image.mode == "L", width * height)
        except MemoryError:
            raise
        except Exception:  # hostile bytes; `decode_image` says what is wrong with them
            return None


def _reason(error: Exception) -> str:
    text = re.sub(r"<[^>]*>|0x[0-9a-f]{6,}", "...", str(error))  # object addresses differ between runs
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return f"truncated: {text or 'the data ends early'}"
    return f"damaged: {type(error).__name__} {text}".rstrip()


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return a loaded image as a new one of mode "L" or "RGB"."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _scaled_grey(image)
    if image.has_transparency_data:
        flat = Image.new("RGBA", image.size, "white")
        flat.alpha_composite(image.convert("RGBA"))
        return flat.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB")
    if image.mode in ("L", "RGB"):
        return image.copy()
    return image.convert("L" if image.mode == "1" else "RGB")


def _scaled_grey(image: Image.Image) -> Image.Image:
    """Scale one wide channel to 8 bits: integers from 0..65535, floats from 0..1; other ranges have no known white."""
    values = np.asarray(image, dtype=np.float64)
    white = 1.0 if image.mode == "F" else WHITE_16
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= white):
        raise Undecodable(f"unknown range: mode {image.mode} with values outside 0..{white:g}")
    grey = np.rint(values * (255 / white)).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey, mode="L")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 where there is none. Broken EXIF says nothing about the pixels, so it counts as none."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # the EXIF parser, too, raises nearly anything
        return 1
    return value if isinstance(value, int) else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


_quiet_lock = threading.Lock()
_quiet_users = 0
_quiet_state = warnings.catch_warnings()


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Silence Pillow's warnings while any thread decodes.

    `warnings.catch_warnings` swaps global state and is not safe to enter from several threads, so the first user
    enters it and the last one leaves it.
    """
    global _quiet_users, _quiet_state
    with _quiet_lock:
        if _quiet_users == 0:
            _quiet_state = warnings.catch_warnings()
            _quiet_state.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\b|stages\.datasets\.decoding")
        _quiet_users += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_users -= 1
            if _quiet_users == 0:
                _quiet_state.__exit__(None, None, None)
