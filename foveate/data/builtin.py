"""Built-in data sets: real pictures that need no network.

clothes: 400 photographs of eight kinds of clothes, short side 160 px, a folder of this package with train/ val/ test/
(32, 6 and 12 a class). Cut by scripts/cut_clothes from Alexey Grigorev's clothing-dataset-small, CC0 1.0.
digits: 1,797 scans of 8 x 8 px that ship with scikit-learn.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

BUILT_IN = ("clothes", "digits")
CLOTHES = Path(__file__).parent / "clothes"


class BuiltIn(NamedTuple):
    """pixels uint8 (N, H, W, 3); labels, one index a picture; names such as "digits/0042"; class names."""

    pixels: np.ndarray
    labels: tuple[int, ...]
    names: tuple[str, ...]
    classes: tuple[str, ...]


def digits() -> BuiltIn:
    """1,797 scans of handwritten digits, 8 x 8.

    The test part, by 13 writers, of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, 1998).

    scikit-learn ships them without saying who wrote what, so a writer may be in two splits.
    Values 0..16 become round(x * 255 / 16), grey repeated to RGB.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    grey = np.rint(data.images * 255.0 / 16.0).astype(np.uint8)
    pixels = np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=3))  # (1797, 8, 8, 3)
    labels = tuple(int(y) for y in data.target)
    return BuiltIn(pixels, labels, tuple(f"digits/{i:04d}" for i in range(len(labels))), tuple("0123456789"))
