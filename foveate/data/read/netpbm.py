"""Netpbm pictures: P1 to P6, plain and packed (.pbm, .pgm, .ppm). Source: the format pages of netpbm.sourceforge.net.

Read here and not by Pillow, which goes through every sample of an odd maximum in Python and cuts samples beyond it.
"""

import re

import numpy as np
from PIL import Image

from foveate.data.read.reader import Header, Limits, Reader, Refused, check_size, make_header

_BLANKS = b" \t\n\v\f\r"
_HEAD_BYTES = 8192  # of magic, comments and numbers
_PLAIN_BYTES = 64 * 2**20  # of a picture in decimal digits; packed it has a quarter of them
_NUMBER = re.compile(rb"(?:[ \t\n\v\f\r]|#[^\r\n]*[\r\n])*([0-9]{1,10})(?=[ \t\n\v\f\r#])")
_COMMENT = re.compile(rb"#[^\r\n]*")


def is_netpbm(head: bytes) -> bool:
    """Whether the first bytes are P1 to P6 and then a blank or a comment."""
    return len(head) > 2 and head[0] == 0x50 and head[1] in b"123456" and head[2] in _BLANKS + b"#"


def _numbers(r: Reader) -> tuple[int, int, int, int]:
    """(width, height, largest sample, where the samples begin). Text that only begins like a picture is refused."""
    head = r.at(0, min(r.size, _HEAD_BYTES))
    found, place = [], 2
    for _ in range(2 if head[1] in b"14" else 3):
        match = _NUMBER.match(head, place)
        if match is None:
            raise Refused("format", "begins like a netpbm picture, but its size does not follow; leave it out")
        found.append(int(match[1]))
        place = match.end()
    top = found[2] if len(found) == 3 else 1
    if not 1 <= top <= 65_535:
        raise Refused("unreadable", f"a netpbm picture with the largest sample {top:,}; expected 1 to 65,535")
    if head[place] == 0x23:  # a comment behind the last number: its end is the one blank before the samples
        match = re.compile(rb"#[^\r\n]*[\r\n]").match(head, place)
        place = match.end() - 1 if match else len(head) - 1
    return found[0], found[1], top, place + 1


def netpbm_header(r: Reader, limits: Limits) -> Header:
    """The size, and whether there are bytes enough for every sample."""
    kind = r.at(1, 1)[0] - 0x30
    width, height, top, start = _numbers(r)
    check_size(width, height, limits)
    bands = 3 if kind in (3, 6) else 1
    samples = width * height * bands
    if kind <= 3 and r.size > _PLAIN_BYTES:
        raise Refused("too_large", f"a netpbm picture of {r.size:,} bytes of text; save it as P4, P5, P6 or PNG")
    need = {1: samples, 2: 2 * samples - 1, 3: 2 * samples - 1, 4: -(-width // 8) * height}.get(
        kind, samples * (2 if top > 255 else 1)
    )
    if r.size < start + need:
        raise Refused("truncated", f"cut off: {r.size:,} bytes are not the whole file; copy it again")
    mode = "RGB" if bands == 3 else "1" if kind in (1, 4) else "I" if top > 255 else "L"
    # what netpbm_pixels holds beside the pixels: numbers of 64 bits for text, of 32 where samples are scaled
    scratch = 36 * samples + 8 * r.size if kind <= 3 else 12 * samples if top != 255 else 0
    bits = 16 if top > 255 else 1 if mode == "1" else 8
    return make_header("NETPBM", (width, height), mode, bits, [], scratch=scratch)


def netpbm_pixels(data: bytes, header: Header) -> Image.Image:
    """All pixels: L or RGB, round(255 x / largest sample). A sample beyond the largest is refused, never cut."""
    kind = data[1] - 0x30
    _, _, top, start = _numbers(Reader(data))
    width, height, bands = header.width, header.height, 3 if kind in (3, 6) else 1
    count = width * height * bands
    samples: np.ndarray
    if kind == 4:
        packed = np.frombuffer(data, np.uint8, -(-width // 8) * height, start).reshape(height, -1)
        samples = 1 - np.unpackbits(packed, axis=1)[:, :width]
    elif kind == 1:
        samples = 1 - _digits(data[start:], count, single=True)
    elif kind in (2, 3):
        samples = _digits(data[start:], count)
    else:
        samples = np.frombuffer(data, ">u2" if top > 255 else np.uint8, count, start)
    if kind != 4 and not 0 <= int(samples.min()) <= int(samples.max()) <= top:
        raise Refused("range", f"a sample beyond the largest that the file names, {top:,}; save it anew")
    if top != 255:
        samples = (samples.astype(np.uint32) * 255 + top // 2) // top
    pixels = samples.astype(np.uint8).reshape((height, width, 3) if bands == 3 else (height, width))
    return Image.fromarray(pixels)


def _digits(text: bytes, count: int, *, single: bool = False) -> np.ndarray:
    """The first `count` decimal numbers of a text, int64. single: every digit is one, with or without blanks."""
    codes = np.frombuffer(_COMMENT.sub(b"", text), np.uint8)
    digit = (codes >= 0x30) & (codes <= 0x39)
    ends = np.flatnonzero(digit if single else digit & ~np.append(digit[1:], False))[:count]
    if len(ends) < count:
        raise Refused("truncated", f"the data end after {len(ends):,} of {count:,} samples; copy it again")
    used = slice(0, int(ends[-1]) + 1)
    if not np.all(digit[used] | np.isin(codes[used], np.frombuffer(_BLANKS, np.uint8))):
        raise Refused("unreadable", "a plain netpbm picture with other signs than digits and blanks; copy it again")
    values = codes[ends].astype(np.int64) - 0x30
    if single:
        return values
    inside = np.ones(count, bool)
    for place in range(1, 6):
        at = ends - place
        inside &= (at >= 0) & digit[np.maximum(at, 0)]
        values += np.where(inside, (codes[np.maximum(at, 0)].astype(np.int64) - 0x30) * 10**place, 0)
    return values
