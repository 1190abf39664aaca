"""More than a server can take, clients that dawdle or leave, processes that die, and a server that is told to stop."""

import contextlib
import json
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from serving import colour_model, form, picture, read_all, served

RED = (200, 10, 10)
SLOW = 200  # products: about 20 ms a picture on a quiet core


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A slow model behind tight limits."""
    folder = tmp_path_factory.mktemp("small")
    colour_model(folder / "m.onnx", slow=SLOW)
    limits = {
        "queue": 8,
        "header_s": 1.0,
        "body_s": 1.5,
        "send_s": 1.0,
        "idle_s": 1,
        "connections": 300,
        "reload_s": 0.2,
    }
    with served(folder, folder / "m.onnx", limits=limits) as running:
        yield running


def until(condition, seconds=15.0):
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def test_beyond_the_queue_requests_are_refused_at_once_and_all_others_answered(small):
    def ask(i):
        start = time.monotonic()
        status, headers, body = small.ask("POST", "/predict", picture(RED))
        return status, time.monotonic() - start, headers, body

    with ThreadPoolExecutor(80) as pool:  # ten times what may wait
        found = list(pool.map(ask, range(240)))
    good = [f for f in found if f[0] == 200]
    refused = [f for f in found if f[0] == 503]
    assert len(good) + len(refused) == 240 and len(good) >= 8 and refused
    assert all(json.loads(f[3])["predictions"][0]["label"] == "red" for f in good)
    assert all(f[2]["retry-after"] == "1" and json.loads(f[3])["error"]["code"] == "busy" for f in refused)
    # the clients of this test share the machine with the server: by the server's own clock
    lines = [json.loads(line) for line in small.log.read_text().splitlines() if line.startswith("{")]
    took = sorted(line["ms"] for line in lines if line["status"] == 503)
    assert took[int(0.95 * len(took))] < 100
    assert small.ask("POST", "/predict", picture(RED))[0] == 200  # and it has recovered
    assert small.metric("foveate_queue_length") == 0


def test_slow_clients_are_cut_while_others_are_answered(small):
    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    with contextlib.ExitStack() as stack:
        trickling = [stack.enter_context(small.socket()) for _ in range(60)]
        stuck = [stack.enter_context(small.socket()) for _ in range(60)]
        silent = [stack.enter_context(small.socket()) for _ in range(60)]
        for connection in stuck:
            connection.sendall(head + b"Content-Length: 1000\r\n\r\nabc")
        done = threading.Event()

        def trickle():
            while not done.wait(0.2):
                for connection in trickling:
                    with contextlib.suppress(OSError):
                        connection.sendall(b"X")

        start = time.monotonic()
        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            for _ in range(5):
                assert small.predict(("a", picture(RED)))[0]["label"] == "red"
            answers = {name: [read_all(c) for c in group] for name, group in (("body", stuck), ("silent", silent))}
            read_all(trickling[0])
        finally:
            done.set()
            thread.join()
        assert time.monotonic() - start < 8
        assert {answer[:12] for answer in answers["body"]} == {b"HTTP/1.1 408"}
        assert {answer[:12] for answer in answers["silent"]} <= {b"HTTP/1.1 408", b""}


def test_a_connection_that_has_asked_is_closed_when_it_stays_idle(small):
    with small.socket(10) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        start = time.monotonic()
        assert read_all(connection).startswith(b"HTTP/1.1 200") and time.monotonic() - start < 6


def test_answers_that_nobody_reads_hold_nothing_for_ever(small):
    before = small.files()
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            connection = stack.enter_context(small.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(200):
                    connection.send(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert small.ask("GET", "/healthz")[0] == 200
        until(lambda: small.files() <= before + 2)


def test_idle_connections_beyond_the_limit_make_room_for_new_ones(small):
    with contextlib.ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(small.socket())
        until(lambda: small.files() < 400)
        assert small.predict(("a", picture(RED)))[0]["label"] == "red"


def test_work_of_clients_that_left_is_dropped(small):
    until(lambda: small.metric("foveate_queue_length") == 0)
    before = small.metric("foveate_cancelled_total")
    body, kind = form([("f", str(i), picture(RED)) for i in range(8)])
    head = f"POST /predict?heat=1 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    with small.socket() as connection:
        connection.sendall(head.encode() + body)
        until(lambda: small.metric("foveate_queue_length") == 8)
    until(lambda: small.metric("foveate_queue_length") == 0, 5)
    assert small.metric("foveate_cancelled_total") >= before
    assert small.ask("POST", "/predict", picture(RED))[0] == 200


def test_a_decoder_that_dies_is_replaced_and_only_its_picture_suffers(small):
    before = small.metric("foveate_worker_restarts_total")
    for child in small.children():
        os.kill(child, signal.SIGKILL)
    codes = []

    def answered():
        row = small.predict(("a", picture(RED)))[0]
        codes.append(row.get("error", {}).get("code"))
        return "label" in row

    until(answered)
    assert set(codes) <= {"decoder_died", None} and codes.count("decoder_died") <= 2
    until(lambda: len(small.children()) == 2)
    assert small.metric("foveate_worker_restarts_total") >= before + 1


def test_a_decoder_that_hangs_is_killed(tmp_path):
    colour_model(tmp_path / "m.onnx")
    with served(tmp_path, tmp_path / "m.onnx", limits={"decode_s": 0.7, "decoders": 1}) as server:
        (child,) = server.children()
        os.kill(child, signal.SIGSTOP)
        assert server.predict(("a", picture(RED)))[0]["error"]["code"] == "slow"
        assert server.predict(("a", picture(RED)))[0]["label"] == "red"
        assert server.children() != [child]


def test_a_changed_model_is_checked_and_then_switched_to(small, tmp_path):
    path = small.log.parent / "m.onnx"
    old = json.loads(small.ask("GET", "/model")[2])["models"][0]["fingerprint"]
    good = path.read_bytes()
    (tmp_path / "bad").write_bytes(good[: len(good) // 2])
    os.replace(tmp_path / "bad", path)
    until(lambda: json.loads(small.ask("GET", "/model")[2])["models"][0]["reload_error"])
    assert small.predict(("a", picture(RED)))[0]["label"] == "red"
    new = colour_model(tmp_path / "new", slow=SLOW, classes=("rot", "gruen", "blau"))
    statuses = []

    def ask():
        while not statuses or statuses[-1] != "rot":
            row = small.predict(("a", picture(RED)))[0]
            statuses.append(row.get("label", str(row)))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    os.replace(new, path)
    thread.join(30)
    assert statuses[-1] == "rot" and set(statuses) <= {"red", "rot"}  # no request fell between the two
    about = json.loads(small.ask("GET", "/model")[2])["models"][0]
    assert about["fingerprint"] != old and about["reload_error"] is None
    path.write_bytes(good)
    until(lambda: small.predict(("a", picture(RED)))[0]["label"] == "red")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_stop_answers_what_it_has_and_exits_with_0(tmp_path, number):
    colour_model(tmp_path / "m.onnx", slow=SLOW)
    with served(tmp_path, tmp_path / "m.onnx", "--port", "0") as server:
        children = server.children()
        with ThreadPoolExecutor(8) as pool:
            files = [(str(i), picture(RED)) for i in range(8)]
            asked = [pool.submit(server.predict, *files) for _ in range(8)]
            until(lambda: server.metric("foveate_queue_length") >= 8)
            server.process.send_signal(number)
            answers = [future.result() for future in asked]
        assert all(row["label"] == "red" for rows in answers for row in rows)
        assert server.process.wait(30) == 0
        for child in children:
            assert not os.path.exists(f"/proc/{child}")
        with pytest.raises(OSError):
            server.socket(1)
        assert "Traceback" not in server.log.read_text()


def test_the_second_signal_ends_it_at_once(tmp_path):
    colour_model(tmp_path / "m.onnx", slow=SLOW)
    with served(tmp_path, tmp_path / "m.onnx", "--port", "0") as server, server.socket() as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\nabc")
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.6)
        assert server.process.poll() is None  # it waits for the body
        assert server.stop(signal.SIGTERM, 5) == 143


def test_an_address_that_is_taken_and_a_damaged_model_are_one_line(tmp_path, server):
    import subprocess
    import sys

    colour_model(tmp_path / "m.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    for words, code, text in (
        (["m.onnx", "--port", str(server.port)], 2, "choose another --port"),
        (["bad.onnx", "--port", "0"], 1, "ONNX"),
        (["m.onnx", "--host", "0.0.0.0", "--port", "0"], 2, "--token auto"),
    ):
        command = [sys.executable, "-m", "foveate", "serve", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == code and text in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_ten_thousand_idle_connections_shut_nobody_out(server):
    """The usual limits; fewer where the system lets this process open fewer files."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else 11_000
    n = min(10_000, most - 1_000)
    assert n > 1_000  # more than the server keeps
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, n + 1_000), hard))
    before = server.rss()
    try:
        with contextlib.ExitStack() as stack:
            for i in range(n):
                stack.enter_context(server.socket())
                if i % 1000 == 999:
                    assert server.predict(("a", picture(RED)))[0]["label"] == "red"
            assert server.files() < 1_200 and server.rss() - before < 64 * 2**20
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
