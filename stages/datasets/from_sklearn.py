"""Kind `sklearn`: the images that scikit-learn carries: 1,797 handwritten digits of 8 x 8 pixels."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Literal

import numpy as np
from PIL import Image

from stages.datasets.contract import DatasetKind, Raw, Source
from stages.params import Section

INK = 16  # the largest value in the digits' pixels


class Options(Section):
    """Which data set; scikit-learn carries one of images, the others it would have to download."""

    name: Literal["digits"] = "digits"


def read(options: Options) -> Source:
    """Open scikit-learn's digits as 8-bit PNG in their own size; an encoder's transform resizes them."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / INK)).astype(np.uint8)  # (1797, 8, 8)

    def rows() -> Iterator[Raw]:
        for index, (image, target) in enumerate(zip(pixels, bunch.target, strict=True)):
            buffer = io.BytesIO()
            Image.fromarray(image, mode="L").save(buffer, format="PNG")
            yield Raw(f"{index:04d}", str(target), None, buffer.getvalue())

    return Source(rows(), total=len(pixels))


KIND = DatasetKind(Options, read)
