"""Which files count as pictures: the allow-list by content, and a probe of headers. The rules: docs/pictures.md."""

import os
import stat
import struct
from collections.abc import Callable
from dataclasses import replace
from io import FileIO
from pathlib import Path

from foveate.data.read.avif import avif_header, brands
from foveate.data.read.headers import bmp_header, gif_header, jpeg_header, png_header, webp_header
from foveate.data.read.memory import reduction
from foveate.data.read.netpbm import is_netpbm, netpbm_header
from foveate.data.read.reader import DEFAULT_LIMITS, Header, Limits, Reader, Refused
from foveate.data.read.tiff import tiff_header
from foveate.errors import DataError, printable

__all__ = ["DEFAULT_LIMITS", "EXTENSIONS", "BadImage", "Header", "Limits", "Source", "probe", "shown", "sniff"]

Source = str | Path | bytes

EXTENSIONS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "NETPBM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "AVIF": (".avif",),
}
_FORMAT_OF = {ext: name for name, exts in EXTENSIONS.items() for ext in exts}
_OTHERS = (  # only to say in the error what the file looks like; nothing here is ever opened
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"<svg", "SVG"),
    (b"<?xml", "XML or SVG"),
    (b"<!doctype", "HTML"),
    (b"<html", "HTML"),
    (b"8BPS", "Photoshop"),
    (b"PK\x03\x04", "ZIP"),
    (b"\x00\x00\x00\x0cjP", "JPEG 2000"),
    (b"\x00\x00\x00\x0cJXL", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x01\x00", "icon"),
    (b"P7\n", "PAM"),
    (b"Pf\n", "PFM"),
)
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
# first words of a pointer: of the format, of its two older names, and of the test version of 2013
_LFS = (
    b"version https://git-lfs.github",
    b"version https://hawser.github",
    b"version http://git-media.io/v/",
)
_ANNEX = (b"/annex/objects/", b".git/annex/objects/", b"../.git/annex/objects/")
# lengths that a BMP header can have: its first two letters, BM, say too little
_BMP_HEADERS = {bytes((n, 0, 0, 0)) for n in (12, 40, 52, 56, 64, 108, 124)}
_PARSERS: dict[str, Callable[[Reader, Limits], Header]] = {
    "JPEG": jpeg_header,
    "PNG": png_header,
    "WEBP": webp_header,
    "BMP": bmp_header,
    "TIFF": tiff_header,
    "GIF": gif_header,
    "NETPBM": netpbm_header,
    "AVIF": avif_header,
}


class BadImage(DataError):
    """A picture that is refused. `reason` is a stable code.

    One of annex_pointer empty format lfs_pointer range too_large truncated unreadable.
    """

    def __init__(self, path: str, reason: str, detail: str) -> None:
        super().__init__(path, reason, detail)  # all three, so that the error survives the trip from a worker process
        self.path, self.reason, self.detail = path, reason, detail

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}"


def shown(source: Source) -> str:
    """The name of a source for a message: one printable line, bytes that are not UTF-8 as \\xNN."""
    if isinstance(source, bytes):
        return "picture from memory"
    return printable(os.fspath(source))


def probe(source: Source, limits: Limits = DEFAULT_LIMITS) -> Header:
    """What a picture file is, from its header: a few kilobytes read, nothing decoded. BadImage says why it is refused.

    Formats go by content, never by name; a name that says otherwise is the note "wrong_extension".
    """
    try:
        header, size = look(source, limits)
        reduction(header, size, limits)
    except Refused as refused:
        raise BadImage(shown(source), refused.reason, refused.detail) from None
    except OSError as error:
        raise BadImage(shown(source), "unreadable", f"can not be read ({error.strerror or error})") from None
    if isinstance(source, bytes):
        return header
    said = _FORMAT_OF.get(os.path.splitext(source)[1].lower(), header.format)
    return header if said == header.format else replace(header, notes=tuple(sorted((*header.notes, "wrong_extension"))))


def look(source: Source, limits: Limits) -> tuple[Header, int]:
    """The header of a picture and the bytes of its file, of which only a few are read. Raises Refused."""
    if isinstance(source, bytes):
        return examine(Reader(source), limits), len(source)
    with open_picture(source, limits) as file:
        size = os.fstat(file.fileno()).st_size
        return examine(Reader(file=file, size=size), limits), size


def open_picture(path: str | Path, limits: Limits) -> FileIO:
    """Open a regular file that is not too large (a pipe, socket or device is never opened)."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise Refused("unreadable", "not a regular file")
        if status.st_size > limits.max_file_bytes:
            raise Refused("too_large", f"{status.st_size:,} bytes; at most {limits.max_file_bytes:,}")
        return FileIO(os.fspath(path))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise Refused("unreadable", f"can not be opened ({getattr(error, 'strerror', None) or error})") from None


def examine(reader: Reader, limits: Limits) -> Header:
    """The header of a picture; Refused says why there is none."""
    if reader.size == 0:
        raise Refused("empty", "the file is empty")
    if reader.size > limits.max_file_bytes:
        raise Refused("too_large", f"{reader.size:,} bytes; at most {limits.max_file_bytes:,}")
    head = reader.at(0, min(reader.size, 32))
    parser = _PARSERS.get(sniff(head) or "")
    if parser is None:
        _check_pointer(head)
        text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        like = next((name for magic, name in _OTHERS if text.startswith(magic.lower())), None)
        if brands(head) & _HEIC:
            how = "save it as JPEG, in Python with the package pillow-heif (pip install pillow-heif)"
            raise Refused("format", f"a HEIC picture, which is not read; {how}")
        like = "a video or another ISO media file" if brands(head) else like
        expected = "expected JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or netpbm: convert it or leave it out"
        raise Refused("format", f"{like or 'not a picture'}; {expected}")
    try:
        return parser(reader, limits)
    except (struct.error, IndexError, KeyError, OverflowError, MemoryError) as error:
        raise Refused("unreadable", f"damaged header ({type(error).__name__}: {error})") from None


def _check_pointer(head: bytes) -> None:
    """Refuse the small text files that stand where a version control system has not fetched the pictures."""
    if head.startswith(_LFS):
        raise Refused("lfs_pointer", "a git LFS pointer, not the picture; fetch the pictures: git lfs pull")
    if head.startswith(_ANNEX):
        raise Refused("annex_pointer", "a git-annex pointer, not the picture; fetch the pictures: git annex get .")


def sniff(head: bytes) -> str | None:
    """The format that the first bytes say, or None when it is not on the allow-list."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if head.startswith(b"BM") and head[14:18] in _BMP_HEADERS:
        return "BMP"
    if is_netpbm(head):
        return "NETPBM"
    if brands(head) & {b"avif", b"avis"}:
        return "AVIF"
    return None
