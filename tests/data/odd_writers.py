"""Writers of picture files for the tests: by Pillow, or byte by byte where Pillow can not write the odd thing."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def saved(array: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(array: np.ndarray | Image.Image, **options: object) -> bytes:
    return saved(array, "JPEG", **{"quality": 95, "subsampling": 0, **options})


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, bits: int, colour: int, packed: bytes, *extra: bytes) -> bytes:
    """A PNG of already compressed data; extra chunks go before the data."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def png_rows(array: np.ndarray) -> bytes:
    """Unfiltered rows of an array, compressed; 16-bit samples big-endian."""
    rows = array.reshape(array.shape[0], -1)
    rows = rows.astype(">u2") if rows.dtype == np.uint16 else rows
    return zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))


def interlaced(array: np.ndarray, passes: int = 7) -> bytes:
    """An Adam7 PNG of 8-bit RGB, whole or with its last passes left out."""
    starts = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = [b"\0" + row.tobytes() for y, x, dy, dx in starts[:passes] for row in array[y::dy, x::dx]]
    head = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 8, 2, 0, 0, 1)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, body) for kind, body in parts)


def zeros(count: int) -> bytes:
    """A zlib stream of `count` zero bytes, made at once: one flushed block, repeated (adler32 of n zeros is known)."""
    packer = zlib.compressobj(9)
    start = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    blocks = max(1, count // 2**20)
    return start + block * (blocks - 1) + b"\x03\x00" + struct.pack(">HH", blocks * 2**20 % 65521, 1)


def tiff(
    array: np.ndarray, tags: dict[int, tuple[int, ...]], *, order: str = "<", big: bool = False, pages: int = 1
) -> bytes:
    """An uncompressed TIFF of one strip, or of many small pages that share it; tags as tag -> values (all 16 bits)."""
    data = array.astype(array.dtype.newbyteorder(order)).tobytes()
    head = {"<": b"II", ">": b"MM"}[order]
    samples = 1 if array.ndim == 2 else array.shape[2]
    start, inline = (16, 8) if big else (8, 4)
    rows = {256: array.shape[1:2], 257: array.shape[:1], 258: (array.dtype.itemsize * 8,) * samples, 259: (1,)}
    rows |= {262: (2,) if samples >= 3 else (1,), 277: (samples,), 278: array.shape[:1], **tags}
    body = bytearray(data + bytes(-len(data) % 8))
    fields: dict[int, bytes] = {}
    for tag, values in rows.items():
        raw = struct.pack(f"{order}{len(values)}H", *values)
        if len(raw) > inline:
            fields[tag] = struct.pack(order + ("Q" if big else "I"), start + len(body))
            body += raw + bytes(-len(raw) % 8)
        else:
            fields[tag] = raw.ljust(inline, b"\0")
    size = (8 + 20 * (len(rows) + 2) + 8) if big else (2 + 12 * (len(rows) + 2) + 4)
    first = start + len(body)
    for page in range(pages):
        entries = [(tag, 3, len(values), fields[tag]) for tag, values in rows.items()]
        longs = {273: start, 279: len(data)}
        entries += [(t, 16 if big else 4, 1, struct.pack(order + ("Q" if big else "I"), v)) for t, v in longs.items()]
        body += struct.pack(order + ("Q" if big else "H"), len(entries))
        for tag, kind, count, field in sorted(entries):
            body += struct.pack(order + ("HHQ" if big else "HHI"), tag, kind, count) + field
        following = first + size * (page + 1) if page + 1 < pages else 0
        body += struct.pack(order + ("Q" if big else "I"), following)
    if big:
        return head + struct.pack(order + "HHHQ", 43, 8, 0, first) + bytes(body)
    return head + struct.pack(order + "HI", 42, first) + bytes(body)


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[274] = orientation
    return made


def stored(array: np.ndarray, orientation: int) -> np.ndarray:
    """How a camera stores an upright picture so that this orientation shows it upright (EXIF 2.32, tag 274)."""
    turned = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    return np.ascontiguousarray(turned[orientation](array))
