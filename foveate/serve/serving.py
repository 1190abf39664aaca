"""foveate serve, behind its options."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from foveate.serve import run
from foveate.serve.app import predicting
from foveate.serve.decoding import Decoders
from foveate.serve.guard import Guard, quiet, to_stderr
from foveate.serve.log import PredictionLog
from foveate.serve.metrics import Metrics
from foveate.serve.models import Models
from foveate.serve.settings import Settings


def serve(
    places: Sequence[str],
    settings: Settings,
    *,
    announce: Callable[[str], None],
    quiet: bool = False,
    log: Path | None = None,
    thumbnails: bool = False,
) -> None:
    """Answer with the models at these places until told to stop. announce: hears the address when it answers.

    ConfigError where an address or a model is not to be had, WeightsError for a damaged model.
    """
    listening = run.bound(settings)
    settings = replace(settings, port=listening.getsockname()[1])
    server = Server(places, settings, quiet)
    if log is not None:
        server.log = PredictionLog(log, server.metrics, thumbnails)
    run.run(settings, listening, server.start, server.stop, lambda: announce(run.url_of(settings)))


class Server:
    """What answers: models, decoders and what they count."""

    def __init__(self, places: Sequence[str], settings: Settings, silent: bool) -> None:
        self.places, self.settings, self.silent = places, settings, silent
        self.metrics = Metrics()
        self.decoders = Decoders(settings, self.metrics, run.tell)
        self.models: Models | None = None
        self.tasks: list[asyncio.Task[None]] = []
        self.log: PredictionLog | None = None

    async def start(self) -> Guard:
        """Open the models while the decoders start."""
        starting = asyncio.ensure_future(self.decoders.start())
        opening = asyncio.to_thread(Models, self.places, self.settings, self.metrics, run.tell)
        self.models = await opening
        await starting
        self.tasks.append(asyncio.ensure_future(self.models.watch()))
        if self.log is not None:
            self.tasks.append(asyncio.ensure_future(self.log.run()))
        lines = quiet if self.silent else to_stderr
        keep = None if self.log is None else self.log.keep
        return predicting(self.settings, self.models, self.decoders, self.metrics, lines, keep)

    async def stop(self) -> None:
        """End all."""
        for task in self.tasks:
            task.cancel()
        if self.log is not None:
            await asyncio.to_thread(self.log.flush)
        if self.models is not None:
            self.models.close()
        await self.decoders.stop()
