"""How much memory a picture takes until it is RGB, told from its header, and who may take it when.

The numbers are what Pillow allocates: 4 bytes a pixel for every mode of several channels, 1 for grey and palettes. They
are held by a test that decodes one file of each kind in a process of its own and measures it.
"""

import contextlib
import ctypes
import threading
from collections.abc import Iterator

from foveate.data.read.reader import Header, Limits, Refused

USUAL = 112 * 2**20  # bytes of one picture below which it waits for nobody: 16 megapixels of RGB
_SINGLE = frozenset({"1", "L", "P"})  # modes of 1 byte a pixel
_UNKNOWN = 16  # bytes a pixel of formats that have no line here
_BANDS = 16 * 2**20  # what is converted at a time, and rows inside decoders
_KNOWN = frozenset({"JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"})


def bytes_needed(header: Header, file_bytes: int, reduced: int = 1) -> int:
    """The most bytes that are held at one time until a picture is an array of RGB: file, decoder, copies.

    reduced: the fraction 1/n at which a JPEG is decoded.
    """
    pixels = -(-header.width // reduced) * -(-header.height // reduced)
    stored = pixels * ((1 if header.bits <= 8 else 2) if header.mode in _SINGLE else 4)
    rgb, copies = 4 * pixels, 1
    decoder = stored + header.scratch
    if header.format in ("PNG", "GIF"):  # decoded twice where the last row is black: does it end early?
        decoder += stored
    elif header.format == "WEBP":  # two canvases of libwebp and the copy that it hands over
        decoder, copies = 12 * pixels, 4
    elif header.format == "TIFF":
        copies = 2  # libtiff gets one of its own
    elif header.format == "NETPBM":  # read with numpy: samples that are not of 8 bits are scaled in 32
        samples = pixels * (3 if header.mode == "RGB" else 1)
        decoder += samples * (1 if header.bits == 8 else 13)
    elif header.format not in _KNOWN:
        decoder, copies = _UNKNOWN * pixels, 2
    steps = [decoder, stored + (rgb if header.mode != "RGB" else 0), rgb + 3 * pixels]
    steps += [2 * rgb] if header.orientation != 1 else []
    return _BANDS + max(2 * file_bytes, copies * file_bytes + max(steps))


def reduction(header: Header, file_bytes: int, limits: Limits) -> int:
    """1, 2, 4 or 8: the fraction of its size at which a picture can be decoded within Limits.max_bytes.

    Only a JPEG can be decoded at less than its size. Refused where nothing helps.
    """
    for n in (1, 2, 4, 8) if header.format == "JPEG" else (1,):
        if (needed := bytes_needed(header, file_bytes, n)) <= limits.max_bytes:
            return n
    what = f"{header.width} x {header.height} pixels of {header.format} {header.mode}"
    raise Refused(
        "too_large",
        f"{what} take {needed / 1e6:,.0f} MB to decode; at most {limits.max_bytes / 1e6:,.0f}: "
        "shrink it or raise Limits.max_bytes",
    )


class Turns:
    """Bytes that all threads of a process share: large pictures are decoded side by side only as far as they fit."""

    def __init__(self) -> None:
        self.taken, self.free = 0, threading.Condition()

    @contextlib.contextmanager
    def hold(self, needed: int, most: int) -> Iterator[None]:
        """Take that many bytes of `most`, as soon as they are there; one picture alone always may. Never nested."""
        if needed <= min(USUAL, most):
            yield
            return
        with self.free:
            self.free.wait_for(lambda: self.taken == 0 or self.taken + needed <= most)
            self.taken += needed
        try:
            yield
        finally:
            give_back()
            with self.free:
                self.taken -= needed
                self.free.notify_all()


def give_back() -> None:
    """Ask the allocator for its free memory back to the system: glibc keeps it for each thread, hundreds of megabytes.

    Other systems do so by themselves, or have no such call.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


TURNS = Turns()  # one for the process: threads of different pools share one memory
