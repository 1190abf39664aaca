"""From 20 pictures to all: foveate fit beside logistic regression on frozen features, at every size.

    python scripts/benchmarks/sizes.py FOLDER [--sizes 20,50,200,1000,all] [--seeds 5] [--seconds 60] [--out FILE.jsonl]

FOLDER has train/ validation/ test/ with class folders. Each seed draws its pictures out of train/ and validation/
together, as many a class as their shares allow and two at least; the test pictures stay. Needs the extras dev and lite.
    frozen     scikit-learn's logistic regression on pooled features of timm's tf_efficientnet_lite0 at 224 px,
               standardised, C out of 0.001 to 1 by cross-validation on the same pictures
    foveate    foveate fit DRAWN --time SECONDSs, nothing else said; it splits off its own validation pictures
Both see the same pictures. Rows are kept in FILE and not made again. Ends with a table: mean over seeds with its
standard deviation, and the difference, paired by seed, with its 95 % interval (Student's t).
"""

import argparse
import json
import shutil
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from clothing import evaluation, fit, lite0
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

PARTS = ("train", "validation")


@torch.no_grad()
def features(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pooled features (N, 1280) and labels of one split's folder, in the order of its sorted names."""
    x, y = evaluation(folder)
    model = lite0(0).eval()
    return torch.cat([model(part) for part in x.split(64)]).numpy(), y.numpy()


def draw(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Indices of `size` pictures: shares of the classes kept, two a class at least."""
    generator = np.random.default_rng(seed)
    counts = np.bincount(labels)
    wanted = np.maximum(2, np.floor(size * counts / counts.sum()).astype(int))
    while wanted.sum() != size:  # rounding: the largest class gives or takes
        wanted[int(np.argmax(wanted))] += int(np.sign(size - wanted.sum()))
    return np.concatenate([generator.permutation(np.flatnonzero(labels == c))[:n] for c, n in enumerate(wanted)])


def frozen(x: np.ndarray, y: np.ndarray, test: tuple[np.ndarray, np.ndarray]) -> float:
    """Test accuracy of logistic regression, C by cross-validation with five folds or fewer."""
    folds = StratifiedKFold(min(5, int(np.bincount(y).min())), shuffle=True, random_state=0)
    pipe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    found = GridSearchCV(pipe, {"logisticregression__C": [0.001, 0.01, 0.1, 1.0]}, cv=folds).fit(x, y)
    return float(found.score(*test))


def folder_of(paths: list[Path], test: Path, to: Path) -> Path:
    """A folder train/CLASS and test/CLASS of these pictures (copies: names may be the same in two parts)."""
    for number, path in enumerate(paths):
        place = to / "train" / path.parent.name
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place / f"{number:05d}{path.suffix}")
    shutil.copytree(test, to / "test")
    return to


def table(rows: list[dict]) -> str:
    """Markdown, a line a size."""
    lines = [
        "| pictures | frozen features, test % | foveate, test % | difference | each seed |",
        "|---|---|---|---|---|",
    ]
    for size in dict.fromkeys(row["size"] for row in rows):
        here = [row for row in rows if row["size"] == size]
        a, b = ([100 * row[key] for row in here] for key in ("frozen", "foveate"))
        gain = [q - p for p, q in zip(a, b, strict=True)]
        mean = statistics.mean(gain)
        sd = [statistics.stdev(v) if len(v) > 1 else 0.0 for v in (a, b, gain)]
        half = student.ppf(0.975, len(gain) - 1) * sd[2] / len(gain) ** 0.5 if len(gain) > 1 else float("nan")
        each = ", ".join(f"{g:+.1f}" for g in gain)
        lines.append(
            f"| {size} | {statistics.mean(a):.1f} (sd {sd[0]:.1f}) | {statistics.mean(b):.1f} (sd {sd[1]:.1f}) |"
            f" {mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f}) | {each} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", default="20,50,200,1000,all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("sizes.jsonl"))
    given = parser.parse_args()
    parts = [sorted((given.folder / part).glob("*/*")) for part in PARTS]
    paths = [path for part in parts for path in part]
    pairs = [features(given.folder / part) for part in PARTS]
    x, y = (np.concatenate(both) for both in zip(*pairs, strict=True))
    assert len(paths) == len(y)
    test = features(given.folder / "test")
    done = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    for size in given.sizes.split(","):
        for seed in range(given.seeds):
            if any((row["size"], row["seed"]) == (size, seed) for row in done):
                continue
            chosen = np.arange(len(y)) if size == "all" else draw(y, int(size), seed)
            row = {"size": size, "seed": seed, "frozen": frozen(x[chosen], y[chosen], test)}
            with tempfile.TemporaryDirectory() as place:
                to = folder_of([paths[i] for i in chosen], given.folder / "test", Path(place) / "drawn")
                summary = fit(to, seed, given.seconds)
            row |= {key: summary[key] for key in ("model", "resolution", "wall_s", "warnings", "weights")}
            row["foveate"] = summary["test_accuracy"]
            row["baselines"] = summary["baselines"]
            done.append(row)
            with given.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(
                size,
                seed,
                f"{row['frozen']:.4f} {row['foveate']:.4f}",
                row["model"],
                f"{row['wall_s']:.0f} s",
                flush=True,
            )
    print(table(done))
    print(f"{given.seconds} s each, torch {torch.__version__}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
