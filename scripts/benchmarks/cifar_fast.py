"""CIFAR-10 against the clock: the recipe cifar_fast over several seeds, test accuracy beside CPU seconds. JSON lines.

    python scripts/benchmarks/cifar_fast.py FOLDER [KEY=VALUE ...] [--model airbench_medium_cifar] [--seeds 5]
        [--first 0] [--threads 1] [--validate] [--results FILE] [--table]

FOLDER has train/ and test/ with class folders. Counted are initialisation and training, in CPU seconds of the process;
decoding the JPEG files once is not. Every run is tested once, after its last step, with one view and with six.
KEY=VALUE changes the recipe, model.KEY=VALUE the network. --validate: 45,000 pictures train, the other 5,000 stand for
the test pictures: for trying things. --table: prints what the results hold, mean and deviation over seeds.
"""

import argparse
import json
import math
import statistics
import time
from pathlib import Path

from foveate.config import override, replace
from foveate.cost.latency import device_name
from foveate.data.index import Split, open_data
from foveate.data.load import evaluation_pictures, training_pictures
from foveate.data.preprocess import Preprocess
from foveate.data.random import epoch_order
from foveate.recipes import RECIPES
from foveate.runs.setup import cpu_threads, fresh
from foveate.train.begin import begin
from foveate.train.best import ready_best
from foveate.train.evaluate import accuracy, labels_of, predict_logits
from foveate.train.loop import train
from foveate.zoo import variant

P = Preprocess(resolution=32, resize=32, fit="squash")
HELD_OUT = 5_000


def part(split: Split, picks) -> Split:
    """Some samples of a split."""
    return Split(tuple(split.paths[i] for i in picks), tuple(split.labels[i] for i in picks), None)


def one(chosen: argparse.Namespace, training, test, classes: int, seed: int) -> dict:
    """One run: what was measured."""
    rooms = {True: [], False: []}
    for text in chosen.changes:
        rooms[text.startswith("model.")].append(text.removeprefix("model."))
    config = override(replace(variant(chosen.model), num_classes=classes), rooms[True])
    recipe = replace(override(RECIPES["cifar_fast"], rooms[False]), seed=seed, threads=chosen.threads)
    with cpu_threads(chosen.threads):
        cpu, wall = time.process_time(), time.perf_counter()
        state = fresh(config, recipe, "cpu")
        begin(state, training, P, recipe, classes)
        losses = [float(step.loss) for step in train(state, training, P, recipe, classes)]
        best = ready_best(state, training, P, recipe, classes)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        labels = labels_of(test)
        seen = {v: accuracy(predict_logits(best, test, P, batch=500, views=v), labels) for v in ("one", "shifts")}
    key = " ".join([chosen.model, *chosen.changes, *(["--validate"] if chosen.validate else [])])
    found = {"run": key, "seed": seed, "one": seen["one"], "six": seen["shifts"], "loss": losses[-1], "n": len(labels)}
    return {
        **found,
        "cpu_s": round(cpu, 1),
        "wall_s": round(wall, 1),
        "threads": chosen.threads,
        "device": device_name(),
    }


def table(path: Path) -> None:
    """The runs that differ in their seeds alone, a line each."""
    rows: dict[str, list[dict]] = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        rows.setdefault(row["run"], []).append(row)
    print("| run | seeds | one view % | six views % | CPU s | threads |\n|---|---|---|---|---|---|")
    for key, runs in rows.items():
        cells = []
        for name in ("one", "six"):
            values = [100 * r[name] for r in runs]
            spread = statistics.stdev(values) if len(values) > 1 else math.nan
            cells.append(f"{statistics.mean(values):.2f} (sd {spread:.2f})")
        cpu = statistics.mean(r["cpu_s"] for r in runs)
        print(f"| {key} | {len(runs)} | {' | '.join(cells)} | {cpu:.0f} | {runs[0]['threads']} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("changes", nargs="*")
    parser.add_argument("--model", default="airbench_medium_cifar")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--validate", action="store_true")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--table", action="store_true")
    chosen = parser.parse_intermixed_args()
    if chosen.table:
        table(chosen.results)
        return
    splits = open_data(chosen.folder).splits
    a, b = splits["train"], splits["val"]
    whole = Split(a.paths + b.paths, a.labels + b.labels)
    test = splits["test"]
    if chosen.validate:
        order = epoch_order(len(whole), 0, 2**40)
        whole, test = part(whole, sorted(order[HELD_OUT:])), part(whole, sorted(order[:HELD_OUT]))
    training, held = training_pictures(whole, 32).load(), evaluation_pictures(test, P).load()
    for seed in range(chosen.first, chosen.first + chosen.seeds):
        row = json.dumps(one(chosen, training, held, 10, seed))
        print(row, flush=True)
        if chosen.results:
            with chosen.results.open("a") as file:
                file.write(row + "\n")


if __name__ == "__main__":
    main()
