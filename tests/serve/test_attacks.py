"""What strangers try at an open port: each is refused with its status, and the server answers others meanwhile."""

import contextlib
import json
import struct
import time
import zlib

import pytest
from serving import colour_model, form, picture, read_all, served

TOKEN = "a-token-of-the-tests-0123456789"
RED = (200, 10, 10)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def get(path: str, *lines: str, host: str = "127.0.0.1") -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: close", *lines, "", "")).encode()


def post(body: bytes, *lines: str, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = ("POST /predict HTTP/1.1", "Host: 127.0.0.1", "Connection: close", f"Content-Length: {size}", *lines, "", "")
    return "\r\n".join(head).encode() + body


PATHS = ["/../../etc/passwd", "/..%2f..%2fetc%2fpasswd", "/%252e%252e/etc/passwd", "/app.js%00.html", "//etc/passwd"]
PATHS += ["/static/../app.js", "/./", "/etc/passwd", "/app.js/", "/model.onnx", "/.lock", "/%ff%fe"]


@pytest.mark.parametrize("path", PATHS)
def test_only_listed_paths_exist(server, path):
    assert status(server.raw(get(path))) in (400, 404)


PROBES = {
    "both lengths": (
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /model HTTP/1.1\r\n\r\n",
        400,
    ),
    "two lengths": (b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", 400),
    "odd encoding": (b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    "signed length": (b"Content-Length: +5\r\n\r\nabcde", 400),
    "space before the colon": (b"Content-Length : 5\r\n\r\nabcde", 400),
    "second host": (b"Host: localhost\r\nContent-Length: 0\r\n\r\n", 400),
    "1 MB of headers": (b"X-A: " + b"a" * 2**20 + b"\r\n\r\n", 400),
    "20 kB of headers": (b"X-A: " + b"a" * 20_000 + b"\r\n\r\n", 431),
    "5,000 headers": (b"".join(b"X-%d: a\r\n" % i for i in range(1000)) + b"\r\n", 431),
}


@pytest.mark.parametrize("name", PROBES)
def test_requests_that_two_servers_could_read_in_two_ways_are_refused(server, name):
    lines, expected = PROBES[name]
    answer = server.raw(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n" + lines)
    assert status(answer) in (expected, 400, 431) and answer.count(b"HTTP/1.1") == 1  # what follows is not answered


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost:1", "", "0.0.0.0", "127.0.0.1:80@x"]
)
def test_a_name_that_was_turned_to_this_machine_gets_nothing(server, host):
    assert status(server.raw(get("/model", host=host))) in (400, 421)


def test_own_names_are_answered_and_an_absolute_address_is_no_path(server):
    for host in ("127.0.0.1", "localhost", f"LOCALHOST:{server.port}", f"127.0.0.1:{server.port}"):
        assert status(server.raw(get("/healthz", host=host))) == 200
    assert status(server.raw(get("http://127.0.0.1/healthz"))) == 400
    assert status(server.raw(b"GET /healthz HTTP/1.1\r\n\r\n")) in (400, 421)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_pages_of_other_sites_can_not_send_pictures(server, headers, expected):
    body, kind = form([("f", "a.png", picture())])
    got, answered, _ = server.ask("POST", "/predict", body, {"Content-Type": kind, **headers})
    assert got == expected and not any(name.startswith("access-control") for name in answered)
    own = {"Content-Type": kind, "Origin": f"http://127.0.0.1:{server.port}"}
    assert server.ask("POST", "/predict", body, own)[0] == 200
    preflight = server.ask("OPTIONS", "/predict", headers={"Origin": "https://evil.example"})
    assert preflight[0] in (403, 405) and not any(name.startswith("access-control") for name in preflight[1])


def chunked(size: int, n: int) -> bytes:
    return (b"%x\r\n" % size + b"a" * size + b"\r\n") * n + b"0\r\n\r\n"


EDGE = "Content-Type: multipart/form-data; boundary=X"
PART = b'--X\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\na\r\n'
BODIES = {
    "100 MB told": (post(b"", length=100 * 2**20), 413),
    "a length that is none": (post(b"", length=-1), 400),
    "gzip": (post(zlib.compress(b"a" * 1000), "Content-Encoding: gzip"), 415),
    "10,000 parts": (post(PART * 10_000 + b"--X--\r\n", EDGE), 413),
    "1 MB of a part's headers": (post(b"--X\r\nX-A: " + b"a" * 2**20 + b"\r\n\r\na\r\n--X--\r\n", EDGE), 400),
    "no boundary": (post(PART + b"--X--\r\n", "Content-Type: multipart/form-data"), 400),
    "long boundary": (post(b"a", "Content-Type: multipart/form-data; boundary=" + "a" * 5000), 400),
    "cut off": (post(PART, EDGE), 400),
    "empty form": (post(b"--X--\r\n", EDGE), 400),
    "other multipart": (post(b"a", "Content-Type: multipart/mixed; boundary=X"), 415),
    "deep JSON": (post(b"[" * 100_000, "Content-Type: application/json"), 415),
    "1 MB of JSON": (post(b'{"image": "' + b"A" * 2**20 + b'"}', "Content-Type: application/json"), 415),
    "nothing": (post(b""), 400),
    "tiny chunks": (
        b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(1, 100_000),
        400,
    ),
    "chunks of 64 MB in all": (
        b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(2**20, 40),
        413,
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_beyond_the_limits_are_refused_while_others_are_answered(server, name):
    data, expected = BODIES[name]
    before, start = server.rss(), time.monotonic()
    with server.socket() as connection:
        with contextlib.suppress(ConnectionError):  # it was refused before all was sent
            connection.sendall(data)
        answer = read_all(connection)
    assert status(answer) == expected or (answer == b"" and len(data) > 2**20), answer[:200]
    assert time.monotonic() - start < 8 and server.rss() - before < 64 * 2**20
    assert server.predict(("a", picture(RED)))[0]["label"] == "red"


def bomb() -> bytes:
    """A PNG of 300 kB that says 50,000 x 50,000."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * 6251 * 5000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_bombs_and_a_thousand_hostile_pictures_kill_nothing(server):
    assert server.predict(("bomb.png", bomb()))[0]["error"]["code"] == "too_large"
    deaths = server.metric("foveate_worker_restarts_total")
    children, memory = server.children(), server.rss()
    good = picture((90, 150, 20), (64, 64), "JPEG")
    mutated = []
    for i in range(1000):
        data = bytearray(good)
        for j in range(1 + i % 7):
            data[(i * 7919 + j * 104729) % len(data)] ^= 1 + (i * 31 + j) % 255
        mutated.append(bytes(data[: len(data) - (i * 13) % 40]))
    for start in range(0, 1000, 50):
        rows = server.predict(*((f"{i}.gif", data) for i, data in enumerate(mutated[start : start + 50])))
        assert len(rows) == 50 and all(("label" in row) != ("error" in row) for row in rows)
    assert server.metric("foveate_worker_restarts_total") == deaths and server.children() == children
    assert server.rss() - memory < 20 * 2**20


def test_names_are_told_back_as_text_and_never_as_a_page(server):
    row = server.predict(("<script>alert(1)</script>.png", picture()))[0]
    assert row["name"] == "<script>alert(1)</script>.png"
    body, kind = form([("f", "x.png", picture())])
    assert server.ask("POST", "/predict", body, {"Content-Type": kind})[1]["content-type"] == "application/json"


def test_a_token_is_asked_for_and_guesses_are_slowed_down(tmp_path):
    colour_model(tmp_path / "m.onnx")
    with served(tmp_path, tmp_path / "m.onnx", "--port", "0", env={"FOVEATE_TOKEN": TOKEN}) as server:
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert server.ask("POST", "/predict", picture())[0] == 401
        for path in ("/model", "/metrics", "/openapi.json"):
            assert server.ask("GET", path)[0] == 401 and server.ask("GET", path, headers=right)[0] == 200
        for path in ("/", "/healthz", "/readyz", "/app.js"):  # the page asks for the token itself
            assert server.ask("GET", path)[0] == 200
        assert json.loads(server.ask("POST", "/predict", picture(RED), right)[2])["predictions"][0]["label"] == "red"
        wrong = [server.ask("GET", "/model", headers={"Authorization": f"Bearer {i}"})[0] for i in range(40)]
        assert set(wrong) == {401, 429}
        assert server.ask("GET", "/model", headers=right)[0] == 200  # guesses shut nobody out
        assert TOKEN not in server.log.read_text()


def test_the_token_is_compared_in_constant_time(monkeypatch):
    """Not measured, which a busy machine could not: the comparison is the library's that promises it."""
    import hmac

    from foveate.serve import settings

    seen = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: seen.append((a, b)) or compare(a, b))
    assert settings.same_text("ä" * 20, "ä" * 20) and not settings.same_text("a", "b" * 1000)
    assert len(seen) == 2
