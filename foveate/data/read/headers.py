"""Headers of JPEG, PNG, WebP, BMP and GIF, read without a decoder. The rules are in docs/pictures.md."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from foveate.data.read.reader import Header, Limits, Reader, Refused, check_size, make_header
from foveate.data.read.tiff import exif_orientation

_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def jpeg_segments(reader: Reader, limits: Limits) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of each segment up to the first scan (0xDA), which is the last one given."""
    pos = 2
    for _ in range(limits.max_blocks):
        head = reader.at(pos, 2)
        if head[0] != 0xFF or head[1] == 0 or head[1] == 0xFF:  # stray bytes between segments: libjpeg skips them too
            pos += 1
        elif head[1] == 1 or 0xD0 <= head[1] <= 0xD8:  # markers without a body
            pos += 2
        elif head[1] == 0xD9:
            raise Refused("truncated", "a JPEG that ends before its picture data")
        else:
            end = pos + 2 + int.from_bytes(reader.at(pos + 2, 2), "big")
            yield head[1], pos, end
            if head[1] == 0xDA:
                return
            pos = end
    raise Refused("unreadable", f"more than {limits.max_blocks:,} JPEG segments or stray bytes before the picture data")


def jpeg_header(r: Reader, limits: Limits) -> Header:
    """A JPEG: the first frame header before the first scan; the end marker must be there."""
    notes: list[str] = []
    frame, exif, end, scan, marker_of_frame = b"", b"", 0, b"", 0
    for marker, start, end in jpeg_segments(r, limits):
        if marker in _SOF:
            if frame:
                raise Refused("unreadable", "a JPEG with two frame headers")
            frame, marker_of_frame = r.at(start + 4, max(end - start - 4, 6)), marker
            height, width = struct.unpack(">HH", frame[1:5])
            check_size(width, height, limits)
        elif marker == 0xE1 and not exif and r.at(start + 4, 6) == b"Exif\0\0":
            exif = r.at(start + 10, max(end - start - 10, 0))
        elif marker == 0xE2 and r.at(start + 4, 12) == b"ICC_PROFILE\0":
            notes = ["icc"]
        elif marker == 0xDA:
            scan = r.at(start + 4, 1)
    if not frame:
        raise Refused("unreadable", "a JPEG without a frame header")
    # Cut off anywhere means: no end marker after the first scan. Inside coded data FF D9 can not occur.
    if r.at(r.size - 2, 2) != b"\xff\xd9" and not _holds_end(r, end):
        raise Refused("truncated", f"cut off: {r.size:,} bytes hold no end of the JPEG; copy it again")
    mode = {1: "L", 3: "RGB", 4: "CMYK"}.get(frame[5])
    if mode is None or frame[0] != 8:
        raise Refused(
            "format", f"a JPEG with {frame[5]} channels of {frame[0]} bits; expected 1, 3 or 4 of 8: convert it"
        )
    several = marker_of_frame & 3 == 2 or scan[:1] < frame[5:6]  # progressive, or one scan a channel
    scratch = _coefficients(frame, width, height) if several else 0
    return make_header("JPEG", (width, height), mode, 8, notes, orientation=exif_orientation(exif), scratch=scratch)


def _holds_end(r: Reader, start: int) -> bool:
    """Whether the end marker of a JPEG stands anywhere behind `start`; a megabyte at a time."""
    step = 2**20
    return any(b"\xff\xd9" in r.at(at, min(step + 1, r.size - at)) for at in range(start, r.size, step))


def _coefficients(frame: bytes, width: int, height: int) -> int:
    """Bytes of all coefficients of a JPEG, 2 a sample, which a decoder holds until the last scan."""
    factors = [(n >> 4, n & 15) for n in frame[7 : 6 + 3 * frame[5] : 3]]
    across, down = max((h for h, _ in factors), default=1), max((v for _, v in factors), default=1)
    if not across or not down or any(not h or not v for h, v in factors):
        raise Refused("unreadable", "a JPEG whose channels have no samples")
    return sum(2 * (-(-width * h // across) + 8 * h) * (-(-height * v // down) + 8 * v) for h, v in factors)


def png_chunks(reader: Reader, limits: Limits) -> Iterator[tuple[bytes, int, int]]:
    """(type, start of the body, length) of each chunk; IEND is the last one."""
    pos = 8
    for _ in range(limits.max_blocks):
        head = reader.at(pos, 8)
        length = int.from_bytes(head[:4], "big")
        yield head[4:], pos + 8, length
        if head[4:] == b"IEND":
            reader.at(pos + 8 + length, 4)
            return
        pos += 12 + length
    raise Refused("unreadable", f"more than {limits.max_blocks:,} PNG chunks")


def png_header(r: Reader, limits: Limits) -> Header:
    """A PNG, down to its last chunk. Text and colour profiles are skipped, never unpacked."""
    width, height, bits, colour = struct.unpack(">IIBB", r.at(16, 10))
    if r.at(12, 4) != b"IHDR":
        raise Refused("unreadable", "a PNG that does not start with its header")
    check_size(width, height, limits)
    mode = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}.get(colour)
    if mode is None or bits not in (1, 2, 4, 8, 16):
        raise Refused("unreadable", f"a PNG with colour type {colour} and {bits} bits")
    notes, frames, exif = {"alpha"} if mode in ("LA", "RGBA") else set(), 1, b""
    for kind, start, length in png_chunks(r, limits):
        if kind == b"tRNS":
            notes.add("alpha")
        elif kind == b"iCCP":
            notes.add("icc")
        elif kind == b"eXIf" and length < 2**20:
            exif = r.at(start, length)
        elif kind == b"acTL":
            frames = min(max(int.from_bytes(r.at(start, 4), "big"), 1), 2)
    return make_header(
        "PNG", (width, height), mode, bits, list(notes), orientation=exif_orientation(exif), frames=frames
    )


def webp_header(r: Reader, limits: Limits) -> Header:
    """A WebP: the canvas; the length that the file states must be there."""
    r.at(7 + int.from_bytes(r.at(4, 4), "little"), 1)  # the length that the file says must be there
    kind, head = r.at(12, 4), r.at(20, 10)
    notes: list[str] = []
    frames, exif = 1, b""
    if kind == b"VP8 " and head[3:6] == b"\x9d\x01\x2a":
        width, height = (n & 0x3FFF for n in struct.unpack("<HH", head[6:10]))
    elif kind == b"VP8L" and head[0] == 0x2F:
        packed = int.from_bytes(head[1:5], "little")
        width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
        notes = ["alpha"] if packed >> 28 & 1 else []
    elif kind == b"VP8X":
        width, height = (int.from_bytes(head[i : i + 3], "little") + 1 for i in (4, 7))
        notes = [note for bit, note in ((0x20, "icc"), (0x10, "alpha")) if head[0] & bit]
        frames = 2 if head[0] & 2 else 1
    else:
        raise Refused("unreadable", "a WebP without a picture")
    check_size(width, height, limits)
    if kind == b"VP8X" and head[0] & 8:
        pos, end = 12, 8 + int.from_bytes(r.at(4, 4), "little")
        for _ in range(limits.max_blocks):
            if pos + 8 > end or exif:
                break
            length = int.from_bytes(r.at(pos + 4, 4), "little")
            if r.at(pos, 4) == b"EXIF" and length < 2**20:
                exif = r.at(pos + 8, length)
            pos += 8 + length + (length & 1)
    mode = "RGBA" if "alpha" in notes else "RGB"
    return make_header("WEBP", (width, height), mode, 8, notes, orientation=exif_orientation(exif), frames=frames)


def bmp_header(r: Reader, limits: Limits) -> Header:
    """A BMP without run-length coding; all rows must be there."""
    offset, size = struct.unpack("<II", r.at(10, 8))
    if size == 12:
        width, height, _, bits = struct.unpack("<HHHH", r.at(18, 8))
        compression, masks = 0, b""
    else:
        width, height, _, bits, compression = struct.unpack("<iiHHI", r.at(18, 16))
        masks = r.at(54, 16) if compression == 3 and size >= 56 else b""
    check_size(width, abs(height), limits)
    if compression not in (0, 3):
        raise Refused("format", "a BMP with run-length or embedded compression; convert it to PNG")
    r.at(offset + (width * bits + 31) // 32 * 4 * abs(height) - 1, 1)  # all rows must be there
    notes = ["alpha"] if masks[12:] not in (b"", bytes(4)) else []
    return make_header(
        "BMP", (width, abs(height)), "P" if bits <= 8 else "RGBA" if notes else "RGB", min(bits, 8), notes
    )


@dataclass(frozen=True)
class GifFrame:
    """The first frame of a GIF by offsets; `control` is 0 where there is none, `more` says whether frames follow."""

    size: tuple[int, int]
    screen_end: int
    control: int
    start: int
    end: int
    transparent: bool
    more: bool


def gif_first_frame(r: Reader, limits: Limits) -> GifFrame:
    """Walk to the end of the first frame. Later frames are not read."""
    width, height, flags = struct.unpack("<HHB", r.at(6, 5))
    check_size(width, height, limits)
    pos = screen_end = 13 + _gif_colours(flags)
    control, transparent, blocks = 0, False, 0
    while (kind := r.at(pos, 1)) == b"!":
        if r.at(pos + 1, 2) == b"\xf9\x04":
            control, transparent = pos, bool(r.at(pos + 3, 1)[0] & 1)
        pos, blocks = _gif_skip(r, pos + 2, blocks + 1, limits.max_blocks)
    if kind != b",":
        raise Refused("unreadable", "a GIF without a picture")
    left, top, w, h, flags = struct.unpack("<HHHHB", r.at(pos + 1, 9))
    # a frame beyond the screen enlarges it, as in Pillow
    size = (max(width, left + w), max(height, top + h))
    check_size(*size, limits)
    enough = limits.max_blocks + w * h // 64  # a block holds up to 255 bytes, a pixel needs at most 12 bits
    end, _ = _gif_skip(r, pos + 11 + _gif_colours(flags), 0, enough)
    after = r.at(end, 1)  # a trailer, or another block: else the file is cut off
    return GifFrame(size, screen_end, control, pos, end, transparent, after in (b"!", b","))


def _gif_colours(flags: int) -> int:
    """Bytes of the colour table that the flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _gif_skip(r: Reader, pos: int, blocks: int, most: int) -> tuple[int, int]:
    """The offset after a chain of data blocks, and the number of blocks so far."""
    while (n := r.at(pos, 1)[0]) and blocks <= most:
        pos, blocks = pos + 1 + n, blocks + 1
    if blocks > most:
        raise Refused("unreadable", f"more than {most:,} GIF blocks; save it anew")
    return pos + 1, blocks


def gif_header(r: Reader, limits: Limits) -> Header:
    """A GIF: its first frame, which must be whole; later frames are not read."""
    frame = gif_first_frame(r, limits)
    notes = ["alpha"] if frame.transparent else []
    return make_header("GIF", frame.size, "P", 8, notes, frames=2 if frame.more else 1)
