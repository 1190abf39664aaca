"""The base of the picture gate: bytes by offset, the limits, and what a header says (rules: docs/pictures.md)."""

from dataclasses import dataclass
from io import FileIO

_WINDOW = 8192  # bytes read at a time


@dataclass(frozen=True)
class Limits:
    """What a picture may ask for at most. All are checked from the header, before anything is decoded."""

    max_pixels: int = 100_000_000
    max_side: int = 65_500
    max_ratio: int = 200  # long side / short side; resizing a 1 x 65,500 picture would need gigabytes
    max_file_bytes: int = 256 * 2**20
    max_bytes: int = 448 * 2**20  # memory that decoding one takes, and large ones of all threads together
    max_blocks: int = 65_536  # segments, chunks or blocks of a file
    max_scans: int = 100  # of a progressive JPEG; each costs a pass over the whole picture


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Header:
    """What the header of a picture says.

    width, height: pixels as shown, after the EXIF orientation. mode: as stored ("RGB", "L", "P", "CMYK", ...).
    frames: 1, or 2 where there are two or more (they are not counted). bits: of one sample.
    scratch: bytes that the decoder holds beside the pixels (coefficients of a JPEG in several scans, strips of a TIFF).
    notes: stable codes: alpha animated bad_exif cmyk float grey icc not_upright palette tiny wrong_extension 16bit.
    """

    format: str
    width: int
    height: int
    mode: str
    frames: int
    orientation: int
    bits: int
    notes: tuple[str, ...]
    scratch: int = 0


class Refused(Exception):
    """Inside this room: a reason and its text, before the name of the file is known."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


class Reader:
    """Bytes of a file or of memory by offset. A read past the end means that the picture is cut off."""

    def __init__(self, data: bytes = b"", file: FileIO | None = None, size: int = 0) -> None:
        self.size = size if file is not None else len(data)
        self.file, self.start, self.window = file, 0, data

    def at(self, offset: int, n: int) -> bytes:
        """n bytes from an offset."""
        i = offset - self.start
        if i >= 0 and i + n <= len(self.window):
            return self.window[i : i + n]
        if self.file is None or offset + n > self.size:
            raise Refused("truncated", f"cut off: {self.size:,} bytes are not the whole file; copy it again")
        self.file.seek(offset)
        self.start, self.window = offset, self.file.read(max(n, _WINDOW))
        if len(self.window) < n:
            raise Refused("unreadable", "the file changed while it was read")
        return self.window[:n]


def check_size(width: int, height: int, limits: Limits) -> None:
    """Refuse a picture without pixels or beyond the limits."""
    if width <= 0 or height <= 0:
        raise Refused("empty", f"{width} x {height} pixels; a picture has at least one: leave it out")
    short, long = min(width, height), max(width, height)
    rule = ""
    if width * height > limits.max_pixels:
        rule = f"{limits.max_pixels:,} in all: shrink it or raise Limits.max_pixels"
    elif long > limits.max_side:
        rule = f"{limits.max_side:,} a side: shrink it or raise Limits.max_side"
    elif long > limits.max_ratio * short:
        rule = f"{limits.max_ratio} to 1: cut it or raise Limits.max_ratio"
    if rule:
        raise Refused("too_large", f"{width} x {height} pixels; at most {rule}")


def make_header(
    kind: str,
    size: tuple[int, int],
    mode: str,
    bits: int,
    notes: list[str],
    *,
    orientation: int | None = 1,
    frames: int = 1,
    scratch: int = 0,
) -> Header:
    """The header with the notes that follow from it. orientation None: the EXIF data is broken and ignored."""
    if orientation is None:
        notes, orientation = [*notes, "bad_exif"], 1
    width, height = size[::-1] if orientation >= 5 else size
    for note, holds in (
        ("not_upright", orientation != 1),
        ("grey", mode in ("1", "L", "LA", "I", "F")),
        ("palette", mode == "P"),
        ("cmyk", mode == "CMYK"),
        ("16bit", bits in (12, 16)),
        ("animated", frames > 1),
        ("tiny", min(size) < 8),
    ):
        if holds:
            notes = [*notes, note]
    return Header(kind, width, height, mode, frames, orientation, bits, tuple(sorted(notes)), scratch)
