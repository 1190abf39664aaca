"""A process that decodes pictures of strangers, with limits, and may die: the server starts another.

Over one socket come a head, a Preprocess as JSON and the bytes of a file; back goes a head and the picture as the
network's file wants it (framed), or the reason why not. Its memory is limited by the system, it writes no file, and it
ends when its server does.
"""

import json
import os
import signal
import socket
import struct
from functools import lru_cache
from typing import Any

from foveate.config import from_json
from foveate.data.preprocess import Preprocess, framed, needed
from foveate.data.read.decode import opened
from foveate.data.read.formats import BadImage
from foveate.data.read.reader import Limits

ASK = struct.Struct("<II")  # bytes of the Preprocess, bytes of the picture
REPLY = struct.Struct("<BIIII")  # good or not, width and height of the picture, side of what follows, bytes that follow
MEMORY = 768 * 2**20  # bytes above what the process has when it starts: the largest picture takes 448 MB
FILES = 32  # open files
LIMITS = Limits(max_pixels=50_000_000)
MAX_TEXT = 4096  # bytes of a reason


def main(descriptor: int) -> None:
    """Answer until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the server decides when to end
    connection = socket.socket(fileno=descriptor)
    _warm()
    limit()
    connection.sendall(REPLY.pack(1, 0, 0, 0, 0))  # ready
    while (head := _exactly(connection, ASK.size)) is not None:
        settings, size = ASK.unpack(head)
        text, data = _exactly(connection, settings), _exactly(connection, size)
        if text is None or data is None:
            return
        connection.sendall(answer(bytes(text).decode(), bytes(data)))


def answer(preprocess: str, data: bytes) -> bytes:
    """The reply to one picture."""
    try:
        p = _preprocess(preprocess)
        with opened(data, LIMITS, background=p.background, need=needed(p)) as image:
            width, height = image.size
            pixels = framed(image, p)
        return REPLY.pack(1, width, height, len(pixels), pixels.nbytes) + pixels.tobytes()
    except BadImage as error:
        reason, detail = error.reason, error.detail
    except MemoryError:
        reason, detail = "too_large", "it takes more memory to decode than this server gives; shrink it"
    told = json.dumps({"reason": reason, "detail": detail[: MAX_TEXT // 8]}).encode()
    return REPLY.pack(0, 0, 0, 0, len(told)) + told


@lru_cache(maxsize=64)
def _preprocess(text: str) -> Preprocess:
    made: Preprocess = from_json(Preprocess, text, "preprocess")
    return made


def _warm() -> None:
    """Load what decoding needs before the limits hold: decoders are loaded at the first picture."""
    from io import BytesIO

    from PIL import Image

    for kind in ("PNG", "JPEG"):
        file = BytesIO()
        Image.new("RGB", (8, 8)).save(file, kind)
        answer('{"resolution": 8, "resize": 8}', file.getvalue())


def limit(memory: int = MEMORY) -> None:
    """Ask the system to hold the limits; where it can not (Windows), the checks of headers remain."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    if (now := _address_space()) is not None:
        resource.setrlimit(resource.RLIMIT_AS, (now + memory, now + memory))


def _address_space() -> int | None:
    """Bytes of address space that this process has; None where that can not be read."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _exactly(connection: Any, n: int) -> bytearray | None:
    """n bytes; None where the other end is gone."""
    data = bytearray(n)
    view, at = memoryview(data), 0
    while at < n:
        got = connection.recv_into(view[at:])
        if not got:
            return None
        at += got
    return data
