"""What a user of the Python interface writes: checked by mypy --strict in test_typed.py, never run."""

from pathlib import Path

import numpy as np
import torch

import foveate as fv


def choose(names: list[str], most_macs: int) -> str:
    costs = {name: fv.cost(fv.variant(name), resolution=160) for name in names}
    return max((name for name, cost in costs.items() if cost.macs <= most_macs), key=lambda name: costs[name].params)


def change(name: str) -> torch.nn.Module:
    config = fv.replace(fv.variant(name), num_classes=10, layers=fv.Layers(norm="group_norm"))
    config = fv.set_path(config, "layers.act", "silu")
    model = fv.build(config)
    fv.load_weights(model, "weights.safetensors", except_head=True)
    maps: list[torch.Tensor] = model.feature_maps(torch.zeros(1, config.in_chans, 64, 64))
    width: int = model.num_features
    assert maps[-1].shape[1] == width
    return fv.create_model(name, num_classes=config.num_classes, layers={"norm": "iter_norm"})


def make(data: Path) -> Path:
    try:
        run = fv.fit(data, max_latency_ms=5.0, time_s=60.0)
    except fv.BudgetError:
        run = fv.train(data, "resnet18", overrides=["epochs=5"])
    report: Path = run.folder / "report.html"
    return report


def label(folder: Path, pictures: list[str]) -> list[str]:
    model = fv.load(folder)
    first: list[tuple[str, float]] = model.predict(pictures[0])
    several: list[list[tuple[str, float]]] = model.predict(pictures, top=1)
    grey: list[tuple[str, float]] = model.predict(np.zeros((8, 8), np.uint8))
    names: tuple[str, ...] = model.classes
    return [first[0][0], grey[0][0], *(answer[0][0] for answer in several), *names, *fv.list_models("resnet*")]
