"""HTTP/1.1 connections that end: uvicorn's with a deadline for headers and unread answers, and a limit of how many.

uvicorn waits for a request as long as its bytes trickle in, and for a client to read as long as it likes.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import h11

from foveate.serve.settings import Settings

TINY_CHUNKS, LEAST_CHUNK = 1000, 64  # so many chunks may be of any size; more have so many bytes on average
TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
WRONG = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Counted(h11.Connection):
    """Refuses a body of very many very small chunks: each takes as long to read as a large one."""

    chunks = size = 0

    def next_event(self) -> Any:
        """The next event, as h11 has it."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.chunks = self.size = 0
        elif isinstance(event, h11.Data):
            self.chunks += 1
            self.size += len(event.data)
            if self.chunks > TINY_CHUNKS and self.size < LEAST_CHUNK * self.chunks:
                raise h11.RemoteProtocolError("chunks are too small")
        return event


class Connections:
    """The connections of a server on which no request is under way, the oldest first."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.open = settings, 0
        self.idle: dict[Any, None] = {}

    def make_room(self) -> None:
        """Cut the oldest idle one where there are too many."""
        if self.open > self.settings.connections and self.idle:
            oldest = next(iter(self.idle))
            del self.idle[oldest]
            oldest.transport.abort()


def protocol_of(connections: Connections) -> Callable[..., Any]:
    """The class of connections that share these limits."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    limits = connections.settings

    class Protocol(H11Protocol):
        """One connection."""

        def __init__(self, *words: Any, **named: Any) -> None:
            super().__init__(*words, **named)
            self.conn = Counted(h11.SERVER, limits.max_header_bytes)
            self.header_timer: asyncio.TimerHandle | None = None
            self.send_timer: asyncio.TimerHandle | None = None
            self.counted = False

        @property
        def busy(self) -> bool:
            """Whether a request is under way."""
            return self.cycle is not None and not self.cycle.response_complete

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            connections.open += 1
            self.counted = True
            connections.idle[self] = None
            self._await_headers()
            connections.make_room()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop(self.header_timer, self.send_timer)
            if self.counted:
                connections.open -= 1
                self.counted = False
            connections.idle.pop(self, None)
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if not self.busy and self.header_timer is None:
                self._await_headers()
            super().data_received(data)
            if self.busy:
                self._stop(self.header_timer)
                self.header_timer = None
                connections.idle.pop(self, None)
            self._close_in_time()

        def send_400_response(self, msg: str) -> None:
            if self.transport.is_closing():
                return
            if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
                self.transport.abort()  # an answer is under way: another one can not be told from it
                return
            self.transport.write(WRONG)
            self.transport.close()

        def on_response_complete(self) -> None:
            connections.idle[self] = None
            super().on_response_complete()
            if self.busy:  # the next request was there already
                connections.idle.pop(self, None)
            self._close_in_time()

        def pause_writing(self) -> None:
            super().pause_writing()
            if self.send_timer is None:
                self.send_timer = self.loop.call_later(limits.send_s, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if not self.transport.is_closing():
                self._stop(self.send_timer)
                self.send_timer = None

        def timeout_keep_alive_handler(self) -> None:
            super().timeout_keep_alive_handler()
            self._close_in_time()

        def _await_headers(self) -> None:
            self.header_timer = self.loop.call_later(limits.header_s, self._too_late)

        def _too_late(self) -> None:
            self.header_timer = None
            if not self.busy and not self.transport.is_closing():
                self.transport.write(TIMED_OUT)
                self.transport.close()
                self._close_in_time()

        def _close_in_time(self) -> None:
            """A connection that closes waits for what it has still to send: not for ever."""
            if self.transport.is_closing() and self.send_timer is None:
                self.send_timer = self.loop.call_later(limits.send_s, self.transport.abort)

        @staticmethod
        def _stop(*timers: asyncio.TimerHandle | None) -> None:
            for timer in timers:
                if timer is not None:
                    timer.cancel()

    return Protocol
