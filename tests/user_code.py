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


def ask(run: fv.Run, folder: Path) -> np.ndarray:
    model = fv.load(run)
    scored: list[tuple[str, float]] = model.predict(torch.zeros(3, 8, 8), top=3, batch=8)
    named: dict[str, list[tuple[str, float]]] = model.predict_folder(folder)
    x: torch.Tensor = model.preprocess(np.zeros((8, 8, 3), np.uint8))
    logits: torch.Tensor = model.module(x[None])
    written: Path = model.to_onnx(folder / "model.onnx")
    accuracy: float | None = run.accuracy
    print(scored, named, logits, written, accuracy, model.features([folder / "a.png"]))
    return model.predict_proba([folder / "a.png"])


def judge(folder: Path, data: Path) -> tuple[float, float]:
    found: fv.Evaluation = fv.eval(folder, data, split="test")
    small: fv.Run = fv.compress(folder, data, macs=0.5, progress=False)
    other: fv.Run = fv.search(data, "mnasnet", budget=fv.Budget(max_latency_ms=2.0))
    fv.ablate(data, "resnet18", "smoothing,mixup", seeds=2)
    fv.analyse(str(folder), data, what=("features",))
    size: int = fv.export(folder, to="openvino").size_bytes
    good: bool = fv.check(data).good(strict=True)
    print(small.latency_ms, other.size_bytes, size, good)
    return found.interval


def loop(data: Path, model: fv.Classifier) -> int:
    pictures = fv.Dataset(data, split="val", transform=model.preprocess)
    x, label = pictures[0]
    width: int = x.shape[-1]
    estimator = fv.FoveateClassifier(epochs=1).fit(np.zeros((4, 8, 8)), [0, 1, 0, 1])
    share: float = estimator.score(np.zeros((4, 8, 8)), [0, 1, 0, 1])
    fv.add_entry("act", "identity", lambda channels: torch.nn.Identity())
    fv.load_plugin("my_pkg")
    print(share, pictures.targets[0] == label, fv.Dataset(data)[0][0].size)
    return width
