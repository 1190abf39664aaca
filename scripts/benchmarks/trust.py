"""How far answers hold: calibration error before and after, strangers refused, each class left out in turn.

Features of a published network on a folder of clothes, and logistic regressions on them: as strong and as weak as
trained networks are, in seconds. --models adds model folders, which are judged as they are.

    python scripts/benchmarks/trust.py clothing256 imagenet100 [--resolution 224] [--models runs/a/best runs/b/best]
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import foveate as fv
from foveate.data.index import open_data
from foveate.data.labelled import open_labelled
from foveate.data.load import evaluation_pictures
from foveate.data.preprocess import Preprocess, prepare
from foveate.data.read.decode import decode
from foveate.deploy.features import BATCH, feature_session, features
from foveate.deploy.runtime import Session
from foveate.runs.trust import spread
from foveate.train.intervals import wilson
from foveate.train.trusted import Known, Trust, limit_of
from foveate.trust.fit import fit_trust
from foveate.trust.scores import binned, confidences, scores_of
from foveate.trust.strangers import class_distance, know, neighbour_distance

KEEP = 0.95
STRENGTHS = (10.0, 1.0, 1e-1, 1e-2, 1e-3)  # C of the regressions: from far too sure to far too unsure
Logits = Callable[[np.ndarray], np.ndarray]


def strangers(folder: Path, cifar: Path | None) -> dict[str, list[np.ndarray]]:
    """Pictures that are no clothes, by name."""
    from PIL import Image, ImageDraw
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(0)
    words = ["".join(chr(97 + c) for c in rng.integers(0, 26, rng.integers(2, 9))) for _ in range(80)]

    def page() -> np.ndarray:
        image = Image.new("RGB", (300, 200), "white")
        draw = ImageDraw.Draw(image)
        for line in range(12):
            draw.text((5, 5 + 15 * line), " ".join(rng.choice(words, 7)), fill="black")
        return np.asarray(image)

    found = {
        "ImageNet": [decode(path) for path in sorted(folder.rglob("*")) if path.is_file()],
        "noise": [rng.integers(0, 256, (224, 224, 3), dtype=np.uint8) for _ in range(50)],
        "black to white": [np.full((224, 224, 3), v, np.uint8) for v in (0, 64, 128, 192, 255)],
        "text": [page() for _ in range(50)],
        "digits": [np.repeat((i * 15.9).astype(np.uint8)[..., None], 3, 2) for i in load_digits().images[:100]],
    }
    if cifar is not None:
        split = open_labelled(cifar, "test").samples
        picks = spread(np.array(split.labels), 100)
        found["CIFAR-10"] = [split.pixels[i] if split.pixels is not None else decode(split.paths[i]) for i in picks]
    return found


def features_of(session: Session, pictures: list[np.ndarray], p: Preprocess) -> np.ndarray:
    """Features (N, D) of decoded pictures."""
    rows = []
    for start in range(0, len(pictures), BATCH):
        x = np.stack([prepare(picture, p) for picture in pictures[start : start + BATCH]])
        full = np.concatenate([x, np.zeros((BATCH - len(x), *x.shape[1:]), np.uint8)])
        rows.append(session.run(full)[: len(x)])
    return np.concatenate(rows)


def regression(x: np.ndarray, y: np.ndarray, strength: float) -> Logits:
    """The logits of a logistic regression on standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(x)
    model = LogisticRegression(C=strength, max_iter=300).fit(scaler.transform(x), y)
    return lambda a: np.asarray(model.decision_function(scaler.transform(a)))


def auroc(usual: np.ndarray, strange: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    truth = np.r_[np.zeros(len(usual)), np.ones(len(strange))]
    return float(roc_auc_score(truth, np.r_[usual, strange]))


def calibration_row(name: str, logits: np.ndarray, labels: np.ndarray, trust: Trust, strange: np.ndarray | None) -> str:
    s = scores_of(logits, labels, trust)
    c, h = confidences(trust.probabilities(logits), labels)
    debiased = binned(c, h, mass=True).squared()
    row = f"| {name} | {h.mean():.3f} | {trust.temperature:.3f} | {s['ece_before']:.3f} | {s['ece']:.3f} "
    row += (
        f"({s['ece_interval'][0]:.3f} to {s['ece_interval'][1]:.3f}) | {s['ece_null'][0]:.3f}, {s['ece_null'][1]:.3f} "
    )
    row += f"| {1e4 * debiased:.1f}e-4 | {s['brier_before']:.3f} | {s['brier']:.3f} |"
    if strange is None:
        return row + " – | – |"
    kept = strange <= limit_of(trust.keep, KEEP, "keep")
    low, high = wilson(int(h[kept].sum()), int(kept.sum()))
    return row + f" {kept.mean():.3f} | {h[kept].mean():.3f} ({low:.3f} to {high:.3f}) |"


def stranger_rows(
    of: dict[str, np.ndarray], usual: np.ndarray, limit: float, score: Callable[[np.ndarray], np.ndarray], name: str
) -> str:
    cells = []
    for found in of.values():
        strange = score(found)
        cells.append(f"{auroc(usual, strange):.3f} / {100 * (strange > limit).mean():.0f} %")
    return f"| {name} | {(usual <= limit).mean():.3f} | " + " | ".join(cells) + " |"


def limit_at(validation: np.ndarray) -> float:
    return float(np.sort(validation)[int(np.ceil(KEEP * len(validation))) - 1])


def left_out(parts: dict[str, tuple[np.ndarray, np.ndarray]], classes: int, strength: float) -> dict[str, list[float]]:
    """AUROC of test pictures of a class that the model never saw against the others, class by class, by signal."""
    found: dict[str, list[float]] = {"probability": [], "distance": [], "joint": []}
    for name in range(classes):
        seen = {k: (x[y != name], np.unique(y[y != name], return_inverse=True)[1]) for k, (x, y) in parts.items()}
        x, y = seen["train"]
        logits = regression(x, y, strength)
        trust, known = fit_trust(logits(seen["val"][0]), seen["val"][1], seen["val"][0], know(x[spread(y, 600)]))
        assert known is not None
        test, labels = parts["test"]
        c = trust.probabilities(logits(test)).max(1)
        for key, score in zip(found, (1 - c, known.distance(test), known.strangeness(test, c)), strict=True):
            found[key].append(auroc(score[labels != name], score[labels == name]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("strangers", type=Path)
    parser.add_argument("--cifar", type=Path, default=None)
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--weights", default="lite")
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--models", nargs="*", default=[])
    given = parser.parse_args()
    p = Preprocess(resolution=given.resolution, resize=round(given.resolution * 1.14))
    session = feature_session(fv.create_model(given.model, weights=given.weights).eval(), p, 1)
    dataset, begun = open_data(given.data), time.process_time()
    parts = {}
    for name, split in dataset.splits.items():
        pictures = evaluation_pictures(split, p).load(1)
        parts[name] = features(session, pictures), np.array(split.labels)[pictures.keep]
    odd = {k: features_of(session, v, p) for k, v in strangers(given.strangers, given.cifar).items()}
    print(f"features: {time.process_time() - begun:.0f} s CPU", flush=True)
    (x, y), (val, val_y), (test, test_y) = (parts[k] for k in ("train", "val", "test"))
    base = know(x[spread(y, 600)])

    print(
        "\n| model | accuracy | T | ECE before | ECE after | null: mean, 95 % | squared, debiased | Brier before "
        "| after | kept at 0.95 | accuracy of those |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )
    fitted: dict[float, tuple[Logits, Trust, Known]] = {}
    for strength in STRENGTHS:
        logits = regression(x, y, strength)
        trust, known = fit_trust(logits(val), val_y, val, base)
        assert known is not None
        fitted[strength] = logits, trust, known
        c = trust.probabilities(logits(test)).max(1)
        name = f"{given.model}, C = {strength:g}"
        print(calibration_row(name, logits(test), test_y, trust, known.strangeness(test, c)), flush=True)
    for folder in given.models:
        model = fv.load(folder)
        split = dataset.splits["test"]
        z, strange = model.predict_strangeness(list(split.paths))
        print(calibration_row(folder, z, np.array(split.labels), model.trust, strange), flush=True)

    logits, trust, known = fitted[1e-2]
    print(f"\n| signal | kept of test | {' | '.join(odd)} |\n|---|---|{'---|' * len(odd)}")
    doubt = lambda a: 1 - trust.probabilities(logits(a)).max(1)  # noqa: E731
    signals: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "joint": lambda a: known.strangeness(a, 1 - doubt(a)),
        "distance, 600 known, 64 numbers": known.distance,
        "distance, all known, whole": lambda a: neighbour_distance(x, a),
        "Mahalanobis, Ledoit-Wolf": lambda a: class_distance(x, y, a),
        "probability": doubt,
    }
    for name, score in signals.items():
        print(stranger_rows(odd, score(test), limit_at(score(val)), score, name), flush=True)

    print("\n| left out | probability | distance | joint |\n|---|---|---|---|")
    found = left_out(parts, len(dataset.classes), 1e-3)
    for i, name in enumerate(dataset.classes):
        print(f"| {name} | " + " | ".join(f"{found[key][i]:.3f}" for key in found) + " |")
    print("| mean | " + " | ".join(f"{np.mean(found[key]):.3f}" for key in found) + " |", flush=True)


if __name__ == "__main__":
    main()
