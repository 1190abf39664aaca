"""The models that a server answers with: found, checked, opened, and opened anew when their file changes."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foveate.config import MAX_JSON_BYTES, parse_json, to_dict, to_json
from foveate.data.preprocess import Preprocess, sized
from foveate.deploy.answer import Answer, answer_rows
from foveate.deploy.runtime import Session, first_line, open_session, read_file
from foveate.deploy.trust_graph import LOGITS, STRANGENESS
from foveate.errors import ConfigError, FoveateError, WeightsError
from foveate.serve.batching import Batcher, Rows
from foveate.serve.http import HttpError
from foveate.serve.metrics import Metrics
from foveate.serve.settings import Settings

FILE = "model.onnx"  # of a model folder
SHARE = 0.95  # of usual pictures that are not called unknown, and of sets that hold the right class, unless asked
MAX_CARD = 2**20  # bytes of a README


@dataclass(frozen=True)
class Opened:
    """One state of a model's file."""

    name: str
    path: Path
    session: Session
    fingerprint: str  # SHA-256 of the file
    mark: tuple[int, ...]  # of the file when it was read
    batcher: Batcher
    preprocess_text: bytes  # as the decoders are told

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of the logits."""
        return self.session.classes

    @property
    def preprocess(self) -> Preprocess:
        """How a picture becomes the network's input."""
        return self.session.preprocess

    @property
    def knows_strangers(self) -> bool:
        """Whether it can say "none of these"."""
        return STRANGENESS in self.session.outputs and bool(self.session.trust.keep)

    def answers(self, rows: Rows, top: int, keep: float | None, coverage: float | None) -> list[Answer]:
        """What the outputs mean. keep, coverage: None for the usual share, where the model was fitted for it."""
        trust = self.session.trust
        if keep is None and self.knows_strangers:
            keep = SHARE
        if coverage is None and trust.sets:
            coverage = SHARE
        if keep is not None and not self.knows_strangers:
            raise HttpError(400, "keep", f"{self.name} does not know how strange a picture is; leave keep out")
        try:
            strangeness = rows.get(STRANGENESS)
            return answer_rows(rows[LOGITS], strangeness, self.classes, trust, top=top, keep=keep, coverage=coverage)
        except ConfigError as error:
            raise HttpError(400, "query", str(error)) from None


def find(text: str) -> tuple[str, Path]:
    """(name, .onnx file) of MODEL: a run folder, a model folder, or the file. ConfigError says how to make one."""
    place = Path(text)
    if place.suffix.lower() == ".onnx" and not place.is_dir():
        if not place.is_file():
            raise ConfigError(f"{text}: no such file; expected a model folder, such as runs/photos-1/best, or an .onnx")
        inside = place.parent.name == "best" and place.name == FILE
        return _name(place.parent.parent if inside else place.parent if place.name == FILE else place), place
    if place.suffix.lower() == ".xml":
        raise ConfigError(f"{text}: OpenVINO files are not served; export it to ONNX: foveate export MODEL --to onnx")
    if not place.is_dir():
        raise ConfigError(f"{text}: no such folder; expected a model folder, such as runs/photos-1/best, or an .onnx")
    for folder in (place / "best", place):
        if (folder / FILE).is_file():
            return _name(folder.absolute().parent if folder.name == "best" else folder), folder / FILE
    for folder in (place / "best", place):
        if (folder / "config.json").is_file():
            raise ConfigError(f"{folder}: no {FILE} in it; make it with: foveate export {folder} --to onnx")
    raise ConfigError(f"{text}: no model in this folder; expected {FILE} in it or in its best/")


def _name(path: Path) -> str:
    return path.absolute().stem or "model"


class Models:
    """All models of a server by name; the first is the one that is meant where none is named."""

    def __init__(self, places: Sequence[str], settings: Settings, metrics: Metrics, tell: Callable[[str], None]):
        self.settings, self.metrics, self.tell = settings, metrics, tell
        self.pool = ThreadPoolExecutor(1, "model")
        self.loader = ThreadPoolExecutor(1, "loader")
        self.opened: dict[str, Opened] = {}
        self.refused: dict[str, tuple[tuple[int, ...], str]] = {}  # files that were not switched to, and why
        for text in places:
            name, path = find(text)
            free = next(n for i in range(1, 1000) if (n := name if i == 1 else f"{name}-{i}") not in self.opened)
            self._use(self.open(free, path))

    def get(self, name: str | None) -> Opened:
        """The model of that name. HttpError 404: no path and no address is ever opened because somebody names it."""
        if name is None:
            return next(iter(self.opened.values()))
        if name not in self.opened:
            raise HttpError(404, "model", "no model of this name; GET /model lists them")
        return self.opened[name]

    def open(self, name: str, path: Path) -> Opened:
        """Open and check a file: it must answer a picture with finite numbers. WeightsError."""
        mark = mark_of(path)
        data = read_file(path)
        try:
            session = open_session(data, self.settings.threads)
        except WeightsError as error:
            raise WeightsError(str(error).replace("ONNX bytes", str(path))) from None
        side = sized(session.preprocess)
        found = session.answer(np.full((1, side, side, 3), 128, np.uint8))
        if not all(np.isfinite(rows).all() for rows in found.values()):
            raise WeightsError(f"{path}: it answers NaN or infinity; export it again")
        names = [n for n in (LOGITS, STRANGENESS) if n in session.outputs]
        names += ["features"] if "features" in session.outputs else []
        batcher = Batcher(lambda x: session.answer(x, names), self.pool, self.settings, self.metrics, name)
        text = to_json(session.preprocess).encode()
        return Opened(name, path, session, hashlib.sha256(data).hexdigest(), mark, batcher, text)

    def _use(self, model: Opened) -> None:
        if (old := self.opened.get(model.name)) is not None:
            self.metrics.model_info.remove(model.name, old.fingerprint[:12])
        self.opened[model.name] = model
        self.metrics.model_info.labels(model.name, model.fingerprint[:12]).set(1)

    async def watch(self) -> None:
        """Look at the files for ever; a changed one is opened beside the old, checked, and then takes over."""
        seen: dict[str, tuple[int, ...]] = {}
        while True:
            await asyncio.sleep(self.settings.reload_s)
            for name, model in list(self.opened.items()):
                mark = mark_of(model.path)
                known = mark in (model.mark, self.refused.get(name, ((), ""))[0]) or mark == ()
                if not known and seen.get(name) == mark:  # it has not grown since the last look
                    await self._switch(model, mark)
                seen[name] = mark

    async def _switch(self, model: Opened, mark: tuple[int, ...]) -> None:
        loop = asyncio.get_running_loop()
        try:
            new = await loop.run_in_executor(self.loader, self.open, model.name, model.path)
        except (FoveateError, OSError, ValueError) as error:
            self.refused[model.name] = mark, first_line(error)
            self.metrics.reloads.labels(model.name, "refused").inc()
            self.tell(f"{model.name}: the new file is not taken, the old one goes on: {first_line(error)}")
            return
        self.refused.pop(model.name, None)
        self._use(new)
        self.metrics.reloads.labels(model.name, "switched").inc()
        self.tell(f"{model.name}: switched to {new.fingerprint[:12]}")

    def about(self, model: Opened) -> dict[str, Any]:
        """What GET /model tells of one."""
        trust = model.session.trust
        return {
            "name": model.name,
            "fingerprint": model.fingerprint,
            "size_bytes": model.session.size_bytes,
            "classes": list(model.classes),
            "preprocess": to_dict(model.preprocess),
            "says_unknown": model.knows_strangers,
            "keep": [share for share, _ in trust.keep],
            "set": [share for share, _ in trust.sets],
            "metrics": _beside(model.path.parent / "config.json").get("metrics", []),
            "card": _text(model.path.parent / "README.md"),
            "reload_error": self.refused.get(model.name, ((), None))[1],
        }

    def close(self) -> None:
        """End the threads."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.loader.shutdown(wait=False, cancel_futures=True)


def mark_of(path: Path) -> tuple[int, ...]:
    """What changes with a file; () where there is none."""
    try:
        info = path.stat()
    except OSError:
        return ()
    return info.st_ino, info.st_size, info.st_mtime_ns


def _beside(path: Path) -> Mapping[str, Any]:
    """config.json beside a file, where there is one that can be read."""
    try:
        value = parse_json(read_file(path, "a config.json", MAX_JSON_BYTES).decode("utf-8"), path.name)
        json.dumps(value, allow_nan=False)
    except (FoveateError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(path: Path) -> str | None:
    try:
        return read_file(path, "a README.md", MAX_CARD).decode("utf-8", "replace")
    except FoveateError:
        return None
