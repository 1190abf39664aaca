"""Low rank: projection in training with and without energy transfer, beside plain SVD, at equal ranks, seed by seed.

    python scripts/benchmarks/lrpet.py DATA [--model resnet20_cifar] [--seeds 0,1,2] [--limit N] [--test-limit N]
        [--epochs 60] [--tune-epochs 20] [--share 0.5] [--fold] [--lr 0.03] [--rule energy]
        [--form best] [--base FOLDER] [--scratch] [--constant] [--json FILE]

DATA is what foveate takes: a folder with train/ and test/, or a CSV. The base network is trained once (or read from
--base, a model folder). One plan of ranks, from the base, serves all methods and seeds: that of --share of the base's
multiply-adds. Every method then trains as many steps by the same schedule, from the base:

    svd         cut in two by plain SVD of the weights at once, then all training in two factors
    merged svd  the same, nearest in the matrix that the batch norm makes of the weight
    projection  --projected of the training whole, projected every --every steps; then in two factors
    lrpet       the same with energy transfer (arXiv:2204.05566)

--scratch is the authors' own setting: every training begins with fresh weights (those of its seed) and the first
recipe's rate, and --projected 1 keeps it projected to the end. There is no base then. --constant: the rate stays at its
peak, as in the projected half of foveate compress --method lrpet.

Columns: test accuracy right after the last projection, with the running statistics of the training and with those
taken anew; and after all training. A seed is that of the batches. Then the latency in ONNX Runtime, one thread, of the
original, of all pairs, and of the pairs that alone are faster than their convolutions.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from base_net import P, base_of, pictures
from torch import nn

from foveate.compress.low_rank import Projector, factored
from foveate.compress.ranks import Plan, Race, Ranking, candidates, reach
from foveate.config import replace
from foveate.cost.count import cost
from foveate.cost.latency import device_name
from foveate.data.load import Pictures
from foveate.deploy.layer_time import layer_timer
from foveate.deploy.measure import measure_latency
from foveate.files import write_text
from foveate.recipes import RECIPES
from foveate.train.draw import drawer
from foveate.train.evaluate import accuracy, labels_of, predict_logits
from foveate.train.loop import train
from foveate.train.recipe import Recipe, Schedule
from foveate.train.state import State
from foveate.train.statistics import refresh
from foveate.workflows.compress.tuning import tuning_recipe
from foveate.zoo import FAMILIES, build, variant
from foveate.zoo.fold import fold, folded

TAKEN = 2**31 + 3  # stream of training batches outside the training
METHODS = {  # energy transfer, merged matrix, whether it trains whole first
    "svd": (False, False, False),
    "merged svd": (False, True, False),
    "projection": (False, True, True),
    "lrpet": (True, True, True),
}


class Bench:
    """One base network, the pictures, and the training that all methods share."""

    def __init__(self, base: nn.Module, training: Pictures, test: Pictures, recipe: Recipe, given: argparse.Namespace):
        self.base, self.training, self.test, self.recipe, self.given = base, training, test, recipe, given

    def right(self, model: nn.Module) -> float:
        """Test accuracy."""
        return accuracy(predict_logits(model.eval(), self.test, P), labels_of(self.test))

    def run(self, name: str, plan: Plan, seed: int) -> dict[str, Any]:
        """One method: whole and projected for a while where it wants that, then in two factors to the end."""
        transfer, merged, whole_first = METHODS[name]
        begun, recipe = time.process_time(), replace(self.recipe, seed=seed)
        per_epoch = self.training.steps(min(recipe.batch, len(self.training)))
        until = round(self.given.projected * recipe.epochs) * per_epoch if whole_first else 0
        model = copy.deepcopy(self.base)
        if self.given.scratch:
            torch.manual_seed(seed)
            model = build(self.base.config)
        if whole_first:
            options = {"every": self.given.every or per_epoch, "transfer": transfer, "merged": merged}
            projector = Projector(model, plan, **options)
            projector.project()
            self.train(model, recipe, 0, until, projector)
            projector.project()
        pairs = factored(model, plan, merged=merged and not whole_first)
        before = self.right(pairs)
        anew = copy.deepcopy(pairs)
        draw = drawer(self.training, P, recipe, 10, torch.device("cpu"), TAKEN)
        refresh(anew, (draw(i)[0] for i in range(min(32, per_epoch))))
        after_statistics = self.right(anew)
        self.train(pairs, recipe, until, recipe.epochs * per_epoch, None)
        row = {"method": name, "seed": seed, "before": before, "anew": after_statistics}
        return {**row, "test_accuracy": self.right(pairs), "cpu_s": time.process_time() - begun}

    def train(self, model: nn.Module, recipe: Recipe, start: int, until: int, projector: Projector | None) -> None:
        """The steps from start to until of the one schedule."""
        state = State(model, None, recipe, FAMILIES[model.config.family].head, "cpu")
        state.step = start
        if until > start:
            for step in train(state, self.training, P, recipe, 10):
                if projector is not None:
                    projector.step()
                if step.number == until:
                    break


def table(found: list[dict[str, Any]]) -> str:
    """Means over seeds, with their standard error where there are two seeds or more."""
    lines = ["| method | after projection % | statistics anew % | test % (mean, standard error, n seeds) | CPU s |"]
    lines += ["|---|---|---|---|---|"]
    for name in dict.fromkeys(row["method"] for row in found):
        part = [row for row in found if row["method"] == name]
        cells = [said([100 * row[key] for row in part]) for key in ("before", "anew", "test_accuracy")]
        lines.append(f"| {name} | {' | '.join(cells)} | {statistics.fmean(row['cpu_s'] for row in part):.0f} |")
    pairs = [[r["test_accuracy"] for r in found if r["method"] == name] for name in ("lrpet", "projection")]
    gaps = [100 * (a - b) for a, b in zip(*pairs, strict=False)]
    return "\n".join([*lines, f"lrpet - projection, seed by seed: {said(gaps)} points" if gaps else ""])


def said(values: Sequence[float]) -> str:
    """Mean, standard error, n."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{statistics.fmean(values):.2f} ({error:.2f}, {len(values)})"


def counted(config: Any) -> float:
    return float(cost(config, resolution=32).macs)


def latencies(base: nn.Module, plan: Plan, ranking: Ranking) -> None:
    """The original, all pairs, and the winners, timed in turn; and the race."""
    found, successive_halving = candidates(base, ranking), Race(layer_timer())
    won = successive_halving.winners(found, plan)
    times: list[Any] = sorted(((*key[1:], *ms) for key, ms in successive_halving.times.items()), key=str)
    print("| input | rank | form | convolution ms | pair ms |\n|---|---|---|---|---|")
    for shape, rank, form, before, after in times:
        print(f"| {shape[1]} x {shape[2]} x {shape[3]} | {rank} | {form} | {before:.4f} | {after:.4f} |")
    nets: dict[str, Plan] = {"original": (), "all pairs": plan, "winners": won}
    models = {name: factored(base, ranks, merged=True) for name, ranks in nets.items()}
    ms: dict[str, list[float]] = {name: [] for name in nets}
    for _ in range(3):
        for name, model in models.items():
            ms[name].append(measure_latency(model, P, 1).median_ms)
    print("\n| network | pairs | MACs | params | latency ms |\n|---|---|---|---|---|")
    for name, ranks in nets.items():
        exact = cost(replace(base.config, ranks=ranks), resolution=32)
        middle = statistics.median(ms[name])
        print(f"| {name} | {len(ranks)} | {exact.macs / 1e6:.2f} M | {exact.params / 1e3:.0f} k | {middle:.3f} |")
    print(f"ONNX Runtime, 1 thread, batch 1, medians of 3 turns; {device_name()}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--model", default="resnet20_cifar")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--limit", type=int, default=0, help="training pictures, evenly; 0: all")
    parser.add_argument("--test-limit", type=int, default=0, help="test pictures, evenly; 0: all")
    parser.add_argument("--epochs", type=int, default=60, help="of the base network")
    parser.add_argument("--tune-epochs", type=int, default=20)
    parser.add_argument("--projected", type=float, default=0.5, help="share of these before the split")
    parser.add_argument("--every", type=int, default=0, help="steps from one projection to the next; 0: an epoch")
    parser.add_argument("--share", type=float, default=0.5, help="of the base's multiply-adds")
    parser.add_argument("--rule", default="energy", choices=("energy", "share"))
    parser.add_argument("--form", default="best", choices=("channel", "spatial", "best"))
    parser.add_argument("--lr", type=float, default=0.0, help="peak rate; 0: that of foveate compress")
    parser.add_argument("--fold", action="store_true", help="batch norms become part of the convolutions first")
    parser.add_argument("--multiple", type=int, default=1, help="ranks become multiples of it")
    parser.add_argument("--methods", default=";".join(METHODS), help="names of the table, with ; between")
    parser.add_argument("--base", type=Path, help="model folder of the base; trained and written there where missing")
    parser.add_argument("--scratch", action="store_true", help="from fresh weights, without a base")
    parser.add_argument("--constant", action="store_true", help="no schedule: the peak rate to the end")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="rows; those that it holds already are not run again")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    dataset, training, test = pictures(given)
    torch.manual_seed(0)
    config = replace(variant(given.model), num_classes=10, resolution=32)
    base = build(config) if given.scratch else base_of(given, config, dataset, training)
    if given.fold:
        state = fold(base)
        base = build(folded(base.config))
        base.load_state_dict(state)
    first = replace(RECIPES["cifar_standard"], precision="fp32", layout="nchw", threads=given.threads)
    recipe = (
        replace(first, epochs=given.tune_epochs) if given.scratch else tuning_recipe(first, given.tune_epochs, "", 0)
    )
    recipe = replace(recipe, optim=replace(recipe.optim, lr=given.lr or recipe.optim.lr))
    if given.constant:
        recipe = replace(recipe, schedule=Schedule(kind="constant", warmup=0.0))
    bench = Bench(base, training, test, recipe, given)
    ranking = Ranking(rule=given.rule, form=given.form, multiple=given.multiple)
    plan = reach(base, counted, given.share * counted(base.config), ranking)
    print(f"{given.model}: test {100 * bench.right(base):.2f} % of {len(test):,}; {len(training):,} for training")
    print("ranks: " + ", ".join(f"{r.at} {r.rank}{r.form[0]}" for r in plan), flush=True)
    found = json.loads(given.json.read_text()) if given.json and given.json.exists() else []
    if not found:
        latencies(base, plan, ranking)
    for seed in map(int, given.seeds.split(",")):
        for name in given.methods.split(";") if given.methods else ():
            if any((row["method"], row["seed"]) == (name, seed) for row in found):
                continue
            found.append(bench.run(name, plan, seed))
            print(json.dumps(found[-1]), flush=True)
            if given.json:
                write_text(given.json, json.dumps(found, indent=1))
    print(table(found))


if __name__ == "__main__":
    main()
