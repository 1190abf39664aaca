"""Latency of the file that will be deployed: preprocessing and network in its runtime, on this machine."""

from importlib.metadata import version

import numpy as np
from torch import nn

from foveate.config import to_dict
from foveate.cost.latency import Latency, device_name, measure
from foveate.data.preprocess import Preprocess, sized
from foveate.deploy import openvino
from foveate.deploy.export import export_for_timing
from foveate.deploy.runtime import Session, open_session


def session_in(runtime: str, onnx: bytes, threads: int) -> Session:
    """An ONNX file that export_onnx wrote, opened in a runtime. ConfigError for OpenVINO where it is not installed."""
    if runtime == "openvino":
        return openvino.session(openvino.convert(onnx), threads)
    return open_session(onnx, threads)


def measure_latency(
    model_or_bytes: nn.Module | bytes,
    preprocess: Preprocess,
    threads: int = 1,
    repeats: int = 50,
    *,
    batch: int = 1,
    runtime: str = "onnxruntime",
) -> Latency:
    """Time a model, or an ONNX file that export_onnx made, with that many threads in onnxruntime or openvino."""
    data = model_or_bytes
    if isinstance(data, nn.Module):
        data = export_for_timing(data, preprocess, batch)
    return time_session(session_in(runtime, data, threads), preprocess, runtime, repeats, batch=batch)


def time_session(
    session: Session,
    preprocess: Preprocess,
    runtime: str,
    repeats: int = 50,
    *,
    batch: int = 1,
    precision: str = "float32",
) -> Latency:
    """Time an opened model.

    The input is of the size that the resize step gives, so the number is crop + normalise + network, and does not
    depend on how large the user's pictures are. Reading and decoding files is not in it.
    """
    side = sized(preprocess)
    # noise, not zeros: with zeros some networks fall into slow denormal numbers
    pictures = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
    timing = measure(lambda: session.run(pictures), repeats=repeats)
    return Latency(
        **to_dict(timing),
        threads=session.threads,
        batch=batch,
        runtime=f"{runtime} {version(runtime)}",
        precision=precision,
        device=device_name(),
        input=f"uint8 {batch} x {side} x {side} x 3, resized before; timed: {preprocess.fit}, normalise, network",
    )
