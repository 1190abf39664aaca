"""How well latency is predicted, beside what multiply-adds alone say.

    python scripts/benchmarks/latency_model.py table [--table FILE] [--networks 60] [--seed 7] [--rounds 20]
    python scripts/benchmarks/latency_model.py transfer FOLDER [--samples 10 100 900] [--seeds 10]

table: random networks of MnasNet's space (layer, kernel, width, depth, gate and expansion of each block, 96 to 224
pixels), exported and timed in ONNX Runtime, batch 1, one thread, in processor time, all visited in turn; against the
table that `foveate profile --calibrate` measured. They are none of the networks that the table was measured on.

transfer: FOLDER holds nasbench201.csv and nasbench201_latency_ms.csv. Each device in turn is the new one: so many of
its latencies are drawn at random, 5,000 of the others are the test. "columns": all other columns are known. "hardware":
columns of the same processor or card at another batch size are not.
"""

import argparse
import csv
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from foveate.config import replace
from foveate.zoo import variant
from foveate.zoo.families.mnasnet.network import Stage

RESOLUTIONS = (96, 128, 160, 192, 224)
FAILED_MS = 0.1  # entries below are failed or trivial networks
TEST = 5000  # networks of a device that are looked at, drawn with the seed


def random_network(rng: np.random.Generator) -> tuple[Any, int]:
    """A net of the space of arXiv:1807.11626 around B1: every choice at random."""
    base: Any = variant("mnasnet_b1")
    stages = []
    for i, stage in enumerate(base.stages):
        op = "sepconv" if i == 0 else str(rng.choice(["conv", "sepconv", "mbconv", "mbconv"]))
        depth = 1 if i == 0 else max(1, stage.depth + int(rng.choice([-1, 0, 1])))
        width = max(8, 8 * round(stage.width * float(rng.choice([0.75, 1.0, 1.25])) / 8))
        expand = int(rng.choice([3, 6])) if op == "mbconv" else 1
        skip, attn = str(rng.choice(["identity", "none"])), str(rng.choice(["none", "se(ratio=0.25)"]))
        stages.append(Stage(depth, width, expand, int(rng.choice([3, 5])), stage.stride, op, skip, attn))
    return replace(base, stages=tuple(stages)), int(rng.choice(RESOLUTIONS))


def judged(name: str, predicted: np.ndarray, measured: np.ndarray) -> None:
    """A line of the table."""
    error = predicted / measured - 1
    rho, middle, high = spearmanr(predicted, measured).statistic, np.median(abs(error)), np.percentile(abs(error), 90)
    bias = np.median(error)
    print(f"{name:<44} Spearman {rho:.4f}  median error {middle:6.1%}  90 % within {high:6.1%}  bias {bias:+.1%}")


def table(args: argparse.Namespace) -> None:
    """Predicted beside measured."""
    import onnxruntime

    from foveate.cli.calibrate import exported
    from foveate.cost.calibrate import session, visit
    from foveate.cost.predict import load_table, predict_latency_us, table_path

    known = load_table(args.table or table_path("onnxruntime", 1))
    rng = np.random.default_rng(args.seed)
    nets = [random_network(rng) for _ in range(args.networks)]
    begun = time.process_time()
    predicted = np.array([predict_latency_us(config, known, resolution) for config, resolution in nets])
    each_ms = (time.process_time() - begun) / len(nets) * 1e3
    ready = [exported(config, resolution) for config, resolution in nets]
    macs = np.array([sum(op.macs for op in net.operators) for net in ready], float)
    opened = [session(net.onnx, 1) for net in ready]
    times = np.array([[visit(s, n.feed) for s, n in zip(opened, ready, strict=True)] for _ in range(args.rounds)])
    measured, halves = np.median(times, 0), (np.median(times[::2], 0), np.median(times[1::2], 0))
    low, high = measured.min() / 1e3, measured.max() / 1e3
    print(f"{len(nets)} networks, seed {args.seed}: {low:.1f} to {high:.1f} ms of processor time, {args.rounds} visits")
    print(
        f"onnxruntime {onnxruntime.__version__}, 1 thread, batch 1, {known.device}; {len(known.rows)} operators known"
    )
    share = np.mean([op in known.measured for net in ready for op in net.operators if op.macs])
    print(f"{share:.0%} of the convolutions and linear layers are in the table; a prediction takes {each_ms:.0f} ms")
    judged("table of operators", predicted, measured)
    judged("multiply-adds, scaled to the middle", macs * np.median(measured / macs), measured)
    line = np.polyfit(macs, measured, 1)
    judged("multiply-adds, line fitted to these very nets", np.polyval(line, macs), measured)
    judged("measured twice (two halves of the visits)", halves[0], halves[1])


def read(path: Path) -> tuple[list[str], list[list[str]]]:
    """(header, rows) of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return header, rows


def transfer(args: argparse.Namespace) -> None:
    """Spearman by device and number of samples."""
    from foveate.cost.other_devices import fit

    header, rows = read(args.folder / "nasbench201_latency_ms.csv")
    names, latency = header[1:], np.array([[float(v) for v in row[1:]] for row in rows])
    about = {row[0]: row for row in read(args.folder / "nasbench201.csv")[1]}
    cells = np.array([[int(c) for c in about[row[0]][1]] for row in rows])
    macs = np.array([float(about[row[0]][3]) for row in rows])
    features = np.concatenate([(cells == k).astype(float) for k in range(cells.max() + 1)], 1)
    card = [name.rsplit("_", 1)[0] if name.rsplit("_", 1)[-1] in ("1", "32", "256") else name for name in names]
    known = np.maximum(latency, FAILED_MS)
    print(
        f"{len(names)} devices, {len(rows):,} networks, {args.seeds} seeds; mean Spearman over devices (lowest device)"
    )
    for n in args.samples:
        for strict in (False, True):
            scores = {"mixture and process": np.zeros((len(names), args.seeds))}
            scores |= {k: np.zeros((len(names), args.seeds)) for k in ("mixture alone", "best device", "multiply-adds")}
            for j in range(len(names)):
                others = [k for k in range(len(names)) if (card[k] != card[j] if strict else k != j)]
                good = np.flatnonzero(latency[:, j] >= FAILED_MS)
                for seed in range(args.seeds):
                    order = np.random.default_rng([seed, j]).permutation(good)
                    few, test = order[:n], order[n : n + TEST]
                    x, y, truth = known[np.ix_(few, others)], latency[few, j], latency[test, j]
                    there = known[np.ix_(test, others)]
                    made = fit(x, y, features[few])
                    alike = [np.corrcoef(np.log(x[:, k]), np.log(y))[0, 1] for k in range(len(others))]
                    guesses = {
                        "mixture and process": made.predict(there, features[test]),
                        "mixture alone": fit(x, y).predict(there),
                        "best device": there[:, int(np.nanargmax(alike))],
                        "multiply-adds": macs[test],
                    }
                    for name, guess in guesses.items():
                        scores[name][j, seed] = spearmanr(guess, truth).statistic
            what = "hardware" if strict else "columns "
            for name, found in scores.items():
                means, spread = found.mean(1), found.mean(0).std()
                worst = f"{means.min():.3f} {names[int(means.argmin())]}"
                print(f"{n:>4} samples  {what}  {name:<20} {means.mean():.4f} +- {spread:.4f} over seeds  ({worst})")
            if args.devices:
                print(
                    "    ",
                    ", ".join(
                        f"{a} {b:.3f}" for a, b in zip(names, scores["mixture and process"].mean(1), strict=True)
                    ),
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    jobs = parser.add_subparsers(required=True)
    one = jobs.add_parser("table")
    one.add_argument("--table", type=Path)
    one.add_argument("--networks", type=int, default=60)
    one.add_argument("--seed", type=int, default=7)
    one.add_argument("--rounds", type=int, default=20)
    one.set_defaults(job=table)
    two = jobs.add_parser("transfer")
    two.add_argument("folder", type=Path)
    two.add_argument("--samples", type=int, nargs="+", default=[10, 100, 900])
    two.add_argument("--seeds", type=int, default=10)
    two.add_argument("--devices", action="store_true", help="each device's own number too")
    two.set_defaults(job=transfer)
    args = parser.parse_args()
    args.job(args)


if __name__ == "__main__":
    main()
