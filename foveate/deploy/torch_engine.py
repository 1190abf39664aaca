"""PyTorch as a runtime: eager, and compiled by torch.compile (Inductor); float32, and 16-bit weights cast once.

16 bit is channels-last, and cast as a whole: autocast would cast the weights at every call.
"""

import copy
import os
import shutil
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from foveate.data.preprocess import crop_box, normalise
from foveate.deploy.subject import Engine, Subject

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def missing(precision: str, device: str) -> str | None:
    """Why eager PyTorch can not run here so; None where it can."""
    if device == "cuda" and not torch.cuda.is_available():
        return "PyTorch finds no CUDA device here"
    if precision == "fp16" and device != "cuda":
        return "fp16 runs on CUDA devices only"
    return None


def compile_missing(precision: str, device: str) -> str | None:
    """Why torch.compile can not run here so; None where it can."""
    if device == "cpu" and not any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "clang++", "cl")):
        return "torch.compile needs a C++ compiler: install g++ or clang"
    return missing(precision, device)


def eager(subject: Subject, precision: str) -> Engine:
    """The model as it is trained and as predict runs it."""
    net = _net(subject, precision)
    return _engine(subject, precision, net, net)


def compiled(subject: Subject, precision: str) -> Engine:
    """The model compiled for one size of batch, its weights taken for constants. The first run takes its time."""
    subject.told(f"torch.compile {precision}: a minute or more the first time")
    net = _net(subject, precision)
    fast = torch.compile(net, dynamic=False, options={"freezing": True, "compile_threads": 1})
    engine = _engine(subject, precision, net, fast)
    side = subject.side
    engine.run(np.zeros((subject.batch, side, side, 3), np.uint8))
    return engine


def _net(subject: Subject, precision: str) -> nn.Module:
    net = copy.deepcopy(subject.model).eval().requires_grad_(False).to(subject.device, DTYPES[precision])
    return net if precision == "fp32" else net.to(memory_format=torch.channels_last)


def _engine(subject: Subject, precision: str, net: nn.Module, call: Callable[[torch.Tensor], torch.Tensor]) -> Engine:
    p = subject.preprocess
    left, top, right, bottom = (
        crop_box(subject.side, subject.side, p) if p.fit == "crop" else (0, 0, p.resolution, p.resolution)
    )
    layout = torch.contiguous_format if precision == "fp32" else torch.channels_last

    def run(pictures: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            x = torch.from_numpy(pictures[:, top:bottom, left:right]).to(subject.device).permute(0, 3, 1, 2)
            x = normalise(x, p).to(DTYPES[precision]).contiguous(memory_format=layout)
            logits: np.ndarray = call(x).float().cpu().numpy()
        return logits

    size_bytes = sum(t.numel() * t.element_size() for t in net.state_dict().values())
    return Engine(run, size_bytes, f"torch {torch.__version__.partition('+')[0]}")
