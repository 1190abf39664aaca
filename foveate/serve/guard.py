"""What stands before every route: who may ask, how a request must look, and what every answer carries."""

import asyncio
import contextlib
import json
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from foveate.errors import printable
from foveate.serve.http import Answer, Gone, HttpError, Receive, Request, Route, Scope, Send, refusal, request_of
from foveate.serve.metrics import Metrics
from foveate.serve.settings import ALL, Settings, allowed_hosts, is_loopback, same_text

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "media-src 'self' blob: mediastream:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = [
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-embedder-policy", b"require-corp"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
    (b"cache-control", b"no-store"),
]
GUESSES, GUESS_S = 10, 1.0  # wrong tokens in that time, from everybody together
OWN_HEADER = "x-foveate"  # of what changes something: no page of another site can send it without being asked


class Guard:
    """The application: routes behind their checks."""

    def __init__(
        self,
        settings: Settings,
        routes: Mapping[tuple[str, str], Route],
        metrics: Metrics,
        log: Callable[[Mapping[str, Any]], None],
        *,
        public: frozenset[str],
        changing: frozenset[str] = frozenset(),
    ) -> None:
        self.settings, self.routes, self.metrics, self.log = settings, routes, metrics, log
        self.public, self.changing = public, changing  # paths that need no token; that need OWN_HEADER
        self.paths = {path for _, path in routes}
        names = () if is_loopback(settings.host) else (socket.gethostname(), f"{socket.gethostname()}.local")
        self.hosts = allowed_hosts(settings.host, settings.port, names=names)
        self.wrong: deque[float] = deque()
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            return
        if scope["type"] != "http":
            raise HttpError(400, "kind", "only HTTP is answered")
        started = time.perf_counter()
        request = Request(scope["method"], scope["path"], {}, {}, scope, receive)
        gone = False
        try:
            request = request_of(scope, receive)
            self.check(request)
            answer = await self.routed(request)
        except HttpError as error:
            answer = refusal(error)
        except Gone:
            answer, gone = Answer(status=499), True
        except asyncio.CancelledError:
            raise
        except Exception as error:
            where = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            print(f"error: {request.path[:80]!r}: {printable(where)}", file=sys.stderr, flush=True)
            answer = refusal(HttpError(500, "internal", "the server failed; its log says why", close=True))
        try:
            if not gone:
                await self.send(request, answer, send)
        finally:
            self.count(request, answer.status, time.perf_counter() - started)

    def check(self, request: Request) -> None:
        """HttpError for a request that is malformed, misdirected, from another site, or without the token."""
        headers = request.scope["headers"]
        if len(headers) > self.settings.max_headers:
            raise HttpError(431, "headers", f"{len(headers)} headers; at most {self.settings.max_headers}", close=True)
        if sum(len(name) + len(value) + 4 for name, value in headers) > self.settings.max_header_bytes:
            most = self.settings.max_header_bytes
            raise HttpError(431, "headers", f"headers of over {most:,} bytes", close=True)
        names = [name for name, _ in headers]
        if b"content-length" in names and b"transfer-encoding" in names:
            raise HttpError(400, "framing", "Content-Length and Transfer-Encoding: which counts?", close=True)
        if names.count(b"host") != 1 or not self.is_own(request.headers["host"]):
            text = "this is not the host that was asked for; use the address that the server printed"
            raise HttpError(421, "host", text, close=True)
        raw = request.scope["raw_path"]
        if not raw.startswith(b"/") or len(raw) > 1024 or not raw.isascii():
            raise HttpError(400, "path", "the path begins with / and has up to 1,024 characters", close=True)
        self.check_site(request)
        if request.path not in self.public:
            self.check_token(request)

    def is_own(self, host: str) -> bool:
        """Whether the header Host names this server."""
        if host.lower() in self.hosts:
            return True
        if self.settings.host not in ALL:
            return False
        address = host.removesuffix(f":{self.settings.port}").strip("[]")
        return (
            bool(address)
            and all(c in "0123456789abcdefABCDEF.:" for c in address)
            and ("." in address or ":" in address)
        )

    def check_site(self, request: Request) -> None:
        """A page of another site may not ask: browsers send forms with pictures there without a question."""
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "none")
        own = origin is None or origin.lower() == f"http://{request.headers['host']}".lower()
        if request.method not in ("GET", "HEAD") and (not own or site not in ("none", "same-origin")):
            raise HttpError(403, "origin", "a page of another site asks; that is not answered", close=True)
        if request.path in self.changing and request.method != "GET" and OWN_HEADER not in request.headers:
            raise HttpError(403, "origin", f"the header {OWN_HEADER} is missing", close=True)

    def check_token(self, request: Request) -> None:
        """HttpError 401 without the token, 429 for everybody while wrong ones come too fast."""
        if self.settings.token is None:
            return
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and same_text(given.strip(), self.settings.token):
            return
        now = time.monotonic()
        while self.wrong and now - self.wrong[0] > GUESS_S:
            self.wrong.popleft()
        self.metrics.rejected.labels("token").inc()
        if len(self.wrong) >= GUESSES:
            raise HttpError(429, "token", "too many wrong tokens; wait a second", retry_s=1, close=True)
        self.wrong.append(now)
        raise HttpError(401, "token", "give the token: Authorization: Bearer TOKEN", close=True)

    async def routed(self, request: Request) -> Answer:
        """The answer of the route. Only what is listed exists: no path of a request ever reaches a disk."""
        method = "GET" if request.method == "HEAD" else request.method
        route = self.routes.get((method, request.path))
        if route is not None:
            return await route(request)
        if request.path not in self.paths:
            raise HttpError(404, "path", "nothing is here; GET /openapi.json lists what is", close=has_body(request))
        allowed = sorted({m for m, path in self.routes if path == request.path})
        answer = refusal(HttpError(405, "method", f"only {' and '.join(allowed)} here", close=has_body(request)))
        answer.headers["allow"] = ", ".join(allowed)
        return answer

    async def send(self, request: Request, answer: Answer, send: Send) -> None:
        """Send an answer with the headers that all have."""
        headers = [(b"content-type", answer.kind.encode()), *HEADERS]
        if answer.stream is None:
            headers.append((b"content-length", str(len(answer.body)).encode()))
        answer.headers |= {"connection": "close"} if self.draining else {}
        headers += [(name.encode(), value.encode("latin-1", "replace")) for name, value in answer.headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        if answer.stream is not None and request.method != "HEAD":
            async for piece in answer.stream:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": answer.body})

    def count(self, request: Request, status: int, seconds: float) -> None:
        """One line of the log and the metrics. No picture, no name of one, no token."""
        route = request.path if request.path in self.paths else "other"
        self.metrics.requests.labels(route, str(status)).inc()
        self.metrics.duration.labels(route).observe(seconds)
        client = request.scope.get("client")
        self.log(
            {
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "client": client[0] if client else "",
                "method": request.method if request.method in ("GET", "HEAD", "POST", "PUT") else "other",
                "route": route,
                "status": status,
                "ms": round(1000 * seconds, 2),
                "bytes": request.body_bytes,
                "pictures": request.pictures,
            }
        )


def has_body(request: Request) -> bool:
    """Whether bytes come that nobody will read."""
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


def to_stderr(line: Mapping[str, Any]) -> None:
    """The access log: one JSON object a line."""
    with contextlib.suppress(OSError):  # a log that nobody reads any more stops no server
        sys.stderr.write(json.dumps(line) + "\n")


def quiet(line: Mapping[str, Any]) -> None:
    """No access log."""
