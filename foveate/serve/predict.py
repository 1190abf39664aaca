"""POST /predict: pictures in, labels out. Admitted or refused at once, decoded by processes, batched, in order."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import numpy as np

from foveate.deploy.answer import Answer as Said
from foveate.errors import FoveateError
from foveate.serve.batching import Rows
from foveate.serve.body import Held, Part, pictures_of
from foveate.serve.decoding import Decoded, Decoders, Refused
from foveate.serve.heat import covered, drops, seen_box
from foveate.serve.http import Answer, Gone, HttpError, Request, as_json
from foveate.serve.metrics import Metrics
from foveate.serve.models import Models, Opened
from foveate.serve.settings import Settings

T = TypeVar("T")
Keep = Callable[[Opened, Part, Decoded, Rows, Said], None]  # hears of every answer: the log of predictions
KNOWN = ("model", "heat", "top", "keep", "set", "name")  # fields of the query
RETRY_S = 1


class Predict:
    """The route. pending: pictures that were admitted and are not answered yet."""

    def __init__(
        self, settings: Settings, models: Models, decoders: Decoders, metrics: Metrics, keep: Keep | None = None
    ) -> None:
        self.settings, self.models, self.decoders, self.metrics, self.keep = settings, models, decoders, metrics, keep
        self.held, self.pending = Held(settings.max_held), 0
        self.mapping = asyncio.Lock()  # one heat map at a time: each is 49 pictures for the model

    async def __call__(self, request: Request) -> Answer:
        """Answer a request. HttpError; Gone where its client leaves."""
        model = self.models.get(request.query.get("model"))
        asked = Asked.of(request, len(model.classes))
        self._check_room(1, int(request.headers.get("content-length", "0")))
        with self.held.counting() as holding:
            parts = await pictures_of(request, self.settings, holding)
            request.pictures = len(parts)
            self._check_room(len(parts), 0)
            self._admit(len(parts))
            try:
                rows = await while_there(request, self._all(model, parts, asked))
            finally:
                self._admit(-len(parts))
        return as_json({"model": model.name, "predictions": rows})

    def _check_room(self, n: int, size_bytes: int) -> None:
        if self.pending + n > self.settings.queue:
            self.metrics.rejected.labels("queue").inc()
            text = f"{self.pending} pictures wait already, at most {self.settings.queue} may; try again"
            raise HttpError(503, "busy", text, retry_s=RETRY_S, close=size_bytes > 2**20)

    def _admit(self, n: int) -> None:
        self.pending += n
        self.metrics.queue.set(self.pending)

    async def _all(self, model: Opened, parts: list[Part], asked: "Asked") -> list[dict[str, Any]]:
        if len(parts) == 1:
            return [await self._one(model, parts[0], asked)]
        tasks = [asyncio.ensure_future(self._one(model, part, asked)) for part in parts]
        try:
            return list(await asyncio.gather(*tasks))
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    async def _one(self, model: Opened, part: Part, asked: "Asked") -> dict[str, Any]:
        """The entry of one picture; one that can not be read has an error in place of an answer."""
        try:
            decoded = await self.decoders.decode(model.preprocess_text, part.data)
        except Refused as refused:
            self.metrics.failures.labels(refused.reason).inc()
            return {"name": part.name, "error": {"code": refused.reason, "message": refused.detail}}
        try:
            rows = await model.batcher.ask(decoded.pixels)
        except FoveateError as error:
            return {"name": part.name, "error": {"code": "model", "message": str(error)}}
        if not all(np.isfinite(found).all() for found in rows.values()):
            return {"name": part.name, "error": {"code": "model", "message": "the model answers NaN or infinity"}}
        said = model.answers(rows, max(asked.top, 1), asked.keep, asked.coverage)[0]
        if said.unknown:
            self.metrics.unknown.labels(model.name).inc()
        entry = {
            "name": part.name,
            "label": said.label,
            "probability": said.probability,
            "unknown": said.unknown,
            "set": None if said.set is None else list(said.set),
        }
        if asked.top:
            entry["top"] = [{"label": label, "probability": p} for label, p in said.top]
        if said.strangeness is not None:
            entry["strangeness"] = said.strangeness
        if asked.heat:
            async with self.mapping:
                entry["heat"] = await self._heat(model, decoded, said)
        if self.keep is not None:
            self.keep(model, part, decoded, rows, said)
        return entry

    async def _heat(self, model: Opened, decoded: Decoded, said: Said) -> dict[str, Any]:
        """The map of one picture, a row of the queue for each cell."""
        copies = covered(decoded.pixels, model.preprocess)
        k = model.classes.index(said.label)
        p = []
        for start in range(0, len(copies), self.settings.batch):
            part = copies[start : start + self.settings.batch]
            rows = await asyncio.gather(*(model.batcher.ask(copy) for copy in part))
            p += [float(model.session.trust.probabilities(row["logits"])[0, k]) for row in rows]
        box = seen_box(decoded.width, decoded.height, model.preprocess)
        return {"method": "occlusion", "label": said.label, "values": drops(said.probability, np.array(p)), "box": box}


class Asked:
    """What the query asks for."""

    def __init__(self, top: int, heat: bool, keep: float | None, coverage: float | None) -> None:
        self.top, self.heat, self.keep, self.coverage = top, heat, keep, coverage

    @classmethod
    def of(cls, request: Request, classes: int) -> "Asked":
        """HttpError 400 for a field that is not known, or a value that can not be."""
        query = request.query
        if strange := sorted(set(query) - set(KNOWN)):
            raise HttpError(400, "query", f"{strange[0][:40]!r} is not known; expected {', '.join(KNOWN)}")
        top = _number(query, "top", 0, classes)
        return cls(
            int(min(top or 0, classes)),
            query.get("heat", "0") not in ("", "0", "false", "no"),
            _number(query, "keep", 0.01, 0.999),
            _number(query, "set", 0.01, 0.999),
        )


def _number(query: Any, name: str, low: float, high: float) -> float | None:
    if name not in query:
        return None
    try:
        value = float(query[name])
    except ValueError:
        value = float("nan")
    if name == "top" and value > high:
        return high
    if not low <= value <= high:
        raise HttpError(400, "query", f"{name}={query[name][:20]}: expected a number from {low:g} to {high:g}")
    return value


async def while_there(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work, unless the client leaves before: then the work is dropped. Gone."""
    task = asyncio.ensure_future(work)
    left = asyncio.ensure_future(_leaves(request))
    try:
        await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Gone
        return task.result()
    finally:
        for part in (task, left):
            if not part.done():
                part.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await part


async def _leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
