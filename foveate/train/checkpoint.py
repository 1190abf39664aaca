"""Checkpoints: all of a State and the rows so far in one folder that appears whole or not at all.

state/step-00000120/: tensors.safetensors (weights, average, optimiser slots), state.json (counters, rows), sums.json
(checksums). The
newest two are kept; a damaged one is passed over for the one before. No generator state is saved: random numbers are
functions of the step.
"""

import hashlib
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from foveate.config import parse_json, to_json
from foveate.errors import CheckpointError, FoveateError
from foveate.files import crashpoint, recover_folder, write_folder
from foveate.train.state import State
from foveate.zoo.weights import read_tensors, tensor_bytes


@dataclass
class Progress:
    """What a run knows beside the State: finished rows, the best one, and the sums of the epoch under way."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best_accuracy: float = -1.0
    best_score: float = -1.0  # of the metric that chooses; the accuracy where nothing else is asked for
    best_loss: float | None = None  # validation loss of the best row
    steps: int = 0  # in all, where the time has made them more or fewer than the recipe's; 0: the recipe's
    over: bool = False  # whether the time ended the training
    statistics: str = ""  # which running statistics the last evaluation took (train/settled.py)
    best_statistics: str = ""  # and that of the best row
    loss_sum: float = 0.0
    correct: int = 0
    count: int = 0
    skipped: int = 0  # steps of this epoch whose loss was not finite

    def judge(self, row: Mapping[str, Any]) -> None:
        """Keep a row as the best one: the higher metric (else accuracy), then the lower loss, then the later epoch.

        A row that was not evaluated is passed over.
        """
        value = row.get("val_score", row["val_accuracy"])
        best_loss = math.inf if self.best_loss is None else self.best_loss
        if value is None or (value, -row["val_loss"]) < (self.best_score, -best_loss):
            return
        self.best_epoch, self.best_accuracy = row["epoch"], row["val_accuracy"]
        self.best_score, self.best_loss = value, row["val_loss"]
        self.best_statistics = self.statistics


def save(folder: Path, state: State, progress: Progress) -> None:
    """Write a checkpoint of this moment under folder (a run's state/), then drop all but the newest two."""
    tensors, scalars = _tensors(state)
    about = {
        "step": state.step,
        "skipped": state.skipped,
        "parts": state.parts,
        "scale": state.scaler.state_dict(),
        "average_count": state.average.count if state.average is not None else 0,
        "optimizer": scalars,
        "progress": vars(progress),
    }
    name = f"step-{state.step:08d}"
    crashpoint("checkpoint.before")
    files = {"tensors.safetensors": tensor_bytes(tensors), "state.json": to_json(about).encode()}
    sums = {file: hashlib.sha256(data).hexdigest() for file, data in files.items()}
    write_folder(folder / name, {**files, "sums.json": to_json(sums).encode()})
    crashpoint("checkpoint.after")
    for old in _saved(folder)[2:]:
        shutil.rmtree(old, ignore_errors=True)


def _saved(folder: Path) -> list[Path]:
    """Checkpoint folders, newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


def restore(folder: Path, state: State, warn: Callable[[str], None]) -> Progress:
    """Put the newest whole checkpoint into state and return its Progress; damaged ones are passed over with a
    warning.
    """
    for path in {p.with_name(p.name.split(".")[1]) for p in folder.glob(".step-*")}:
        recover_folder(path)
    for path in _saved(folder):
        try:
            return _restore_one(path, state)
        except (FoveateError, OSError, KeyError, TypeError) as error:
            warn(f"{path} can not be used ({error}); trying the one before")
    raise CheckpointError(f"{folder}: no usable checkpoint; start the run again without --resume")


def _restore_one(path: Path, state: State) -> Progress:
    for name, wanted in parse_json((path / "sums.json").read_bytes(), "sums.json").items():
        if hashlib.sha256((path / name).read_bytes()).hexdigest() != wanted:
            raise FoveateError(f"the checksum of {name} differs")
    about = parse_json((path / "state.json").read_bytes(), str(path / "state.json"))
    tensors = read_tensors(path / "tensors.safetensors")
    progress = Progress(**about["progress"])
    state.model.load_state_dict(_part(tensors, "model."))
    if state.average is not None:
        state.average.shadow.load_state_dict(_part(tensors, "average."))
        state.average.count = about["average_count"]
    if state.lookahead is not None:
        state.lookahead.restore(_part(tensors, "lookahead."))
    slots: dict[int, dict[str, Any]] = {int(i): dict(s) for i, s in about["optimizer"].items()}
    for name, tensor in _part(tensors, "optimizer.").items():
        index, _, slot = name.partition(".")
        slots.setdefault(int(index), {})[slot] = tensor
    state.optimizer.load_state_dict({"state": slots, "param_groups": state.optimizer.state_dict()["param_groups"]})
    state.step, state.skipped, state.parts = about["step"], about["skipped"], about["parts"]
    if state.scaler.is_enabled():
        state.scaler.load_state_dict(about["scale"])
    return progress


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _tensors(state: State) -> tuple[dict[str, torch.Tensor], dict[str, dict[str, Any]]]:
    """Every tensor by name, and the optimiser's plain numbers by parameter index."""
    tensors = {f"model.{n}": t for n, t in state.model.state_dict().items()}
    if state.average is not None:
        tensors |= {f"average.{n}": t for n, t in state.average.shadow.state_dict().items()}
    if state.lookahead is not None:
        tensors |= {f"lookahead.{n}": t for n, t in state.lookahead.tensors().items()}
    scalars: dict[str, dict[str, Any]] = {}
    for index, slots in state.optimizer.state_dict()["state"].items():
        for slot, value in slots.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{index}.{slot}"] = value
            else:
                scalars.setdefault(str(index), {})[slot] = value
    return tensors, scalars
