"""result.json and summary.json of a run, as parts."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.config import parse_json
from foveate.data.index import Dataset
from foveate.files import read_lines
from foveate.report.units import count, milliseconds, plural, size
from foveate.train.checkpoint import Progress
from foveate.train.engine import Job

if TYPE_CHECKING:
    from foveate.cost.latency import Latency
    from foveate.runs.plan import Plan


def data_report(dataset: Dataset, job: Job) -> dict[str, Any]:
    """The data part of the report: counts by split and class, what was left out and why."""
    counts = {
        name: dict(
            zip(dataset.classes, np.bincount(split.labels, minlength=len(dataset.classes)).tolist(), strict=True)
        )
        for name, split in dataset.splits.items()
    }
    left_out = [*dataset.left_out, *job.train.left_out, *job.val.left_out]
    return {
        "name": dataset.name,
        **{name: len(split) for name, split in dataset.splits.items()},
        "classes": list(dataset.classes),
        "counts": counts,
        "left_out": [list(pair) for pair in left_out],
        "notes": list(dataset.notes),
        "fingerprint": dataset.fingerprint,
    }


def cost_dict(counted: Any) -> dict[str, Any]:
    """The part of a Cost that the report shows."""
    layers = [
        {"name": x.name, "kind": x.kind, "params": x.params, "macs": x.macs, "output": list(x.output)}
        for x in counted.layers
    ]
    return {"params": counted.params, "macs": counted.macs, "resolution": counted.resolution, "layers": layers}


def environment_of(folder: Path) -> Mapping[str, Any]:
    """env.json of a run."""
    data: Mapping[str, Any] = parse_json((folder / "env.json").read_bytes(), "env.json")
    return data


def only_candidate(plan: "Plan", latency: Any, size_bytes: int, counted: Any, progress: Progress) -> dict[str, Any]:
    """The row of a run without a race."""
    return {
        "model": plan.model,
        "resolution": plan.preprocess.resolution,
        "weights": plan.weights,
        "latency_ms": latency.median_ms,
        "latency_p10_ms": latency.p10_ms,
        "latency_p90_ms": latency.p90_ms,
        "size_bytes": size_bytes,
        "macs": counted.macs,
        "params": counted.params,
        "fits": True,
        "val_accuracy": progress.best_accuracy,
        "chosen": True,
    }


def budget_text(plan: "Plan", threads: int, latency: "Latency") -> str:
    """The budget as one line."""
    b = plan.budget
    parts = [
        f"<= {milliseconds(b.max_latency_ms, exact=True)}" if b.max_latency_ms else "",
        f"<= {size(b.max_size_bytes, exact=True)}" if b.max_size_bytes else "",
        f"<= {count(b.max_macs, exact=True)} multiply-adds" if b.max_macs else "",
        f"<= {size(b.max_memory_bytes, exact=True)} in memory" if b.max_memory_bytes else "",
    ]
    limits = " and ".join(p for p in parts if p) or "no limit"
    name = latency.runtime.replace("onnxruntime", "ONNX Runtime").replace("openvino", "OpenVINO")
    short, precision = ".".join(name.split(".")[:2]), latency.precision.replace("float", "fp")
    return f"{limits} on this device ({plural(threads, 'thread')}, {short}, {precision})"


def summarise(
    folder: Path, plan: "Plan", result: Mapping[str, Any], story: Mapping[str, Any], report: Path
) -> dict[str, Any]:
    """What --json prints and the closing text is made of."""
    data, test_part = result["data"], result["test"]
    raced = [c for c in story.get("candidates", []) if c.get("val_accuracy") is not None]
    epochs = read_lines(folder / "metrics.jsonl")
    return {
        "run": str(folder),
        "model": plan.model,
        "resolution": plan.preprocess.resolution,
        "test_accuracy": test_part["accuracy"],
        "test_interval": test_part["interval"],
        "test_n": test_part["n"],
        "test_split": test_part["split"],
        "latency_ms": result["latency"]["median_ms"],
        "size_bytes": result["cost"]["size_bytes"],
        "macs": result["cost"]["macs"],
        "params": result["cost"]["params"],
        "report": str(report),
        "data": {
            "name": data["name"],
            **{name: data.get(name, 0) for name in ("train", "val", "test")},
            "classes": len(data["classes"]),
            "left_out": len(data["left_out"]),
        },
        "budget": result["budget"],
        "race": raced,
        "race_seconds": story.get("race_seconds", 0.0),
        "epochs": len(epochs),
        "threads": result["threads"],
        "runtime": result["latency"]["runtime"],
        "seed": plan.recipe.seed,
        "parity": result["parity"],
    }
