"""TIFF directories and EXIF orientation, read without a decoder (TIFF 6.0; EXIF uses the same layout)."""

import struct
from dataclasses import dataclass

from foveate.data.read.reader import Header, Limits, Reader, Refused, check_size, make_header

# none, CCITT, fax group 3 and 4, LZW, JPEG, deflate, PackBits, deflate under its old number
_COMPRESSIONS = {1, 2, 3, 4, 5, 7, 8, 32773, 32946}
_MODES = {0: "L", 1: "L", 2: "RGB", 3: "P", 5: "CMYK", 6: "YCbCr"}
_ITEMS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_ITEM_BYTES = dict(zip((*range(1, 14), 16, 17, 18), (1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 8, 8, 8), strict=True))
_SINGLE = frozenset({256, 257, 259, 262, 266, 277, 278, 284, 292, 293, 317, 322, 323})  # tags of one value
# Tags that say how pixels are stored; the last three: JPEG tables, YCbCr subsampling, reference black and white.
PIXEL_TAGS = _SINGLE | {258, 273, 279, 320, 324, 325, 338, 339, 347, 530, 532}
_MAX_TAG_VALUES = 500_000  # strips or tiles of one TIFF


@dataclass(frozen=True)
class Directory:
    """One TIFF directory: byte order ("<" or ">"), BigTIFF or not, raw entries by tag, where the next one is (0: none).

    `following` is None where the file ends before it, as it often does in EXIF data.
    """

    order: str
    big: bool
    entries: dict[int, bytes]
    following: int | None

    def values(self, r: Reader, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """The whole numbers of a tag."""
        if tag not in self.entries:
            return default
        kind, count = struct.unpack_from(self.order + ("HQ" if self.big else "HI"), self.entries[tag], 2)
        if kind not in _ITEMS or not 1 <= count <= _MAX_TAG_VALUES:
            raise Refused("unreadable", f"TIFF tag {tag} holds {count:,} values of type {kind}")
        layout, field = f"{self.order}{count}{_ITEMS[kind]}", self.entries[tag][12 if self.big else 8 :]
        size = struct.calcsize(layout)
        if size > len(field):
            field = r.at(struct.unpack(self.order + ("Q" if self.big else "I"), field)[0], size)
        return struct.unpack(layout, field[:size])

    def value(self, r: Reader, tag: int, default: int) -> int:
        """The first of the numbers of a tag."""
        return int(self.values(r, tag, (default,))[0])


def tiff_directory(r: Reader) -> Directory:
    """The first directory of a TIFF file or of EXIF data."""
    order = {b"II": "<", b"MM": ">"}[r.at(0, 2)]
    (version,) = struct.unpack(order + "H", r.at(2, 2))
    if version not in (42, 43):
        raise Refused("unreadable", f"TIFF version {version}")
    big = version == 43
    (offset,) = struct.unpack(order + ("Q" if big else "I"), r.at(8, 8) if big else r.at(4, 4))
    (count,) = struct.unpack(order + ("Q" if big else "H"), r.at(offset, 8 if big else 2))
    step, first = (20, offset + 8) if big else (12, offset + 2)
    if count > 4096:
        raise Refused("unreadable", f"a TIFF directory of {count:,} entries")
    rows = r.at(first, step * count)
    entries = {struct.unpack_from(order + "H", rows, i)[0]: rows[i : i + step] for i in range(0, len(rows), step)}
    end, n = first + step * count, 8 if big else 4
    following = int.from_bytes(r.at(end, n), "little" if order == "<" else "big") if end + n <= r.size else None
    return Directory(order, big, entries, following)


def exif_orientation(exif: bytes) -> int | None:
    """The orientation 1 to 8 that EXIF data says, 1 where it says none, None where the data is broken."""
    if not exif:
        return 1
    r = Reader(exif.removeprefix(b"Exif\0\0"))
    try:
        value = tiff_directory(r).values(r, 274, (1,))[0]
    except (Refused, struct.error, KeyError, OverflowError):
        return None
    return value if 1 <= value <= 8 else None


def tiff_header(r: Reader, limits: Limits) -> Header:
    """The first page of a TIFF or BigTIFF. All its strips or tiles must lie inside the file."""
    d = tiff_directory(r)
    if d.following is None:
        raise Refused("truncated", f"cut off: {r.size:,} bytes are not the whole file; copy it again")
    _check_tags(r, d)
    width, height = d.value(r, 256, 0), d.value(r, 257, 0)
    check_size(width, height, limits)
    colours, compression = d.value(r, 262, 0), d.value(r, 259, 1)
    if colours not in _MODES or compression not in _COMPRESSIONS:
        raise Refused("format", f"a TIFF with colours {colours} and compression {compression}; convert it to PNG")
    mode = _MODES[colours]
    bits, extra = max(d.values(r, 258, (1,))), d.values(r, 338)
    block = _tiff_whole(r, d, (width, height), limits)
    samples = d.value(r, 277, 1)
    # libtiff decodes a strip or tile as a whole; of YCbCr as RGBA
    scratch = 0 if compression == 1 else block * max(4, -(-bits * samples // 8))
    notes = ["icc"] if 34675 in d.entries else []
    if mode in ("L", "RGB") and extra[:1] in ((1,), (2,)):
        mode, notes = mode + "A", [*notes, "alpha"]
    elif mode == "L" and max(d.values(r, 339, (1,))) == 3:
        mode, notes = "F", [*notes, "float"]
    elif mode == "L" and bits != 8:
        mode = "1" if bits == 1 else "I" if bits > 8 else "L"
    orientation = d.value(r, 274, 1)
    return make_header(
        "TIFF",
        (width, height),
        mode,
        bits,
        notes,
        orientation=orientation if 1 <= orientation <= 8 else None,
        frames=2 if 0 < d.following < r.size else 1,
        scratch=scratch,
    )


def _check_tags(r: Reader, d: Directory) -> None:
    """The values of all tags about pixels must lie in the file; where they do not, decoders warn or guess."""
    total = 0
    for tag in PIXEL_TAGS & d.entries.keys():
        kind, count = struct.unpack_from(d.order + ("HQ" if d.big else "HI"), d.entries[tag], 2)
        if kind not in _ITEM_BYTES or (tag in _SINGLE and count != 1):
            raise Refused("unreadable", f"TIFF tag {tag} holds {count:,} values of type {kind}")
        field = d.entries[tag][12 if d.big else 8 :]
        if (size := count * _ITEM_BYTES[kind]) > len(field):
            (offset,) = struct.unpack(d.order + ("Q" if d.big else "I"), field)
            total += size
            if offset + size > r.size or total > r.size:
                raise Refused("truncated", f"cut off: {r.size:,} bytes do not hold TIFF tag {tag}; copy it again")


def _tiff_whole(r: Reader, d: Directory, size: tuple[int, int], limits: Limits) -> int:
    """Pixels of a strip or tile. Refuse a TIFF of which one is missing or lies outside the file."""
    tiled = 324 in d.entries
    offsets, counts = d.values(r, 324 if tiled else 273), d.values(r, 325 if tiled else 279)
    if tiled:
        w, h = d.value(r, 322, 0), d.value(r, 323, 0)
    else:
        w, h = size[0], min(d.value(r, 278, size[1]), size[1])
    if not w or not h or w * h > limits.max_pixels:
        raise Refused("unreadable", f"a TIFF with strips or tiles of {w} x {h} pixels")
    planes = d.value(r, 277, 1) if d.value(r, 284, 1) == 2 else 1
    if len(offsets) < -(-size[0] // w) * -(-size[1] // h) * planes or len(counts) != len(offsets) or 0 in counts:
        raise Refused("truncated", "a TIFF of which strips or tiles are missing")
    if any(offset + count > r.size for offset, count in zip(offsets, counts, strict=True)):
        raise Refused("truncated", f"cut off: {r.size:,} bytes do not hold all strips of the TIFF; copy it again")
    return w * h
