"""What was asked and answered, kept for `data drift` where it is wished: a file of JSON lines every few seconds.

No name, no address and no picture is kept; with thumbnails a small copy of what the network saw. What was answered in
the last FLUSH_S seconds goes with a server that is killed.
"""

import asyncio
import base64
import io
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from foveate.deploy.answer import Answer as Said
from foveate.deploy.trust_graph import FEATURES, LOGITS
from foveate.errors import WriteError
from foveate.files import check_writable, write_bytes
from foveate.serve.batching import Rows
from foveate.serve.body import Part
from foveate.serve.decoding import Decoded
from foveate.serve.metrics import Metrics
from foveate.serve.models import Opened

SCHEMA = "foveate.predictions/1"
FLUSH_S = 5.0
MOST = 20_000  # rows in memory; beyond it they are lost, and counted
SIDE = 224  # pixels of a thumbnail


class PredictionLog:
    """Rows on their way to DIR/YYYY-MM-DD/*.jsonl, by days of UTC."""

    def __init__(self, folder: Path, metrics: Metrics, thumbnails: bool) -> None:
        check_writable(folder)
        self.folder, self.metrics, self.thumbnails = folder, metrics, thumbnails
        self.rows: list[dict[str, Any]] = []
        self.number = 0

    def keep(self, model: Opened, part: Part, decoded: Decoded, rows: Rows, said: Said) -> None:
        """One answer."""
        if len(self.rows) >= MOST:
            self.metrics.log_lost.inc()
            return
        row = {
            "schema": SCHEMA,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "model": model.fingerprint,
            "label": said.label,
            "probability": _short(said.probability),
            "unknown": said.unknown,
            "strangeness": None if said.strangeness is None else _short(said.strangeness),
            "logits": [_short(v) for v in rows[LOGITS][0]],
        }
        if FEATURES in rows:
            row["features"] = [_short(v) for v in rows[FEATURES][0]]
        if self.thumbnails:
            row["pixels"] = decoded.pixels  # made small when it is written
        self.rows.append(row)

    async def run(self) -> None:
        """Write for ever."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await asyncio.to_thread(self.flush)

    def flush(self) -> None:
        """Write what has come."""
        rows, self.rows = self.rows, []
        days: dict[str, list[bytes]] = {}
        for row in rows:
            pixels = row.pop("pixels", None)
            if pixels is not None:
                row["thumbnail"] = base64.b64encode(_jpeg(pixels)).decode()
            days.setdefault(row["time"][:10], []).append(json.dumps(row).encode() + b"\n")
        for day, lines in days.items():
            self.number += 1
            folder = self.folder / day
            try:
                folder.mkdir(parents=True, exist_ok=True)
                write_bytes(folder / f"{time.time_ns()}-{os.getpid()}-{self.number}.jsonl", b"".join(lines))
            except (OSError, WriteError):  # answers matter more than their log
                self.metrics.log_lost.inc(len(lines))


def _short(value: Any) -> float:
    return float(f"{float(value):.6g}")


def _jpeg(pixels: np.ndarray) -> bytes:
    from PIL import Image

    image, file = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((SIDE, SIDE))
    image.save(file, "JPEG", quality=85)
    return file.getvalue()
