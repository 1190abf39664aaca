"""Pages to look at doubtful labels and decide by keys, and to train again, on the same server with the same guard."""

import asyncio
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from foveate.config import parse_json, to_json
from foveate.data.preprocess import Preprocess
from foveate.deploy.runtime import read_file
from foveate.errors import ConfigError, DataError, FoveateError, WriteError
from foveate.serve import run
from foveate.serve.app import static
from foveate.serve.body import Held, whole
from foveate.serve.decisions import Changed, Decisions, Row
from foveate.serve.decoder import LIMITS
from foveate.serve.decoding import Decoders, Refused
from foveate.serve.guard import Guard, quiet, to_stderr
from foveate.serve.http import Answer, HttpError, Request, Route, as_json
from foveate.serve.metrics import Metrics
from foveate.serve.settings import Settings
from foveate.serve.training import Training

SIDE = 512  # pixels of a shown picture
MAX_JSON = 16 * 2**10
PAGE = {"/": "review.html", "/review.js": "review.js", "/style.css": "style.css"}


@dataclass(frozen=True)
class Work:
    """What is to be reviewed. files: where a picture lies, by name; commands: what "train again" runs."""

    title: str
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    files: Mapping[str, str]
    decisions: Path
    commands: Sequence[Sequence[str]] = ()


def serve_review(work: Work, settings: Settings, *, announce: Callable[[str], None], silent: bool = True) -> None:
    """Show the pages until told to stop. ConfigError where the address is taken."""
    listening = run.bound(settings)
    settings = replace(settings, port=listening.getsockname()[1])
    metrics = Metrics()
    decoders, training = Decoders(settings, metrics, run.tell), Training(work.commands)

    async def start() -> Guard:
        await decoders.start()
        return reviewing(work, settings, decoders, training, metrics, quiet if silent else to_stderr)

    async def stop() -> None:
        await training.stop()
        await decoders.stop()

    run.run(settings, listening, start, stop, lambda: announce(run.url_of(settings)))


def reviewing(
    work: Work,
    settings: Settings,
    decoders: Decoders,
    training: Training,
    metrics: Metrics,
    log: Callable[[Mapping[str, Any]], None],
) -> Guard:
    """The application of the review pages."""
    decisions, held = Decisions(work.rows, work.decisions), Held(settings.max_held)
    shown = to_json(Preprocess(resolution=SIDE, resize=SIDE, fit="letterbox", kernel="bilinear", fill=128)).encode()

    async def table(request: Request) -> Answer:
        rows = [asdict(row) for row in decisions.rows.values()]
        told = {"title": work.title, "classes": list(work.classes), "rows": rows, "can_train": bool(work.commands)}
        return Answer(json.dumps(told).encode(), headers={})  # escapes carry names that are not UTF-8

    async def picture(request: Request) -> Answer:
        name = request.query.get("path", "")
        if name not in decisions.rows or name not in work.files:
            raise HttpError(404, "picture", "no such picture in this review")
        try:
            data = await asyncio.to_thread(read_file, Path(work.files[name]), "a picture", LIMITS.max_file_bytes)
            found = await decoders.decode(shown, data)
        except (FoveateError, Refused) as error:
            raise HttpError(404, "picture", str(error)) from None
        return Answer(await asyncio.to_thread(_jpeg, found.pixels), kind="image/jpeg")

    async def decide(request: Request) -> Answer:
        with held.counting() as holding:
            asked = _asked(await whole(request, settings, holding, MAX_JSON))
        try:
            row = decisions.decide(
                asked["path"], (asked["was"], asked["was_label"]), asked["decision"], asked["new_label"]
            )
        except KeyError:
            raise HttpError(404, "picture", "no such picture in this review") from None
        except Changed as changed:
            error = {"code": "changed", "message": "somebody else decided meanwhile"}
            return as_json({"error": error, "row": asdict(changed.row)}, 409)
        except DataError as error:
            raise HttpError(400, "decision", str(error)) from None
        except WriteError as error:
            raise HttpError(507, "disk", str(error)) from None
        return as_json(asdict(row))

    async def progress(request: Request) -> Answer:
        return as_json(training.about())

    async def train(request: Request) -> Answer:
        if not work.commands:
            raise HttpError(409, "train", "there is nothing to train with here")
        if not training.start():
            raise HttpError(409, "train", "a run is under way")
        return as_json(training.about(), 202)

    async def healthz(request: Request) -> Answer:
        return as_json({"status": "ok"})

    routes: dict[tuple[str, str], Route] = {
        ("GET", "/review/table"): table,
        ("GET", "/review/picture"): picture,
        ("POST", "/review/decision"): decide,
        ("GET", "/review/train"): progress,
        ("POST", "/review/train"): train,
        ("GET", "/healthz"): healthz,
        **static(PAGE),
    }
    changing = frozenset(("/review/decision", "/review/train"))
    return Guard(settings, routes, metrics, log, public=frozenset(("/healthz", *PAGE)), changing=changing)


def _asked(data: bytes) -> dict[str, str]:
    """The fields of a decision, all of them texts. HttpError 400."""
    names = ("path", "was", "was_label", "decision", "new_label")
    try:
        value = parse_json(data.decode("utf-8"), "decision")
    except (ConfigError, ValueError):
        value = None
    if not isinstance(value, dict) or set(value) != set(names) or not all(isinstance(v, str) for v in value.values()):
        raise HttpError(400, "decision", f"expected a JSON object of texts: {', '.join(names)}")
    return value


def _jpeg(pixels: Any) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=88)
    return file.getvalue()
