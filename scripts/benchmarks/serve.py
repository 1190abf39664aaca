"""foveate serve beside other servers of the same ONNX file, on this machine alone: requests a second of the processor.

Closed loop: 1 to 64 clients, each asks again when it is answered. Open loop: requests at a fixed rate, whether answered
or not, as strangers come. Every server gets the same JPEG bytes as a multipart form, answers on 127.0.0.1 and is ended.
starlette, fastapi: with Pillow and onnxruntime in a pool of threads, as most tutorials write it. Others than ours only
where they are installed. CPU seconds are those of the server with all its children, without the client's.

    python scripts/benchmarks/serve.py --model runs/photos-1/best/model.onnx --picture cat.jpg --seconds 5
"""

import argparse
import asyncio
import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLIENTS = (1, 4, 16, 64)
PLAIN = """
import asyncio, io, json, sys
import numpy as np, onnxruntime, uvicorn
from concurrent.futures import ThreadPoolExecutor
from PIL import Image
path, port, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
o = onnxruntime.SessionOptions(); o.intra_op_num_threads = 1; o.log_severity_level = 4
session = onnxruntime.InferenceSession(path, o, providers=["CPUExecutionProvider"])
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
pool = ThreadPoolExecutor(2)
def predict(data):
    x = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[None]
    z = session.run(["logits"], {"image": x})[0][0]
    p = np.exp(z - z.max()); p /= p.sum()
    return {"label": classes[int(p.argmax())], "probability": float(p.max())}
if kind == "fastapi":
    from fastapi import FastAPI, File, UploadFile
    app = FastAPI()
    @app.post("/predict")
    async def route(file: UploadFile = File(...)):
        return await asyncio.get_running_loop().run_in_executor(pool, predict, await file.read())
elif kind == "starlette":
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route
    async def route(request):
        async with request.form() as form:
            data = await form["file"].read()
        return JSONResponse(await asyncio.get_running_loop().run_in_executor(pool, predict, data))
    app = Starlette(routes=[Route("/predict", route, methods=["POST"])])
if kind == "litserve":
    import litserve
    from fastapi import UploadFile
    class Api(litserve.LitAPI):
        def setup(self, device):
            pass
        def decode_request(self, request):
            return request["file"].file.read()
        def predict(self, data):
            return predict(data)
        def encode_response(self, output):
            return output
    if __name__ == "__main__":
        api = Api(api_path="/predict")
        server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
        server.run(port=port, host="127.0.0.1", generate_client_file=False, log_level="critical")
elif __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="critical")
"""


def body_of(data: bytes) -> bytes:
    """A whole request with one picture."""
    edge = b"edge7f3a"
    form = b"--" + edge + b'\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n'
    form += b"Content-Type: image/jpeg\r\n\r\n" + data + b"\r\n--" + edge + b"--\r\n"
    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=" + edge
    return head + b"\r\nContent-Length: %d\r\n\r\n" % len(form) + form


async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
    """The status of one request on an open connection."""
    writer.write(request)
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    low = head.lower()
    length = int(low.split(b"content-length:")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])


async def closed(port: int, request: bytes, clients: int, seconds: float) -> tuple[list[float], int]:
    """(times of good answers in s, refused) of clients that ask again when they are answered."""
    times: list[float] = []
    refused = 0
    end = time.perf_counter() + seconds

    async def client() -> None:
        nonlocal refused
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < end:
            start = time.perf_counter()
            status = await once(reader, writer, request)
            if status == 200:
                times.append(time.perf_counter() - start)
            else:
                refused += 1
                await asyncio.sleep(0.05)
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return times, refused


async def opened(port: int, request: bytes, rate: float, seconds: float) -> tuple[list[float], int]:
    """The same at a fixed rate; a request's time counts from when it was due."""
    times: list[float] = []
    refused = 0

    async def one(due: float) -> None:
        nonlocal refused
        try:
            async with asyncio.timeout(20):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                status = await once(reader, writer, request)
                writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            status = 0
        if status == 200:
            times.append(time.perf_counter() - due)
        else:
            refused += 1

    start, tasks = time.perf_counter(), []
    for i in range(int(rate * seconds)):
        due = start + i / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.ensure_future(one(due)))
    await asyncio.gather(*tasks)
    return times, refused


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in thread.read_text().split():
                found += family(int(child))
    return found


def cpu_s(pid: int) -> float:
    """Seconds of the processor, of all of them."""
    total = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            parts = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, parts[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> float:
    """Megabytes, each page shared by its users (PSS)."""
    total = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


@contextlib.contextmanager
def running(name: str, model: Path, folder: Path):
    """(process, port, seconds from start to the first answer) of a server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "plain.py").write_text(PLAIN)
    command = [sys.executable, str(folder / "plain.py"), str(model), str(port), name]
    if name == "foveate":
        command = [sys.executable, "-m", "foveate", "serve", str(model), "--port", str(port), "--quiet"]
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd=os.getcwd()
    )
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            if process.poll() is not None or time.perf_counter() - start > 60:
                raise RuntimeError(f"{name} did not start")
            time.sleep(0.01)
        yield process, port, start
    finally:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def bare_ms(model: Path, data: bytes) -> tuple[float, float]:
    """Median milliseconds of the session alone on a prepared picture, and of decoding and preparing it."""
    import statistics

    from foveate.data.preprocess import framed
    from foveate.data.read.decode import decode
    from foveate.deploy.runtime import open_session

    session = open_session(model)

    def ready():
        return framed(decode(data), session.preprocess)

    x = ready()[None]
    found = []
    for call in (lambda: session.run(x), ready):
        times = []
        for _ in range(60):
            start = time.perf_counter()
            call()
            times.append(1000 * (time.perf_counter() - start))
        found.append(statistics.median(times[10:]))
    return found[0], found[1]


def quantile(times: list[float], q: float) -> float:
    """Milliseconds."""
    return 1000 * sorted(times)[min(len(times) - 1, int(q * len(times)))] if times else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second of the open loop")
    parser.add_argument("--servers", nargs="*", default=["foveate", "starlette", "fastapi", "litserve"])
    given = parser.parse_args()
    data = given.picture.read_bytes()
    request = body_of(data)
    alone, ready = bare_ms(given.model, data)
    print(f"session alone {alone:.2f} ms, decoding and preparing {ready:.2f} ms; {os.cpu_count()} cores")
    rows = []
    for name in given.servers:
        if name != "foveate" and importlib.util.find_spec(name) is None:
            print(f"{name}: not installed")
            continue
        with (
            tempfile.TemporaryDirectory() as folder,
            running(name, given.model, Path(folder)) as (process, port, start),
        ):
            while not asyncio.run(closed(port, request, 1, 0.01))[0]:
                pass
            started = time.perf_counter() - start
            asyncio.run(closed(port, request, 4, 1.0))  # warm
            loops = [(f"closed {n}", closed(port, request, n, given.seconds)) for n in CLIENTS]
            loops.append((f"open {given.rate:g}/s", opened(port, request, given.rate, given.seconds)))
            for what, loop in loops:
                before, clock = cpu_s(process.pid), time.perf_counter()
                times, refused = asyncio.run(loop)
                spent, took = cpu_s(process.pid) - before, time.perf_counter() - clock
                row = {
                    "server": name,
                    "loop": what,
                    "per_s": round(len(times) / took, 1),
                    "per_cpu_s": round(len(times) / max(spent, 0.01), 1),
                    "p50_ms": round(quantile(times, 0.5), 2),
                    "p99_ms": round(quantile(times, 0.99), 2),
                    "refused": refused,
                }
                rows.append(row)
                print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
            print(f"{name}: first answer after {started:.2f} s, {memory(process.pid):.0f} MB")
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
