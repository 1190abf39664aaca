"""Headers of AVIF pictures, read without a decoder: the boxes of ISO/IEC 23008-12 (HEIF) and AVIF."""

import struct
from collections.abc import Iterator

from foveate.data.read.reader import Header, Limits, Reader, Refused, check_size, make_header

# (quarter turns to the left, mirrored about: None, 0 top and bottom swapped, 1 left and right) -> EXIF orientation
_ORIENTATION = {
    (0, None): 1,
    (0, 1): 2,
    (2, None): 3,
    (0, 0): 4,
    (1, 0): 5,
    (3, None): 6,
    (1, 1): 7,
    (1, None): 8,
    (2, 0): 2,
    (2, 1): 4,
    (3, 0): 7,
    (3, 1): 5,
}
_BOXES = 4096  # read of one file at most
_META_BYTES = 2**20  # of the box that holds all that is wanted


def brands(head: bytes) -> set[bytes]:
    """The brands that the first box of an ISO file names; empty for any other file. head: its first bytes."""
    if head[4:8] != b"ftyp":
        return set()
    length = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12]} | {head[i : i + 4] for i in range(16, length - 3, 4)}


def avif_header(r: Reader, limits: Limits) -> Header:
    """Size, turning and alpha of the picture that the file shows. All boxes must lie inside the file."""
    meta = b""
    pos = count = 0
    while pos < r.size:
        length, kind, body = _box(r, pos, r.size)
        if kind == b"meta" and not meta:
            if length > _META_BYTES:
                raise Refused("too_large", f"an AVIF with {length:,} bytes about itself; save it anew")
            meta = r.at(body + 4, pos + length - body - 4)
        pos += length
        if (count := count + 1) > _BOXES:
            raise Refused("unreadable", f"more than {_BOXES:,} boxes in an AVIF")
    boxes = {kind: (start, end) for kind, start, end in _boxes(meta, 0, len(meta))}
    if not {b"pitm", b"iprp"} <= boxes.keys():
        raise Refused("format", "an AVIF without a still picture; convert it to PNG")
    start, _ = boxes[b"pitm"]
    primary = struct.unpack_from(">H" if meta[start] == 0 else ">I", meta, start + 4)[0]
    properties, owned = _properties(meta, *boxes[b"iprp"], primary)
    size, turns, mirror = (0, 0), 0, None
    for name, value in (properties[i - 1] for i in owned if 1 <= i <= len(properties)):
        if name == b"ispe":
            size = struct.unpack_from(">II", value, 4)
        elif name == b"irot":
            turns = value[0] & 3
        elif name == b"imir":
            mirror = value[0] & 1
    for name, value in properties:  # tiles, and what else the decoder may unpack
        if name == b"ispe":
            width, height = struct.unpack_from(">II", value, 4)
            check_size(width, height, limits)
    check_size(*size, limits)
    alpha = any((kind == b"auxC" and b"alpha" in body) or b"auxid:1" in body for kind, body in properties)
    notes = ["alpha"] if alpha else []
    notes += ["icc"] if any(kind == b"colr" and body[:4] in (b"prof", b"rICC") for kind, body in properties) else []
    frames = 2 if b"avis" in brands(r.at(0, min(r.size, 64))) else 1
    mode = "RGBA" if alpha else "RGB"
    return make_header("AVIF", size, mode, 8, notes, orientation=_ORIENTATION[turns, mirror], frames=frames)


def _box(r: Reader, pos: int, end: int) -> tuple[int, bytes, int]:
    """(length, type, start of the body) of the box at pos; a length of 0 means: to the end."""
    length, kind, body = *struct.unpack(">I4s", r.at(pos, 8)), pos + 8
    if length == 1:
        length, body = int.from_bytes(r.at(pos + 8, 8), "big"), pos + 16
    length = length or end - pos
    if length < body - pos or pos + length > end:
        raise Refused("truncated", f"cut off: {r.size:,} bytes are not the whole file; copy it again")
    return length, kind, body


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, start, end) of the bodies of the boxes in a part of data."""
    r = Reader(data)
    for _ in range(_BOXES):
        if start >= end:
            return
        length, kind, body = _box(r, start, end)
        yield kind, body, start + length
        start += length
    raise Refused("unreadable", f"more than {_BOXES:,} boxes in an AVIF")


def _properties(meta: bytes, start: int, end: int, item: int) -> tuple[list[tuple[bytes, bytes]], list[int]]:
    """([(type, body)] of all properties, places from 1 of those of one item)."""
    properties: list[tuple[bytes, bytes]] = []
    owned: list[int] = []
    for kind, first, last in _boxes(meta, start, end):
        if kind == b"ipco":
            properties += [(name, meta[a:b]) for name, a, b in _boxes(meta, first, last)]
        elif kind == b"ipma":
            wide, long = meta[first + 3] & 1, meta[first] > 0
            (entries,) = struct.unpack_from(">I", meta, first + 4)
            pos = first + 8
            for _ in range(min(entries, _BOXES)):
                (which,) = struct.unpack_from(">I" if long else ">H", meta, pos)
                pos += 4 if long else 2
                n, pos = meta[pos], pos + 1
                for _ in range(n):
                    place = struct.unpack_from(">H", meta, pos)[0] & 0x7FFF if wide else meta[pos] & 0x7F
                    pos += 2 if wide else 1
                    if which == item:
                        owned.append(place)
    return properties, owned
