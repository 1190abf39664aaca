"""A run in a process of its own, started from a page, and what it says while it runs."""

import asyncio
import contextlib
import signal
from collections import deque
from collections.abc import Sequence
from typing import Any

LINES = 200  # that are kept
STOP_S = 20.0  # that it may take to save when the server stops
MAX_LINE = 2**16


class Training:
    """One run at a time: commands one after another, each only when the one before was good."""

    def __init__(self, commands: Sequence[Sequence[str]]) -> None:
        self.commands = commands
        self.state, self.code = "idle", 0  # idle, running, done, failed
        self.lines: deque[str] = deque(maxlen=LINES)
        self.process: asyncio.subprocess.Process | None = None
        self.task: asyncio.Task[None] | None = None

    def start(self) -> bool:
        """Begin; False where a run is under way."""
        if self.state == "running":
            return False
        self.state, self.code = "running", 0
        self.lines.clear()
        self.task = asyncio.get_running_loop().create_task(self._run())
        return True

    def about(self) -> dict[str, Any]:
        """What a page shows."""
        return {"state": self.state, "code": self.code, "lines": list(self.lines)}

    async def _run(self) -> None:
        try:
            for command in self.commands:
                self.process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                    limit=MAX_LINE,
                    start_new_session=True,
                )
                await self._hear(self.process)
                self.code = await self.process.wait()
                if self.code:
                    self.state = "failed"
                    return
            self.state = "done"
        except OSError as error:
            self.lines.append(f"it could not be started: {error.strerror}")
            self.state, self.code = "failed", 1

    async def _hear(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # a line without an end
                continue
            if not line:
                return
            self.lines.append(line.decode("utf-8", "replace").rstrip()[:500])

    async def stop(self) -> None:
        """Let it save and end it: --resume goes on."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), STOP_S)
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        if self.task is not None:
            self.task.cancel()
