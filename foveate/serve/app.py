"""The routes of a server, put together."""

from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from foveate import __version__
from foveate.serve.decoding import Decoders
from foveate.serve.guard import Guard
from foveate.serve.http import Answer, HttpError, Request, Route, as_json
from foveate.serve.metrics import Metrics
from foveate.serve.models import Models
from foveate.serve.openapi import document
from foveate.serve.predict import Keep, Predict
from foveate.serve.settings import Settings

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
}
PAGE = {"/": "index.html", "/app.js": "app.js", "/style.css": "style.css"}


def static(names: Mapping[str, str]) -> dict[tuple[str, str], Route]:
    """Routes of files of the package, read once: no path of a request is ever opened."""

    def route(name: str) -> Route:
        body = files("foveate.serve").joinpath("static", name).read_bytes()
        kind = KINDS[name[name.rindex(".") :]]

        async def answer(request: Request) -> Answer:
            return Answer(body, kind=kind)

        return answer

    return {("GET", path): route(name) for path, name in names.items()}


def predicting(
    settings: Settings,
    models: Models,
    decoders: Decoders,
    metrics: Metrics,
    log: Callable[[Mapping[str, Any]], None],
    keep: Keep | None = None,
) -> Guard:
    """The application that labels pictures."""
    described = document(settings.token is not None)

    async def healthz(request: Request) -> Answer:
        return as_json({"status": "ok", "foveate": __version__})

    async def readyz(request: Request) -> Answer:
        if guard.draining:
            raise HttpError(503, "stopping", "the server stops")
        if not decoders.alive:
            raise HttpError(503, "decoders", "no decoder process is there", retry_s=1)
        return as_json({"status": "ready", "models": list(models.opened)})

    async def counted(request: Request) -> Answer:
        return Answer(metrics.text(), kind="text/plain; version=0.0.4; charset=utf-8")

    async def model(request: Request) -> Answer:
        return as_json({"models": [models.about(opened) for opened in models.opened.values()]})

    async def openapi(request: Request) -> Answer:
        return as_json(described)

    routes: dict[tuple[str, str], Route] = {
        ("POST", "/predict"): Predict(settings, models, decoders, metrics, keep),
        ("GET", "/healthz"): healthz,
        ("GET", "/readyz"): readyz,
        ("GET", "/metrics"): counted,
        ("GET", "/model"): model,
        ("GET", "/openapi.json"): openapi,
        **static(PAGE),
    }
    guard = Guard(settings, routes, metrics, log, public=frozenset(("/healthz", "/readyz", *PAGE)))
    return guard
