"""Latency of the file that will be deployed: preprocessing and network in onnxruntime, on this machine."""

import numpy as np
from torch import nn

from foveate.config import to_dict
from foveate.cost.latency import Latency, device_name, measure
from foveate.data.preprocess import Preprocess
from foveate.deploy.export import export_for_timing
from foveate.deploy.parity import sized
from foveate.deploy.runtime import open_session


def measure_latency(
    model_or_bytes: nn.Module | bytes, preprocess: Preprocess, threads: int = 1, repeats: int = 50, *, batch: int = 1
) -> Latency:
    """Time a model, or an ONNX file that export_onnx made, in onnxruntime with that many threads.

    The input is of the size that the resize step gives, so the number is crop + normalise + network, and does not
    depend on how large the user's pictures are. Reading and decoding files is not in it.
    """
    import onnxruntime

    data = model_or_bytes
    if isinstance(data, nn.Module):
        data = export_for_timing(data, preprocess, batch)
    session = open_session(data, threads)
    side = sized(preprocess)
    # noise, not zeros: with zeros some networks fall into slow denormal numbers
    pictures = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
    timing = measure(lambda: session.run(pictures), repeats=repeats)
    return Latency(
        **to_dict(timing),
        threads=threads,
        batch=batch,
        runtime=f"onnxruntime {onnxruntime.__version__}",
        precision="float32",
        device=device_name(),
        input=f"uint8 {batch} x {side} x {side} x 3, resized before; timed: {preprocess.fit}, normalise, network",
    )
