"""A server from start to end: bound, announced, ready, and drained when it is told to stop."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from foveate.errors import ConfigError, FoveateError
from foveate.serve.guard import Guard
from foveate.serve.settings import Settings

BACKLOG = 1024
LAST_CALL_S = 0.3  # in which answers say that the connection ends, before nobody is listened to any more
FILES = 4096  # that may be open, where the system lets us


def bound(settings: Settings) -> socket.socket:
    """A listening socket. ConfigError where the address is not to be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio sends at once (TCP_NODELAY) only where the protocol is named: else each answer waits 40 ms
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((settings.host, settings.port))
        made.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        made.close()
        reason = getattr(error, "strerror", None) or str(error)
        where = f"{settings.host}:{settings.port}"
        raise ConfigError(f"{where}: {reason.lower()}; choose another --port, or 0 for any that is free") from None
    return made


def url_of(settings: Settings) -> str:
    """The address for a browser on this machine, or for others where it is bound to one of theirs, without a path."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "localhost") or not settings.host else settings.host
    host = "::1" if host == "::" else host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def run(
    settings: Settings,
    listening: socket.socket,
    make: Callable[[], Awaitable[Guard]],
    close: Callable[[], Awaitable[None]],
    ready: Callable[[], None],
) -> None:
    """Serve until SIGTERM or Ctrl-C, then drain and return; a second one ends the process at once.

    make: starts what answers; close: ends it. ready: called when the first request can be answered.
    """
    raise_limit()
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    try:
        asyncio.run(_serve(settings, listening, make, close, ready))
    finally:
        listening.close()


async def _serve(
    settings: Settings,
    listening: socket.socket,
    make: Callable[[], Awaitable[Guard]],
    close: Callable[[], Awaitable[None]],
    ready: Callable[[], None],
) -> None:
    import uvicorn

    from foveate.serve.protocol import Connections, protocol_of

    stop = asyncio.Event()
    with _signals(stop):
        try:
            guard = await make()
            config = uvicorn.Config(
                guard,
                http=protocol_of(Connections(settings)),  # type: ignore[arg-type]
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # anybody on this machine could say that he is another
                server_header=False,
                timeout_keep_alive=int(settings.idle_s),
                timeout_graceful_shutdown=int(settings.drain_s),
                backlog=BACKLOG,
            )
            server = _server(uvicorn.Server)(config)
            serving = asyncio.ensure_future(server.serve(sockets=[listening]))
            while not server.started and not serving.done():
                await asyncio.sleep(0.005)
            ready()
            waiting = asyncio.ensure_future(stop.wait())
            await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            guard.draining = True
            if not serving.done():
                await asyncio.sleep(LAST_CALL_S)
            server.should_exit = True
            await serving
        finally:
            await close()


def _server(base: type[Any]) -> type[Any]:
    """uvicorn's server without its signals, which it sends again to the process when it is done."""

    class Server(base):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    return Server


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    """SIGTERM and Ctrl-C set the event; the second one ends the process."""
    loop = asyncio.get_running_loop()

    def obey(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            loop.add_signal_handler(number, obey, number)
        yield
    except (NotImplementedError, RuntimeError) as error:  # Windows, or another thread than the first
        raise FoveateError(f"a server runs in the first thread of a POSIX system: {error}") from None
    finally:
        for number in numbers:
            with contextlib.suppress(Exception):
                loop.remove_signal_handler(number)
                signal.signal(number, before[number])


def raise_limit() -> None:
    """More open files, as far as the system lets us without asking: a connection is one."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def tell(text: str) -> None:
    """A line for who runs the server."""
    from foveate.errors import printable

    print(f"note: {printable(text)}", file=sys.stderr, flush=True)
