"""Every kind of pixel that photographs come in, against values worked out by hand."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from stages.datasets.decoding import UPRIGHT, Undecodable, decode_image

MANY = 1_000_000


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=form, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> tuple[str, np.ndarray]:
    image = decode_image(data, max_pixels=MANY)
    return image.mode, np.asarray(image).astype(int)


def png(width: int, height: int, depth: int, colour: int, raw: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG written by hand, for what Pillow does not write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    middle = b"".join(chunk(name, body) for name, body in extra)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + middle + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def test_grey_and_colour_come_back_as_they_are() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    colour = np.arange(36, dtype=np.uint8).reshape(3, 4, 3) * 7
    assert decoded(encoded(Image.fromarray(grey)))[0] == "L"
    assert np.array_equal(decoded(encoded(Image.fromarray(grey)))[1], grey)
    assert decoded(encoded(Image.fromarray(colour)))[0] == "RGB"
    assert np.array_equal(decoded(encoded(Image.fromarray(colour)))[1], colour)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    values = [0, 257, 25700, 32768, 65535]
    raw = b"\0" + struct.pack(">5H", *values)
    mode, pixels = decoded(png(5, 1, 16, 0, raw))
    assert mode == "L"
    assert pixels.tolist() == [[0, 1, 100, 128, 255]]  # v / 257, 32768 / 257 = 127.502


def test_sixteen_bit_tiff_and_pgm_are_scaled_too() -> None:
    values = np.array([[0, 25700, 65535]], dtype=np.uint16)
    assert decoded(encoded(Image.fromarray(values), "TIFF"))[1].tolist() == [[0, 100, 255]]
    pgm = b"P5 3 1 65535\n" + values.astype(">u2").tobytes()
    assert decoded(pgm)[1].tolist() == [[0, 100, 255]]


def test_a_transparent_sixteen_bit_grey_is_white() -> None:
    raw = b"\0" + struct.pack(">3H", 0, 25700, 65535)
    assert decoded(png(3, 1, 16, 0, raw, (b"tRNS", struct.pack(">H", 25700))))[1].tolist() == [[0, 255, 255]]


def test_floats_are_taken_from_nought_to_one_and_refused_elsewhere() -> None:
    good = encoded(Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32)), "TIFF")
    assert decoded(good)[1].tolist() == [[0, 128, 255]]
    bad = encoded(Image.fromarray(np.array([[0.0, 7.0]], dtype=np.float32)), "TIFF")
    with pytest.raises(Undecodable, match="unknown range"):
        decode_image(bad, max_pixels=MANY)


def test_one_bit_is_black_and_white() -> None:
    image = Image.fromarray(np.array([[0, 255, 0, 255]], dtype=np.uint8)).convert("1")
    mode, pixels = decoded(encoded(image))
    assert mode == "L"
    assert pixels.tolist() == [[0, 255, 0, 255]]


def test_cmyk_is_one_minus_ink_times_one_minus_black() -> None:
    inks = [(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0), (0, 0, 0, 255), (100, 50, 0, 51)]
    blocks = np.repeat(np.repeat(np.array([inks], dtype=np.uint8), 16, axis=0), 16, axis=1)  # (16, 96, 4)
    image = Image.frombytes("CMYK", (96, 16), blocks.tobytes())
    for form, options in (("TIFF", {}), ("JPEG", {"quality": 100, "subsampling": 0})):
        mode, pixels = decoded(encoded(image, form, **options))
        assert mode == "RGB"
        for index, (*ink, black) in enumerate(inks):
            expected = [(255 - i) * (255 - black) / 255 for i in ink]
            assert np.allclose(pixels[8, 16 * index + 8], expected, atol=4 if form == "JPEG" else 1), (form, inks[index])


def test_a_palette_becomes_its_colours_and_its_transparent_entry_white() -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8))
    image = Image.frombytes("P", (3, 1), image.tobytes())
    image.putpalette([255, 0, 0, 0, 200, 0, 1, 2, 3])
    assert decoded(encoded(image))[1].tolist() == [[[255, 0, 0], [0, 200, 0], [1, 2, 3]]]
    assert decoded(encoded(image, transparency=2))[1].tolist() == [[[255, 0, 0], [0, 200, 0], [255, 255, 255]]]
    # alpha per entry, as bytes: 0 is white, 128 of red over white is half of it
    mixed = decoded(encoded(image, transparency=bytes([128, 255, 0])))[1]
    assert np.allclose(mixed, [[[255, 127, 127], [0, 200, 0], [255, 255, 255]]], atol=1)


def test_alpha_lies_over_white_and_grey_stays_grey() -> None:
    colour = Image.fromarray(np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [0, 0, 0, 51]]], dtype=np.uint8), mode="RGBA")
    mode, pixels = decoded(encoded(colour))
    assert mode == "RGB"
    assert np.allclose(pixels, [[[200, 0, 0], [255, 255, 255], [204, 204, 204]]], atol=1)
    grey = Image.fromarray(np.array([[[0, 255], [0, 0], [0, 51]]], dtype=np.uint8), mode="LA")
    mode, pixels = decoded(encoded(grey))
    assert mode == "L"
    assert np.allclose(pixels, [[0, 255, 204]], atol=1)


def test_transparency_keys_of_grey_and_colour_are_white() -> None:
    grey = Image.fromarray(np.array([[10, 20]], dtype=np.uint8))
    assert decoded(encoded(grey, transparency=10))[1].tolist() == [[255, 20]]
    colour = Image.fromarray(np.array([[[10, 11, 12], [20, 21, 22]]], dtype=np.uint8))
    assert decoded(encoded(colour, transparency=(10, 11, 12)))[1].tolist() == [[[255, 255, 255], [20, 21, 22]]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_exif_orientation_is_undone(orientation: int, form: str) -> None:
    upright = np.zeros((16, 32), dtype=np.uint8)
    upright[:8, :16] = 255  # bright top left
    upright[:8, 16:] = 100  # grey top right
    # EXIF 2.3, section 4.6.4: which side of the stored picture is the visual top and which the visual left.
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.T, 6: np.rot90(upright), 7: upright.T[::-1, ::-1], 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100} if form == "JPEG" else {"lossless": True} if form == "WEBP" else {}
    _, pixels = decoded(encoded(Image.fromarray(np.ascontiguousarray(stored)), form, exif=exif, **options))
    assert pixels.shape[:2] == (16, 32)
    channel = pixels if pixels.ndim == 2 else pixels[..., 0]
    assert np.allclose(channel, upright, atol=3)


def test_every_orientation_but_the_first_turns() -> None:
    assert sorted(UPRIGHT) == list(range(2, 9))


def test_broken_exif_does_not_cost_the_image() -> None:
    data = encoded(Image.new("RGB", (4, 4), (1, 2, 3)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff", quality=100)
    assert decode_image(data, max_pixels=MANY).size == (4, 4)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_an_animation_gives_its_first_frame(form: str) -> None:
    frames = [Image.new("RGB", (5, 5), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    options = {"lossless": True} if form == "WEBP" else {}
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    mode, pixels = decoded(data)
    assert mode == "RGB"
    assert (pixels == [255, 0, 0]).all()


def test_wide_integers_without_a_known_white_are_refused() -> None:
    data = encoded(Image.fromarray(np.array([[0, 70000]], dtype=np.int32)), "TIFF")
    with pytest.raises(Undecodable, match="unknown range"):
        decode_image(data, max_pixels=MANY)


def test_the_pixel_limit_is_exact() -> None:
    data = encoded(Image.new("L", (10, 10)))
    assert decode_image(data, max_pixels=100).size == (10, 10)
    with pytest.raises(Undecodable, match="too large: 10x10 is more than 99 pixels"):
        decode_image(data, max_pixels=99)


def test_no_warning_escapes_from_many_threads_and_the_filters_are_put_back() -> None:
    # Expressed as bytes, transparency makes Pillow warn on conversion; corrupt EXIF makes it warn on reading.
    palette = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    palette.putpalette([255, 0, 0, 0, 200, 0, 1, 2, 3])
    images = [
        encoded(palette, transparency=bytes([128, 255, 0])),
        encoded(Image.new("RGB", (4, 4)), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\xff\xff\xff"),
    ] * 50
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        sizes = list(pool.map(lambda data: decode_image(data, max_pixels=MANY).size, images))
    assert sizes == [(3, 1), (4, 4)] * 50
    assert list(warnings.filters) == before
    with pytest.warns(UserWarning, match="still heard"):
        warnings.warn("still heard", stacklevel=1)


def test_reasons_hold_no_address() -> None:
    good = encoded(Image.effect_noise((64, 64), 50).convert("RGB"), "JPEG")
    for data in (b"", b"hello", good[: len(good) // 2], good[:30], b"II*\0" + b"\xff" * 40, b"GIF89a" + b"\0" * 7):
        texts = set()
        for _ in range(2):
            with pytest.raises(Undecodable) as caught:
                decode_image(bytes(data), max_pixels=MANY)
            texts.add(str(caught.value))
        assert len(texts) == 1
        assert "0x" not in texts.pop()
