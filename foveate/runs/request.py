"""What a fit was asked for, written into its run folder before anything else, so that it can go on from any stage."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from foveate import __version__
from foveate.config import from_dict, parse_json, record
from foveate.errors import ConfigError
from foveate.files import write_json
from foveate.runs.devices import Device
from foveate.runs.plan import Budget
from foveate.runs.resume import same_place
from foveate.runs.time_budget import TimeBudget

REQUEST, SPENT, BESIDE = "request.json", "spent.json", "beside.json"
OTHERS = {"search.json": "search", "compress.json": "compress", "recipe.json": "train"}  # folders of other commands


@record
class Asked:
    """request.json: the settings of fit, by the names of its arguments."""

    data: str
    time_s: float
    max_latency_ms: float | None = None
    max_size_bytes: int | None = None
    max_macs: int | None = None
    max_memory_bytes: int | None = None
    weights: str | None = "auto"
    licence: Literal["commercial", "any"] = "commercial"
    models: str | None = None
    name: str = ""
    seed: int = 0
    threads: int = 1
    device: Device = "cpu"
    bad_files: Literal["stop", "skip"] = "stop"
    follow_links: bool = False
    search: str | None = None
    compress: bool = False
    runtime: Literal["onnxruntime", "openvino"] = "onnxruntime"
    balance: Literal["auto", "none", "weights", "draws"] = "auto"
    metric: str = "accuracy"
    fingerprint: str = ""  # of the data
    command: str = ""
    version: str = __version__

    def budget(self, time_s: float) -> Budget:
        """What the device can afford, with the time of the run."""
        limits = (self.max_latency_ms, self.max_size_bytes, self.max_macs, self.max_memory_bytes)
        return Budget(*limits, time_s=time_s, runtime=self.runtime)


def read_request(folder: Path) -> Asked:
    """request.json of a run folder. ConfigError where there is none, with what to do instead."""
    path = folder / REQUEST
    if not path.is_file():
        for name, command in OTHERS.items():
            if (folder / name).is_file():
                raise ConfigError(f"{folder} is of another command; go on with: foveate {command} --resume {folder}")
        raise ConfigError(
            f"{folder}: nothing to go on with here (no {REQUEST}); expected a run folder of fit such as runs/photos-1"
        )
    asked: Asked = from_dict(Asked, parse_json(path.read_bytes(), str(path)), str(path))
    return asked


def refuse_others(folder: Path, asked: Asked, given: Mapping[str, object]) -> None:
    """ConfigError for the first setting, by the names of fit's arguments, that the run in this folder has not."""
    for key, wanted in given.items():
        option = "DATA" if key == "data" else f"--{key.removesuffix('_s').replace('_', '-')}"
        for unit in ("-ms", "-bytes"):
            option = option.removesuffix(unit)
        if key == "name":
            has: object = folder.resolve().name
            same = wanted is None or re.fullmatch(re.escape(str(wanted)) + r"(-\d+)?", str(has)) is not None
        elif key == "runs":
            has = folder.parent
            same = Path(str(wanted)).resolve() == folder.resolve().parent
        else:
            has = getattr(asked, key)
            same = wanted == has or (key in ("device", "threads") and wanted in ("auto", None))
            same = same or (key == "data" and (not wanted or same_place(str(wanted), asked.data)))
            same = same or (key == "weights" and has is None and wanted == "none")
        if not same:
            raise ConfigError(
                f"--resume {folder}: the run has {option} {'none' if has is None else has}, asked for {wanted}; a run"
                " goes on as it began: leave that out, or start a new run without --resume"
            )


def read_spent(folder: Path) -> float:
    """Seconds that earlier sessions of a run took, as far as they wrote it down."""
    path = folder / SPENT
    return float(parse_json(path.read_bytes(), SPENT)["seconds"]) if path.is_file() else 0.0


def write_spent(folder: Path, time: TimeBudget) -> None:
    """Write down how long the run has taken so far."""
    write_json(folder / SPENT, {"seconds": time.spent_s})


def read_beside(folder: Path) -> dict[str, str]:
    """Folders that belong to a fit, by what they are: "search", "small"."""
    path = folder / BESIDE
    found: dict[str, Any] = parse_json(path.read_bytes(), BESIDE) if path.is_file() else {}
    return {str(key): str(value) for key, value in found.items()}


def write_beside(folder: Path, what: str, place: Path) -> None:
    """One more folder of these: its name, for it lies beside."""
    write_json(folder / BESIDE, {**read_beside(folder), what: place.name})
