"""The processes that decode, as the server sees them: lent to a picture, killed when late, started again."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from foveate.serve.decoder import ASK, REPLY
from foveate.serve.metrics import Metrics
from foveate.serve.settings import Settings

CODE = "import sys; sys.path[:] = {path!r}\nfrom foveate.serve.decoder import main\nmain({descriptor})"
START_S = 30.0  # that one may take to start
RECYCLE = 10_000  # pictures after which a new process takes over: what a decoder leaks goes with it
BACK_OFF_S = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # before a start, after so many deaths in a row
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Decoded:
    """A picture ready for the model: pixels uint8 (S, S, 3); width and height of the file's picture, upright."""

    pixels: np.ndarray
    width: int
    height: int


class Refused(Exception):
    """A picture that can not be had: a stable code and one line."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class _Child:
    """One process and the socket to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", CODE.format(path=sys.path, descriptor=theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **dict.fromkeys(ONE_THREAD, "1")},
                pass_fds=(theirs.fileno(),),
            )
        ours.setblocking(False)
        self.socket, self.done = ours, 0

    async def ready(self) -> None:
        """Wait until it can be asked."""
        await self._exactly(REPLY.size)

    async def ask(self, preprocess: bytes, data: bytes) -> Decoded:
        """Decode one picture. Refused; ConnectionError where the process dies."""
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self.socket, b"".join((ASK.pack(len(preprocess), len(data)), preprocess, data)))
        good, width, height, side, size = REPLY.unpack(await self._exactly(REPLY.size))
        body = await self._exactly(size)
        self.done += 1
        if not good:
            told = json.loads(body)
            raise Refused(str(told["reason"]), str(told["detail"]))
        return Decoded(np.frombuffer(body, np.uint8).reshape(side, side, 3), width, height)

    async def _exactly(self, n: int) -> bytearray:
        loop, data = asyncio.get_running_loop(), bytearray(n)
        view, at = memoryview(data), 0
        while at < n:
            got = await loop.sock_recv_into(self.socket, view[at:])
            if not got:
                raise ConnectionError("the decoder is gone")
            at += got
        return data

    def stop(self) -> None:
        """Kill it and forget it."""
        self.socket.close()
        with contextlib.suppress(OSError):
            self.process.kill()
        self.process.wait()


class Decoders:
    """A pool of decoder processes."""

    def __init__(self, settings: Settings, metrics: Metrics, tell: Callable[[str], None]) -> None:
        self.settings, self.metrics, self.tell = settings, metrics, tell
        self.free: asyncio.LifoQueue[_Child] = asyncio.LifoQueue()
        self.children: set[_Child] = set()
        self.starting: set[asyncio.Task[None]] = set()
        self.deaths = 0  # in a row
        self.closed = False

    async def start(self) -> None:
        """Start all, and wait for them."""
        await asyncio.gather(*(self._one_more() for _ in range(self.settings.decoders)))

    async def decode(self, preprocess: bytes, data: bytes) -> Decoded:
        """The picture of a file's bytes. Refused where it can not be had, or its process died of it."""
        child = await self.free.get()
        try:
            async with asyncio.timeout(self.settings.decode_s):
                found = await child.ask(preprocess, data)
        except Refused:
            self._give_back(child)
            raise
        except TimeoutError:
            self._replace(child)
            raise Refused("slow", f"it took over {self.settings.decode_s:g} s to decode; leave it out") from None
        except (ConnectionError, OSError):
            self._replace(child)
            raise Refused("decoder_died", "the process that decoded it ended; leave it out") from None
        except BaseException:  # nobody waits for it any more, and half of an answer may be on its way
            self._replace(child, died=False)
            raise
        self._give_back(child)
        return found

    @property
    def alive(self) -> int:
        """Processes that can be asked."""
        return len(self.children)

    def _give_back(self, child: _Child) -> None:
        self.deaths = 0
        if child.done >= RECYCLE:
            self._replace(child, died=False)
        else:
            self.free.put_nowait(child)

    def _replace(self, child: _Child, *, died: bool = True) -> None:
        self.children.discard(child)
        child.stop()
        if died:
            self.deaths += 1
            self.metrics.restarts.inc()
        if not self.closed:
            task = asyncio.get_running_loop().create_task(self._again(self.deaths if died else 0))
            self.starting.add(task)
            task.add_done_callback(self.starting.discard)

    async def _again(self, deaths: int) -> None:
        while not self.closed:
            await asyncio.sleep(BACK_OFF_S[min(deaths, len(BACK_OFF_S) - 1)])
            try:
                await self._one_more()
                return
            except (OSError, TimeoutError) as error:
                deaths += 1
                self.tell(f"a decoder process could not be started: {' '.join(str(error).split())}")

    async def _one_more(self) -> None:
        child = _Child()
        started = time.monotonic()
        try:
            async with asyncio.timeout(START_S):
                await child.ready()
        except BaseException:
            child.stop()
            raise
        if self.closed:
            child.stop()
            return
        self.metrics.decoder_start.observe(time.monotonic() - started)
        self.children.add(child)
        self.free.put_nowait(child)

    async def stop(self) -> None:
        """Kill all."""
        self.closed = True
        for task in list(self.starting):
            task.cancel()
        await asyncio.gather(*self.starting, return_exceptions=True)
        for child in self.children:
            child.stop()
        self.children.clear()
