"""A finished run, and what is written down of the machine and the data."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from foveate import __version__
from foveate.data.index import Dataset
from foveate.events import DataEvent, Listener, StageEvent, WarningEvent


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and what to say of it (JSON-able)."""

    folder: Path
    summary: Mapping[str, Any]
    before: bool = False  # it was finished before it was asked to go on, and nothing was done


def announce(dataset: Dataset, listener: Listener) -> Dataset:
    """Tell the listener what was found: the classes as a sentence, the sizes, and what is odd about the folders."""
    listener(StageEvent(dataset.sentence()))
    train, val, test = (len(dataset.splits[n]) if n in dataset.splits else 0 for n in ("train", "val", "test"))
    listener(DataEvent(dataset.name, train, val, test, len(dataset.classes), len(dataset.left_out)))
    for text in dataset.warnings:
        listener(WarningEvent(text))
    return dataset


def environment() -> dict[str, Any]:
    """env.json: versions and device, for whoever repeats the run."""
    import numpy
    import onnxruntime

    from foveate.cost.latency import device_name

    return {
        "foveate": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "onnxruntime": onnxruntime.__version__,
        "system": platform.platform(),
        "device": device_name(),
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
