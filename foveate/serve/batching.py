"""One queue a model: what waits goes through it together, and what nobody waits for any more does not go.

No timer: a free model takes what is there, so that a single picture never waits for company. On CPUs a batch saves
little beside its pictures.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np

from foveate.serve.http import HttpError
from foveate.serve.metrics import Metrics
from foveate.serve.settings import Settings

Rows = dict[str, np.ndarray]


@dataclass
class _Entry:
    pixels: np.ndarray
    until: float
    answer: "asyncio.Future[Rows]" = field(repr=False)


class Batcher:
    """Pictures of one opened model on their way through it."""

    def __init__(
        self,
        run: Callable[[np.ndarray], Rows],
        pool: Executor,
        settings: Settings,
        metrics: Metrics,
        name: str,
    ) -> None:
        self.run, self.pool, self.settings, self.metrics, self.name = run, pool, settings, metrics, name
        self.waiting: deque[_Entry] = deque()
        self.task: asyncio.Task[None] | None = None
        self.seconds = 0.0  # of a picture in the model, a running mean

    async def ask(self, pixels: np.ndarray) -> Rows:
        """The outputs for one picture uint8 (S, S, 3), a row each. HttpError 503 where its turn comes too late."""
        loop = asyncio.get_running_loop()
        entry = _Entry(pixels, time.monotonic() + self.settings.deadline_s, loop.create_future())
        self.waiting.append(entry)
        if self.task is None:
            self.task = loop.create_task(self._work())
        return await entry.answer

    async def _work(self) -> None:
        try:
            while batch := self._next():
                images = np.stack([entry.pixels for entry in batch])
                try:
                    found, spent = await asyncio.get_running_loop().run_in_executor(self.pool, self._timed, images)
                except Exception as error:  # the model failed on this batch; the next may be right
                    for entry in batch:
                        if not entry.answer.done():
                            entry.answer.set_exception(error)
                    continue
                self._count(len(batch), spent)
                for i, entry in enumerate(batch):
                    if not entry.answer.done():
                        entry.answer.set_result({name: rows[i : i + 1] for name, rows in found.items()})
        finally:
            self.task = None
            if self.waiting:  # something came between the last look and now
                self.task = asyncio.get_running_loop().create_task(self._work())

    def _timed(self, images: np.ndarray) -> tuple[Rows, float]:
        """The outputs, and the seconds of the model without the wait for its thread."""
        started = time.perf_counter()
        found = self.run(images)
        return found, time.perf_counter() - started

    def _next(self) -> list[_Entry]:
        """The first that somebody still waits for and that can be answered in time."""
        batch: list[_Entry] = []
        now = time.monotonic()
        while self.waiting and len(batch) < self.settings.batch:
            entry = self.waiting.popleft()
            if entry.answer.cancelled():
                self.metrics.cancelled.inc()
            elif now + self.seconds * (len(batch) + 1) > entry.until:
                self.metrics.rejected.labels("deadline").inc()
                text = f"it waited {self.settings.deadline_s:g} s for its turn; try again"
                entry.answer.set_exception(HttpError(503, "deadline", text, retry_s=1))
            else:
                batch.append(entry)
        return batch

    def _count(self, n: int, spent: float) -> None:
        self.metrics.batches.observe(n)
        self.metrics.inference.labels(self.name).observe(spent)
        self.seconds = spent / n if not self.seconds else 0.9 * self.seconds + 0.1 * spent / n
