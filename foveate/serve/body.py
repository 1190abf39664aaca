"""The body of a request, read with limits: pictures of a multipart form, or one raw body."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from foveate.serve.http import Gone, HttpError, Request
from foveate.serve.settings import Settings

MAX_NAME = 255  # characters of a name that are told back


@dataclass(frozen=True)
class Part:
    """A picture as it came."""

    name: str
    data: bytes


class Held:
    """Bytes of bodies that are in memory now, of all requests."""

    def __init__(self, most: int) -> None:
        self.most, self.bytes = most, 0

    @contextlib.contextmanager
    def counting(self) -> Iterator["Holding"]:
        """What is taken inside is given back at the end."""
        holding = Holding(self)
        try:
            yield holding
        finally:
            self.bytes -= holding.bytes


class Holding:
    """The share of one request."""

    def __init__(self, held: Held) -> None:
        self.held, self.bytes = held, 0

    def take(self, n: int) -> None:
        """Count n more. HttpError 503 where all together hold too much."""
        if self.held.bytes + n > self.held.most:
            raise HttpError(503, "busy", "too many large requests at a time; try again", retry_s=1, close=True)
        self.held.bytes += n
        self.bytes += n


async def pieces(request: Request, settings: Settings, most: int) -> AsyncIterator[bytes]:
    """The body as it comes. HttpError 413 for one that is too large, 408 for one that takes too long; Gone."""
    announced = request.headers.get("content-length")
    if announced is not None and int(announced) > most:  # h11 has refused what is no number
        raise HttpError(413, "too_large", f"the body has {int(announced):,} bytes; at most {most:,}", close=True)
    if "content-encoding" in request.headers:
        raise HttpError(415, "encoding", "a body with Content-Encoding is not read; send it plain", close=True)
    until = asyncio.get_running_loop().time() + settings.body_s
    while True:
        try:
            async with asyncio.timeout_at(until):
                message = await request.receive()
        except TimeoutError:
            raise HttpError(408, "slow", f"the body took over {settings.body_s:g} s", close=True) from None
        if message["type"] == "http.disconnect":
            raise Gone
        piece = message.get("body", b"")
        request.body_bytes += len(piece)
        if request.body_bytes > most:
            raise HttpError(413, "too_large", f"the body has over {most:,} bytes", close=True)
        if piece:
            yield piece
        if not message.get("more_body"):
            return


async def whole(request: Request, settings: Settings, holding: Holding, most: int) -> bytes:
    """All of a body."""
    data = bytearray()
    async for piece in pieces(request, settings, most):
        holding.take(len(piece))
        data += piece
    return bytes(data)


async def pictures_of(request: Request, settings: Settings, holding: Holding) -> list[Part]:
    """The pictures of a request in order: every part of a multipart form, whatever its field is called, or the body.

    HttpError 400 for a form that can not be read, 413 for too many parts, 415 for JSON.
    """
    kind = request.headers.get("content-type", "")
    word = kind.partition(";")[0].strip().lower()
    if word == "application/json" or word.endswith("+json"):
        raise HttpError(415, "kind", "JSON is not read; send pictures as multipart/form-data or one as the raw body")
    if word != "multipart/form-data":
        if word.startswith("multipart/"):
            raise HttpError(415, "kind", f"{word[:40]} is not read; send multipart/form-data", close=True)
        data = await whole(request, settings, holding, settings.max_body)
        if not data:
            raise HttpError(400, "empty", "no picture: send one as the body, or several as multipart/form-data")
        return [Part(request.query.get("name", "")[:MAX_NAME], data)]
    form = Form(kind, settings.max_parts)
    async for piece in pieces(request, settings, settings.max_body):
        holding.take(len(piece))
        form.write(piece)
    return form.end()


class Form:
    """multipart/form-data, read as it comes."""

    def __init__(self, kind: str, most: int) -> None:
        from python_multipart.exceptions import FormParserError
        from python_multipart.multipart import MultipartParser, parse_options_header

        self.wrong, self.options, self.most = FormParserError, parse_options_header, most
        boundary = parse_options_header(kind)[1].get(b"boundary")
        if not boundary:
            raise HttpError(400, "form", "multipart/form-data without a boundary", close=True)
        self.parts: list[Part] = []
        self.ended = False
        self._name, self._value, self._headers, self._data = bytearray(), bytearray(), dict[bytes, bytes](), bytearray()
        try:
            self.parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_part_data": self._take,
                    "on_part_end": self._finish,
                    "on_header_field": self._field,
                    "on_header_value": self._content,
                    "on_header_end": self._header,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise HttpError(400, "form", f"the form can not be read: {_line(error)}", close=True) from None

    def write(self, piece: bytes) -> None:
        """The next bytes."""
        try:
            self.parser.write(piece)
        except self.wrong as error:
            raise HttpError(400, "form", f"the form can not be read: {_line(error)}", close=True) from None

    def end(self) -> list[Part]:
        """All parts, when the last byte is there."""
        if not self.ended:
            raise HttpError(400, "form", "the form is cut off: its last boundary is missing", close=True)
        if not self.parts:
            raise HttpError(400, "empty", "no picture: the form has no parts")
        return self.parts

    def _begin(self) -> None:
        if len(self.parts) >= self.most:
            raise HttpError(413, "too_many", f"over {self.most} pictures in one request; send several", close=True)
        self._headers, self._data = {}, bytearray()

    def _take(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _content(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def _finish(self) -> None:
        told = self.options(self._headers.get(b"content-disposition"))[1]
        name = told.get(b"filename", told.get(b"name", b"")).decode("utf-8", "replace")
        self.parts.append(Part(name[:MAX_NAME], bytes(self._data)))

    def _end(self) -> None:
        self.ended = True


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
