"""What is said over HTTP: a request that has been read, an answer, and an answer that is an error."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON = "application/json"


class HttpError(Exception):
    """An answer that refuses: a status, a code for programs, and one line for people."""

    def __init__(self, status: int, code: str, text: str, *, retry_s: int | None = None, close: bool = False) -> None:
        super().__init__(text)
        self.status, self.code, self.text = status, code, text
        self.retry_s, self.close = retry_s, close


class Gone(Exception):
    """The client has left: nobody waits for an answer."""


@dataclass
class Answer:
    """What is sent. stream: parts that come by and by, in place of the body."""

    body: bytes = b""
    status: int = 200
    kind: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    stream: AsyncIterator[bytes] | None = None


@dataclass
class Request:
    """What a route is called with."""

    method: str
    path: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    scope: Scope
    receive: Receive
    pictures: int = 0  # how many were in it: for the log
    body_bytes: int = 0


Route = Callable[[Request], Awaitable[Answer]]


def request_of(scope: Scope, receive: Receive) -> Request:
    """The request without its body. HttpError 400 for a query that can not be read."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    try:
        text = scope["query_string"].decode("ascii")
        query = dict(parse_qsl(text, keep_blank_values=True, max_num_fields=16)) if text else {}
    except ValueError:
        raise HttpError(400, "query", "the query can not be read: at most 16 fields, in ASCII") from None
    path = "/" + scope["path"].lstrip("/")  # of an address that ends in a slash, with a path behind it
    return Request(scope["method"], path, headers, query, scope, receive)


def as_json(value: Any, status: int = 200) -> Answer:
    """A value as JSON."""
    return Answer(json.dumps(value, ensure_ascii=True, allow_nan=False).encode(), status)


def refusal(error: HttpError) -> Answer:
    """The answer that an error is."""
    answer = as_json({"error": {"code": error.code, "message": error.text}}, error.status)
    if error.retry_s is not None:
        answer.headers["retry-after"] = str(error.retry_s)
    if error.close:
        answer.headers["connection"] = "close"
    if error.status == 401:
        answer.headers["www-authenticate"] = "Bearer"
    return answer
