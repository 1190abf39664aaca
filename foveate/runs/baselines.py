"""What simpler ways reach on the pictures of a run, a row each."""

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from foveate.config import parse_json
from foveate.data.index import Dataset
from foveate.data.load import Pictures
from foveate.runs.result import BaselineRow
from foveate.runs.training import START, Trained, read_linear
from foveate.train.artefact import ModelCard
from foveate.train.evaluate import accuracy, labels_of, predict_logits
from foveate.zoo.tensors import read_tensors

CLASSIC = "classic.json"  # of a run folder: the row of a classical pipeline, {} where there was no time for one


def make_baselines(
    folder: Path,
    dataset: Dataset,
    trained: Trained,
    tested: tuple[Pictures, float],
    card: ModelCard,
    model: nn.Module,
) -> list[BaselineRow]:
    """What simpler ways reach on the same pictures: always the most frequent class, a classical pipeline where fit
    learnt one, a linear classifier on frozen features where the run started from one, and last what is shipped.

    tested: the pictures and the accuracy on them. model: of best/, whose weights stay.
    """
    pictures, found = tested
    labels, classes = labels_of(pictures), len(dataset.classes)
    most = int(np.bincount(dataset.splits["train"].labels, minlength=classes).argmax())
    val, linear = np.array(dataset.splits["val"].labels), read_linear(folder)
    rows: list[BaselineRow] = [
        {
            "name": f"always {dataset.classes[most]}",
            "val_accuracy": float((val == most).mean()),
            "test_accuracy": float((labels == most).mean()),
            "seconds": 0.0,
        }
    ]
    if classical := read_classic(folder):
        rows.append(BaselineRow(**classical))  # type: ignore[typeddict-item]
    if linear.get("linear") and (folder / START).exists():
        kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(read_tensors(folder / START))
        logits = predict_logits(model, pictures, trained.plan.preprocess)
        model.load_state_dict(kept)
        rows.append(
            {
                "name": f"linear classifier on frozen features of {trained.plan.model}",
                "val_accuracy": linear.get("val_accuracy"),
                "test_accuracy": accuracy(logits, labels),
                "seconds": linear["seconds"],
            }
        )
    rows.append(
        {
            "name": trained.plan.model,
            "val_accuracy": val_accuracy(card, trained),
            "test_accuracy": found,
            "seconds": trained.seconds,
        }
    )
    return rows


def read_classic(folder: Path) -> dict[str, Any]:
    """The row of the classical pipeline that a fit learnt beside its networks; empty where it did not."""
    if not (folder / CLASSIC).exists():
        return {}
    found: dict[str, Any] = parse_json((folder / CLASSIC).read_bytes(), CLASSIC)
    return found


def val_accuracy(card: ModelCard, trained: Trained) -> float:
    """The validation accuracy of what is shipped, which the blend may have changed since the best epoch."""
    found = [m.value for m in card.metrics if m.name == "accuracy" and m.split == "val"]
    return found[0] if found else trained.progress.best_accuracy
