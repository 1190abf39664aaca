"""Classes of unequal size: balanced accuracy of foveate fit with and without --balance, on classes thinned to 50 : 1.

    python scripts/benchmarks/imbalance.py FOLDER [--ratio 50] [--seeds 3] [--seconds 120] [--out FILE.jsonl]

FOLDER has train/ validation/ test/ with class folders. Training and validation pictures are thinned together: the k-th
class keeps RATIO^(-k / (classes - 1)) of the size of the largest, which comes first (all of them where it has less);
the others come in an order that the seed draws. The test pictures stay. Arms:
    none       --balance none
    default    nothing said (--balance auto)
    balanced   --metric balanced (--balance auto)
Rows are kept in FILE and not made again. Ends with a table: mean over seeds, and the difference from none by seed.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np
from clothing import fit
from sizes import PARTS, folder_of

ARMS = {"none": ("--balance", "none"), "default": (), "balanced": ("--metric", "balanced")}


def thin(folder: Path, ratio: float, seed: int) -> list[Path]:
    """The pictures that stay."""
    generator = np.random.default_rng(seed)
    classes = sorted(path.name for path in (folder / PARTS[0]).iterdir())
    held = {c: sorted(path for part in PARTS for path in (folder / part / c).iterdir()) for c in classes}
    kept = []
    # the largest class comes first, so that there is something to thin; the others in a drawn order
    first = max(classes, key=lambda c: len(held[c]))
    order = [first, *generator.permutation([c for c in classes if c != first])]
    top = len(held[first])
    for place, name in enumerate(order):
        wanted = max(4, round(top * ratio ** (-place / (len(order) - 1))))
        chosen = generator.permutation(len(held[name]))[:wanted]
        kept += [held[name][i] for i in sorted(chosen)]
    return kept


def table(rows: list[dict]) -> str:
    """Markdown, a line an arm."""
    seeds = sorted({row["seed"] for row in rows})
    value = {(row["arm"], row["seed"]): row for row in rows}
    lines = [
        "| arm | balanced accuracy, test % | accuracy, test % | balanced less none | each seed |",
        "|---|---|---|---|---|",
    ]
    for arm in ARMS:
        here = [value[arm, seed] for seed in seeds]
        gain = [100 * (value[arm, s]["balanced_accuracy"] - value["none", s]["balanced_accuracy"]) for s in seeds]
        both = [100 * statistics.mean(row[key] for row in here) for key in ("balanced_accuracy", "test_accuracy")]
        error = statistics.stdev(gain) / len(gain) ** 0.5 if len(gain) > 1 else float("nan")
        each = ", ".join(f"{100 * row['balanced_accuracy']:.1f}" for row in here)
        lines.append(
            f"| {arm} | {both[0]:.1f} | {both[1]:.1f} | {statistics.mean(gain):+.1f} (se {error:.1f}) | {each} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ratio", type=float, default=50.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--out", type=Path, default=Path("imbalance.jsonl"))
    given = parser.parse_args()
    done = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    for seed in range(given.seeds):
        paths = thin(given.folder, given.ratio, seed)
        for arm, options in ARMS.items():
            if any((row["arm"], row["seed"]) == (arm, seed) for row in done):
                continue
            with tempfile.TemporaryDirectory() as place:
                to = folder_of(paths, given.folder / "test", Path(place) / "thinned")
                summary = fit(to, seed, given.seconds, *options)
            keys = ("model", "resolution", "test_accuracy", "balanced_accuracy", "wall_s", "warnings")
            done.append({"arm": arm, "seed": seed, "n": len(paths), **{key: summary[key] for key in keys}})
            with given.out.open("a") as file:
                file.write(json.dumps(done[-1]) + "\n")
            print(json.dumps({key: done[-1][key] for key in ("arm", "seed", "n", *keys[:5])}), flush=True)
    print(table(done))


if __name__ == "__main__":
    main()
