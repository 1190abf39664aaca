"""A model whose answers are known without running it, and a server of it in a process of its own that always ends."""

import contextlib
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = ("red", "green", "blue")
SIDE = 32
LAUNCH = """
import json
from foveate.serve.serving import serve
from foveate.serve.settings import Settings
def announce(url):
    print(json.dumps({"url": url}), flush=True)
"""


def colour_model(path: Path, *, slow: int = 0, scale: float = 0.04, trust: bool = True, classes=COLOURS) -> Path:
    """An ONNX file: logits = scale * mean of red, green, blue; strangeness = mean of red / 255; features = the means.

    slow: products with 1024 x 1024 numbers whose result is multiplied by 0: time and nothing else.
    """
    from onnx import TensorProto, helper, numpy_helper

    def constant(name, value, kind=np.float32):
        constants.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def node(op, inputs, out, **attributes):
        nodes.append(helper.make_node(op, inputs, [out], **attributes))
        return out

    nodes, constants = [], []
    x = node("Cast", ["image"], "float", to=TensorProto.FLOAT)
    mean = node("ReduceMean", [x, constant("axes", [1, 2], np.int64)], "features", keepdims=0)
    logits = node("Mul", [mean, constant("scale", [scale])], "logits" if not slow else "plain")
    if slow:
        rng = np.random.default_rng(0)
        y = node("MatMul", [mean, constant("wide", rng.normal(0, 1, (3, 1024)))], "y")
        weight = constant("weight", rng.normal(0, 1 / 32, (1024, 1024)))
        for i in range(slow):
            y = node("MatMul", [y, weight], f"y{i}")
        node("Add", [logits, node("MatMul", [y, constant("zero", np.zeros((1024, 3)))], "nothing")], "logits")
    first = node("Gather", [mean, constant("first", 0, np.int64)], "red", axis=1)
    node("Mul", [first, constant("unit", 1 / 255)], "strangeness")

    def value(name, kind, shape):
        return helper.make_tensor_value_info(name, kind, shape)

    outputs = [value("logits", TensorProto.FLOAT, ["N", 3]), value("strangeness", TensorProto.FLOAT, ["N"])]
    outputs.append(value("features", TensorProto.FLOAT, ["N", 3]))
    graph = helper.make_graph(
        nodes, "colours", [value("image", TensorProto.UINT8, ["N", "H", "W", 3])], outputs, constants
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    preprocess = {"resolution": SIDE, "resize": SIDE, "fit": "squash", "kernel": "bilinear"}
    known = {"keep": [[0.95, 0.9]], "sets": [[0.95, 0.8]], "pictures": 100}
    told = {"classes": list(classes), "preprocess": preprocess, **({"trust": known} if trust else {})}
    for key, text in told.items():
        model.metadata_props.add(key=key, value=json.dumps(text))
    path.write_bytes(model.SerializeToString())
    return path


def picture(colour=(200, 10, 10), size=(48, 40), kind="PNG", **options) -> bytes:
    """The bytes of a picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind, **options)
    return file.getvalue()


def form(files) -> tuple[bytes, str]:
    """(body, Content-Type) of a multipart form. files: (field, name, bytes)."""
    edge = "edge-of-the-test-7c1f"
    body = b"".join(
        f'--{edge}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode()
        + data
        + b"\r\n"
        for field, name, data in files
    )
    return body + f"--{edge}--\r\n".encode(), f"multipart/form-data; boundary={edge}"


class Served:
    """A running server."""

    def __init__(self, process, url, told, log):
        self.process, self.url, self.told, self.log = process, url, told, log
        self.port = int(url.rstrip("/").rpartition(":")[2])

    def ask(self, method, path, body=None, headers=None, timeout=30):
        """(status, headers, body) of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def predict(self, *files, query="", headers=None):
        """The predictions of pictures (name, bytes)."""
        body, kind = form([("f", name, data) for name, data in files])
        status, _, answer = self.ask("POST", f"/predict{query}", body, {"Content-Type": kind, **(headers or {})})
        assert status == 200, (status, answer)
        return json.loads(answer)["predictions"]

    def socket(self, timeout=20):
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def raw(self, data: bytes, timeout=20) -> bytes:
        """What comes back until the server closes."""
        with self.socket(timeout) as connection:
            connection.sendall(data)
            return read_all(connection)

    def metric(self, name: str) -> float:
        """The value of a line of /metrics, 0 where there is none."""
        lines = self.ask("GET", "/metrics")[2].decode().splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)

    def children(self):
        """Process numbers of the decoders."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(text) for text in path.read_text().split()] if path.exists() else []

    def rss(self) -> int:
        """Bytes of memory of the server itself."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def files(self) -> int:
        """Open files of the server itself."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self, number=signal.SIGTERM, timeout=30) -> int:
        """Its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout)


def read_all(connection) -> bytes:
    """Until the other end closes or cuts."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            data += piece
    return data


@contextlib.contextmanager
def served(folder: Path, *words, command="serve", env=None, limits=None, code=None):
    """A server with these arguments on a free port of this machine; killed at the end, whatever happens.

    limits: fields of Settings; then the words are models, and there are no options. code: what runs in its place.
    """
    log = folder / f"server-{time.monotonic_ns()}.log"
    arguments = [sys.executable, "-m", "foveate", *command.split(), *map(str, words), "--json"]
    if limits is not None:
        call = f"serve({[str(w) for w in words]!r}, Settings(**{ {'port': 0, **limits}!r}), announce=announce)"
        arguments = [sys.executable, "-c", f"{LAUNCH}\n{call}"]
    if code is not None:
        arguments = [sys.executable, "-c", code]
    with open(log, "wb") as err:
        process = subprocess.Popen(
            arguments,
            stdout=subprocess.PIPE,
            stderr=err,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
            text=True,
        )
    try:
        text = process.stdout.readline()  # the first line is the whole object
        assert text, f"the server ended: {log.read_text()}"
        yield Served(process, json.loads(text)["url"], json.loads(text), log)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
