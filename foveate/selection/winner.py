"""The network that a race chose, and what it leaves to the training: in winner.json and winner.safetensors."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from foveate.config import from_dict, parse_json, record, to_dict
from foveate.data.preprocess import Preprocess
from foveate.files import crashpoint, write_bytes, write_json
from foveate.runs.plan import Architecture
from foveate.selection.candidates import Candidate
from foveate.train.head import Probe
from foveate.zoo.tensors import read_tensors, tensor_bytes

WINNER, TENSORS = "winner.json", "winner.safetensors"
PROBE = {"probe.weight": "weight", "probe.bias": "bias"}  # names in the file


@dataclass(frozen=True)
class Winner:
    """The network that is trained in full, and what the race leaves to that training."""

    candidate: Candidate
    rows: list[dict[str, object]]  # all candidates, for the report
    race_seconds: float
    probe: Probe | None  # a linear classifier on all pictures, with published weights
    probe_seconds: float  # that it took, with its rounds of the race
    end_s: float  # kept for all that comes after training
    shown: int  # pictures that the race has shown to it, from scratch
    initial_weights: Mapping[str, torch.Tensor] | None  # what came of these


@record
class WinnerRow:
    """winner.json."""

    model: str
    config: Architecture
    preprocess: Preprocess
    weights: str | None
    rows: tuple[dict[str, Any], ...]
    race_seconds: float
    probe: dict[str, float] | None  # the numbers of a Probe; its tensors lie in winner.safetensors
    probe_seconds: float
    end_s: float
    shown: int
    started: bool  # whether the weights that the race trained lie in winner.safetensors


def write_winner(folder: Path, winner: Winner) -> None:
    """Write it down: the tensors first, so that where winner.json is all is."""
    probe, c = winner.probe, winner.candidate
    tensors, numbers = dict(winner.initial_weights or {}), None
    if probe is not None:
        tensors |= {name: torch.from_numpy(getattr(probe, key)) for name, key in PROBE.items()}
        numbers = {f.name: float(getattr(probe, f.name)) for f in fields(Probe) if f.name not in PROBE.values()}
    if tensors:
        write_bytes(folder / TENSORS, tensor_bytes(tensors))
    facts = (winner.race_seconds, numbers, winner.probe_seconds, winner.end_s, winner.shown)
    started = winner.initial_weights is not None
    rows = tuple(to_dict(row) for row in winner.rows)
    write_json(folder / WINNER, WinnerRow(c.model, c.config, c.preprocess, c.weights, rows, *facts, started))
    crashpoint("fit.winner")


def read_winner(folder: Path) -> Winner | None:
    """The winner as it was written; None where the race is not over."""
    if not (path := folder / WINNER).is_file():
        return None
    row: WinnerRow = from_dict(WinnerRow, parse_json(path.read_bytes(), str(path)), str(path))
    tensors = read_tensors(folder / TENSORS) if row.started or row.probe is not None else {}
    probe = None
    if row.probe is not None:
        weight, bias = (tensors.pop(name).numpy() for name in PROBE)
        probe = Probe(weight, bias, **row.probe)
    candidate = Candidate(row.model, row.config, row.preprocess, row.weights)
    facts = (list(row.rows), row.race_seconds, probe, row.probe_seconds, row.end_s, row.shown)
    return Winner(candidate, *facts, tensors if row.started else None)
