"""One pass over all pictures: each is decoded once, and all that the review asks is read off it."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from foveate.data.gate import near
from foveate.data.gate.screen import screen
from foveate.data.gate.walk import Item, below, outside_line
from foveate.data.index import assemble, open_data, read
from foveate.data.read.decode import opened
from foveate.data.read.formats import BadImage, shown
from foveate.errors import DataError
from foveate.trust import align
from foveate.trust.outliers import sharpness
from foveate.workflows.review.features import Describer

SHARP = 256  # pixels of the long side at which sharpness is compared
CHUNK = 64  # pictures decoded before their features are computed


@dataclass(frozen=True)
class Held:
    """The pictures of DATA. names: below root. pixels: of built-in scans, which have no files."""

    name: str
    root: str
    items: tuple[Item, ...]
    bad: tuple[tuple[str, str], ...]  # (name, reason)
    fingerprint: str  # of the data set as training would open it with seed 0; "" where it would not
    pixels: np.ndarray | None = None

    def names(self) -> list[str]:
        """Names below the root, as data check tells them."""
        return [below(self.root, item.path) if self.root else item.path for item in self.items]


@dataclass(frozen=True)
class Looked:
    """What was read off every picture, in the order of `held.items`."""

    held: Held
    features: np.ndarray  # float32 (N, D)
    thumbs: np.ndarray  # uint8 (N, 16, 16, 3), as near.thumbnail makes them
    copies: np.ndarray  # uint8 (N, 64, 64), as align.small
    luminance: np.ndarray  # (N,), 0 to 255
    sharp: np.ndarray  # (N,)
    sizes: np.ndarray  # (N, 2), width and height in pixels


def hold(data: str | Path, follow_links: bool = False) -> Held:
    """Every usable picture of DATA. DataError where there is none, and for links that lead outside."""
    if data == "digits":
        dataset = open_data(data, val=0, test=0)
        split = dataset.splits["train"]
        items = tuple(
            Item(path, "", dataset.classes[label], "", 0, 0)
            for path, label in zip(split.paths, split.labels, strict=True)
        )
        return Held("digits", "", items, (), open_data(data).fingerprint, split.pixels)
    listing = read(data, follow_links)
    if outside := [notice.path for notice in listing.notices if notice.kind == "outside"]:
        raise DataError(outside_line(listing.root, outside))
    screened = screen(listing)
    if not screened.items:
        raise DataError(f"{shown(listing.source)}: no usable pictures; foveate data check says what is wrong")
    try:
        fingerprint = assemble(listing, screened, {"val": 0.1, "test": 0.1}, 0, bad_files="skip").fingerprint
    except DataError:  # one class, or too few pictures: training would refuse them, a review need not
        fingerprint = ""
    bad = tuple((below(listing.root, path), reason) for path, reason in screened.bad)
    return Held(listing.name, listing.root, tuple(screened.items), bad, fingerprint)


def look(held: Held, describer: Describer, progress: Callable[[int, int], None] = lambda done, total: None) -> Looked:
    """Decode everything once. A picture that can not be decoded is moved to held.bad."""
    n = len(held.items)
    thumbs, copies = np.empty((n, near.SIDE, near.SIDE, 3), np.uint8), np.empty((n, align.SIDE, align.SIDE), np.uint8)
    numbers = np.empty((n, 4))  # luminance, sharpness, width, height
    good: list[int] = []
    bad: list[tuple[str, str]] = []
    parts: list[np.ndarray] = []

    def one(i: int) -> tuple[int, np.ndarray | str]:
        source = held.items[i].path if held.pixels is None else held.pixels[i]
        try:
            with _picture(source) as image:
                thumbs[i], copies[i] = near.thumbnail(image), align.small(image)
                grey = image.convert("L")
                grey.thumbnail((SHARP, SHARP), Image.Resampling.BILINEAR, reducing_gap=3.0)
                levels = np.asarray(grey)
                numbers[i] = levels.mean(), sharpness(levels), *image.size
                return i, describer.prepare(image)
        except (BadImage, OSError) as error:
            return i, " ".join(str(error).split())

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for start in range(0, n, CHUNK):
            progress(start, n)
            prepared: list[np.ndarray] = []
            for i, what in pool.map(one, range(start, min(start + CHUNK, n))):
                if isinstance(what, str):
                    bad.append((held.names()[i], what))
                else:
                    good.append(i)
                    prepared.append(what)
            if prepared:
                parts.append(describer.describe(prepared))
    progress(n, n)
    if not good:
        raise DataError(f"{held.name}: no picture can be decoded; foveate data check says what is wrong")
    left = Held(
        held.name,
        held.root,
        tuple(held.items[i] for i in good),
        (*held.bad, *bad),
        held.fingerprint,
        None if held.pixels is None else held.pixels[good],
    )
    table = numbers[good]
    return Looked(
        left, np.concatenate(parts), thumbs[good], copies[good], table[:, 0], table[:, 1], table[:, 2:].astype(int)
    )


class _Array:
    """Pixels in memory as an opened picture."""

    def __init__(self, pixels: np.ndarray):
        self.image = Image.fromarray(pixels)

    def __enter__(self) -> Image.Image:
        return self.image

    def __exit__(self, *_: object) -> None:
        pass


def _picture(source: "str | np.ndarray"):  # type: ignore[no-untyped-def]  # one of two context managers
    return _Array(source) if isinstance(source, np.ndarray) else opened(source)


def pixels_at(held: Held, places: Sequence[int]) -> Iterator[np.ndarray]:
    """The pixels of some pictures again, at most 320 px, uint8 (H, W, 3): for the page."""
    for i in places:
        source = held.items[i].path if held.pixels is None else held.pixels[i]
        with _picture(source) as image:
            image.thumbnail((320, 320), Image.Resampling.BILINEAR, reducing_gap=3.0)
            yield np.asarray(image)
