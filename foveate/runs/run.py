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
from foveate.errors import printable
from foveate.events import DataEvent, Listener, StageEvent, WarningEvent
from foveate.report.notebook import html_table
from foveate.report.units import milliseconds, percent


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and what to say of it (JSON-able)."""

    folder: Path
    summary: Mapping[str, Any]
    before: bool = False  # it was finished before it was asked to go on, and nothing was done

    @property
    def best(self) -> Path:
        """Its model folder, for foveate.load; load(run) opens the same."""
        return self.folder / "best"

    @property
    def report(self) -> Path:
        """The page that tells the run."""
        return self.folder / "report.html"

    @property
    def accuracy(self) -> float | None:
        """On the test pictures, 0 to 1; None where the run is no training of one model."""
        found = self.summary.get("test_accuracy")
        return None if found is None else float(found)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the accuracy, Wilson's at 95 %."""
        found = self.summary.get("test_interval")
        return None if found is None else (float(found[0]), float(found[1]))

    @property
    def latency_ms(self) -> float | None:
        """Median of one picture on this machine's processor, in the runtime that the run measured."""
        found = self.summary.get("latency_ms")
        return None if found is None else float(found)

    @property
    def size_bytes(self) -> int | None:
        """Of the exported file."""
        found = self.summary.get("size_bytes")
        return None if found is None else int(found)

    def __repr__(self) -> str:
        told = [f"{key} {value}" for key, value in self._told().items()]
        return f"<Run {printable(str(self.folder))}{': ' if told else ''}{', '.join(told)}>"

    def _repr_html_(self) -> str:
        return html_table({"run": str(self.folder), **self._told(), "report": str(self.report)})

    def _told(self) -> dict[str, str]:
        s, found = self.summary, {}
        if "model" in s:
            found["model"] = printable(str(s["model"]))
        if self.accuracy is not None:
            span = self.interval
            found["accuracy"] = percent(self.accuracy) + " %"
            found["accuracy"] += f" ({percent(span[0])} to {percent(span[1])})" if span else ""
        if self.latency_ms is not None:
            found["latency"] = milliseconds(self.latency_ms)
        return found


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
