"""Does a layer help a small net? Each layer alone in place of the baseline's, on CIFAR-10, for a few epochs.

    python scripts/benchmarks/layer_learning.py FOLDER RESULTS.jsonl [--nets resnet vgg] [--arms norm=iter_norm ...]
        [--seeds 3] [--epochs 3] [--subset 7000] [--threads 1]
    python scripts/benchmarks/layer_learning.py FOLDER RESULTS.jsonl --table

FOLDER has train/ and test/ with class folders. The baseline is batch_norm, relu, no gate, conv2d; an arm changes one
slot in the whole net. All arms see the same pictures in the same order for as many epochs, with the same recipe, which
was tuned for none of them. A seed draws the part of the training split, the weights, the order and the augmentation.
Accuracy is that of the whole test split after the last step; CPU seconds are those of the training alone.

Every training that is done is a line of RESULTS.jsonl and is not done again: stop, and go on with the same command.
The table holds what is done with these --epochs and --subset. Differences are to the baseline of the same seed, with
the 95 % interval of Student's t over the seeds; of all these intervals one in twenty misses by chance.
MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184 in the environment makes it a quarter faster with glibc.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import ttest_rel

from foveate.config import replace
from foveate.cost.count import cost
from foveate.data.index import open_data, subset
from foveate.data.load import evaluation_pictures, training_pictures
from foveate.data.preprocess import Preprocess
from foveate.errors import ConfigError, FoveateError
from foveate.layers import ACTS, ATTNS, CONVS, NORMS, Layers
from foveate.recipes import RECIPES
from foveate.runs.setup import make_state
from foveate.train.evaluate import accuracy, labels_of, predict_logits
from foveate.train.loop import train
from foveate.train.recipe import Optim, Recipe, Schedule
from foveate.zoo import variant
from foveate.zoo.families.resnet.network import cifar as cifar_resnet
from foveate.zoo.families.vgg import Stage

BASELINE = "baseline"
SLOTS = {"norm": NORMS, "act": ACTS, "attn": ATTNS, "conv": CONVS}
NARROW = {  # 32 groups are instances in these nets, and groups of 32 channels all of them
    "group_norm": "group_norm(groups=4)",
    "gn_plus": "gn_plus(groups=4)",
    "mgic": "mgic(group=8, coarsest=8)",
}
NETS = {
    # 8 layers, 8 to 32 channels; 5 layers, 16 to 64 channels
    "resnet": replace(cifar_resnet(1, (8, 16, 32)), stem_widths=(8,), layers=Layers()),
    "vgg": replace(
        variant("vgg11_bn_cifar"), stages=(Stage((16,)), Stage((32,)), Stage((64,)), Stage((64,))), layers=Layers()
    ),
}
PREPROCESS = Preprocess(resolution=32, resize=32, fit="squash")
Row = dict[str, Any]


def all_arms() -> list[str]:
    """The baseline, then every other layer of every slot: "norm=iter_norm"."""
    plain = Layers()
    found = [BASELINE]
    for slot, table in SLOTS.items():
        found += [f"{slot}={NARROW.get(name, name)}" for name in table if name != getattr(plain, slot)]
    return found


def layers_of(arm: str) -> Layers:
    """The record of an arm."""
    if arm == BASELINE:
        return Layers()
    slot, _, call = arm.partition("=")
    if slot not in SLOTS or not call:
        raise ConfigError(f"arm {arm}: expected {BASELINE} or SLOT=LAYER, such as norm=iter_norm(steps=7)")
    return replace(Layers(), **{slot: call})


def recipe_of(seed: int, epochs: int, threads: int) -> Recipe:
    """cifar_standard for a short run: batches of 64 at half the rate, half an epoch of warm-up."""
    short = replace(RECIPES["cifar_standard"], epochs=epochs, batch=64, optim=Optim(lr=0.05, weight_decay=5e-4))
    return replace(short, schedule=Schedule(warmup=0.5), precision="fp32", layout="nhwc", threads=threads, seed=seed)


def key(row: Row) -> tuple[Any, ...]:
    """What is not done twice."""
    return tuple(row[name] for name in ("net", "arm", "seed", "epochs", "subset"))


def read(path: Path) -> list[Row]:
    """The rows that are done; a line that was cut off is left out."""
    rows = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            print(f"{path}: left out a broken line: {line[:60]}")
    return rows


def append(path: Path, row: Row) -> None:
    """One line more; the first character ends a line that was cut off."""
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if file.tell() else "") + json.dumps(row))


def work(wanted: Sequence[Row], folder: Path, threads: int) -> Iterator[Row]:
    """Train what is wanted and yield each row when it is done."""
    dataset = open_data(folder, val=0.0)
    split, test = dataset.splits["train"], evaluation_pictures(dataset.splits["test"], PREPROCESS).load(threads)
    classes, drawn = len(dataset.classes), -1
    for row in wanted:
        if drawn != row["seed"]:
            drawn = row["seed"]
            picks = np.sort(np.random.default_rng(drawn).permutation(len(split))[: row["subset"]])
            pictures = training_pictures(subset(split, picks), 32).load(threads)
        recipe = recipe_of(row["seed"], row["epochs"], threads)
        result: Row = {"accuracy": None, "n": len(test), "torch": torch.__version__}
        begun = time.process_time()
        try:
            config = replace(NETS[row["net"]], num_classes=classes, layers=layers_of(row["arm"]))
            counted, state = cost(config), make_state(config, recipe, "cpu")
            result |= {"params": counted.params, "macs": counted.macs}
            begun = time.process_time()
            for _ in train(state, pictures, PREPROCESS, recipe, classes):
                pass
            result["cpu_s"] = time.process_time() - begun
            result["accuracy"] = accuracy(predict_logits(state.best, test, PREPROCESS), labels_of(test))
        except FoveateError as error:  # a loss that is not finite, a layer that means nothing here: a result too
            result |= {"failed": str(error), "cpu_s": time.process_time() - begun}
        yield row | result


def table(rows: Sequence[Row]) -> str:
    """Markdown, a table for each net."""
    lines = []
    for net in dict.fromkeys(row["net"] for row in rows):
        head = "| layer | parameters | MACs | test %, mean (each seed) | points to the baseline (95 %) | CPU s |"
        lines += [f"\n### {net}\n", head, "|---|---|---|---|---|---|"]
        ours = [row for row in rows if row["net"] == net]
        base = {row["seed"]: row["accuracy"] for row in ours if row["arm"] == BASELINE}
        for arm in dict.fromkeys(row["arm"] for row in ours):
            lines.append(line(arm, sorted((r for r in ours if r["arm"] == arm), key=lambda r: r["seed"]), base))
    return "\n".join(lines)


def line(arm: str, rows: Sequence[Row], base: dict[int, float]) -> str:
    """One arm over its seeds."""
    good = [row for row in rows if row["accuracy"] is not None]
    counts = f"{good[0]['params']:,} | {good[0]['macs']:,}" if good else "- | -"
    cells = [f"`{arm}`", counts]
    if len(good) < len(rows):
        failed = next(row["failed"] for row in rows if row["accuracy"] is None)
        cells.append(f"{len(rows) - len(good)} of {len(rows)} seeds failed: {failed.partition(';')[0]}")
    else:
        each = [100 * row["accuracy"] for row in good]
        cells.append(f"{statistics.mean(each):.1f} ({', '.join(f'{a:.1f}' for a in each)})")
    pairs = [(row["accuracy"], base[row["seed"]]) for row in good if base.get(row["seed"]) is not None]
    cells.append("" if arm == BASELINE else difference(pairs))
    cells.append(f"{statistics.mean(row['cpu_s'] for row in rows):.0f}")
    return f"| {' | '.join(cells)} |"


def difference(pairs: Sequence[tuple[float, float]]) -> str:
    """Mean of the differences in points and its interval over the seeds."""
    if not pairs:
        return "-"
    points = [100 * (a - b) for a, b in pairs]
    mean = f"{statistics.mean(points):+.1f}"
    if len(points) < 2 or len(set(points)) == 1:
        return f"{mean} (n = {len(points)})" if len(points) < 2 else f"{mean} (every seed)"
    low, high = ttest_rel(*zip(*pairs, strict=True)).confidence_interval(0.95)
    return f"{mean} ({100 * low:+.1f} to {100 * high:+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--nets", nargs="+", choices=tuple(NETS), default=tuple(NETS))
    parser.add_argument("--arms", nargs="+", default=all_arms(), help="SLOT=LAYER; the baseline is always among them")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--subset", type=int, default=7_000, help="training pictures, drawn by the seed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="train nothing, print the table")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    arms = list(dict.fromkeys((BASELINE, *given.arms)))
    for arm in arms:
        layers_of(arm)
    settings = {"epochs": given.epochs, "subset": given.subset}
    plan = [
        {"net": net, "arm": arm, "seed": seed, **settings}
        for seed in range(given.seeds)
        for arm in arms
        for net in given.nets
    ]
    done = {key(row): row for row in read(given.results)}
    wanted = [row for row in plan if key(row) not in done]
    if not given.table and wanted:
        print(f"{len(plan) - len(wanted)} of {len(plan)} trainings are done", flush=True)
        for row in work(wanted, given.folder, given.threads):
            append(given.results, row)
            done[key(row)] = row
            right = row.get("failed") or f"{100 * row['accuracy']:.1f} %"
            print(f"{row['net']} {row['arm']} seed {row['seed']}: {right}, {row['cpu_s']:.0f} s CPU", flush=True)
    rows = [done[key(row)] for row in plan if key(row) in done]
    rows.sort(key=lambda row: given.nets.index(row["net"]))
    print(table(rows))
    print(f"\n{given.subset:,} training pictures, {given.epochs} epochs, {given.seeds} seeds, test n =", end=" ")
    print(f"{rows[0]['n'] if rows else 0:,}; torch {torch.__version__}, {given.threads} threads.")


if __name__ == "__main__":
    main()
