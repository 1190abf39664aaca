"""A long run of foveate serve on this machine, good and hostile requests: memory, open files and times as it goes.

python scripts/benchmarks/serve_soak.py --model runs/photos-1/best/model.onnx --picture cat.jpg --requests 100000
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from serve import body_of, closed, memory, quantile, running

HOUR_S = 3600.0
BAD = 16  # hostile variants of the picture


def hostile(data: bytes) -> list[bytes]:
    """The picture with bytes changed and ends cut."""
    found = []
    for i in range(BAD):
        changed = bytearray(data)
        for j in range(1 + i):
            changed[(i * 7919 + j * 104729) % len(changed)] ^= 1 + (i * 31 + j) % 255
        found.append(bytes(changed[: len(changed) - (i * 997) % (len(changed) // 2)]))
    return found


def looked(pid: int) -> dict[str, float]:
    """Megabytes of the server alone and with its children, and its open files."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    alone = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return {"rss_mb": round(alone, 1), "all_mb": round(memory(pid), 1), "files": len(os.listdir(f"/proc/{pid}/fd"))}


async def leave(port: int, request: bytes, n: int) -> None:
    """Clients that ask and do not wait."""
    for _ in range(n):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        await writer.drain()
        writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=HOUR_S, help="an end before the requests are done")
    given = parser.parse_args()
    data = given.picture.read_bytes()
    requests = [body_of(data)] * BAD + [body_of(bad) for bad in hostile(data)]
    with tempfile.TemporaryDirectory() as made, running("foveate", given.model, Path(made)) as (process, port, _):
        while not asyncio.run(closed(port, requests[0], 1, 0.01))[0]:
            pass
        done, start, first = 0, time.monotonic(), None
        while done < given.requests and time.monotonic() - start < given.seconds:
            times: list[float] = []
            for request in requests:
                more, refused = asyncio.run(closed(port, request, 8, 0.4))
                times += more
                done += len(more) + refused
            asyncio.run(leave(port, requests[0], 20))
            row = {"requests": done, "s": round(time.monotonic() - start, 1), **looked(process.pid)}
            row["p99_ms"] = round(quantile(times, 0.99), 1)
            first = first or row
            print(json.dumps(row), flush=True)
            if process.poll() is not None:
                raise SystemExit("the server ended")
        minutes = max((row["s"] - first["s"]) / 60, 1e-9)
        slope = (row["rss_mb"] - first["rss_mb"]) / minutes
        print(f"{slope:+.2f} MB a minute, {row['files'] - first['files']:+d} files")


if __name__ == "__main__":
    main()
