"""Pruning beside Torch-Pruning: the same trained network, the same multiply-adds, the same fine-tuning, seed by seed.

    python scripts/benchmarks/prune.py DATA [--model NAME] [--seeds 3] [--limit N] [--epochs 60] [--tune-epochs 20]
        [--shares 0.5,0.3] [--base FOLDER] [--json FILE]

NAME: resnet20_cifar, resnet56_cifar, vgg16_bn_cifar, mobilenetv2_100.
DATA is what foveate takes: a folder with train/ and test/, or a CSV. The base network is trained once (or read from
--base, a model folder). Then for every share of its multiply-adds, seed and method: prune in one shot, fine-tune, test.

Ours: foveate.compress.schedule.choose by a criterion, with the default bound of what a layer gives; "refit": layers
fitted anew, as foveate compress does; statistics of norms taken anew. "3 rounds": shrink in three, "trained" with
training between, which is taken off its fine-tuning. Theirs: BasePruner with global pruning, at most 0.9 of a layer, in
steps until the multiply-adds are reached (Torch-Pruning's own CIFAR benchmark does so): by GroupTaylorImportance on the
same pictures, and by GroupMagnitudeImportance. Fine-tuning is foveate's loop with the same recipe, batches, teacher and
seed for all. A seed is that of the batches that criteria see and of fine-tuning.
Times are CPU seconds of this process; latency is the median of one picture in ONNX Runtime, one thread.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torch_pruning as tp
from base_net import P, base_of, pictures
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from foveate.compress.criteria import make_criterion
from foveate.compress.refit import enough, refit
from foveate.compress.schedule import MOST, PruningSchedule, choose, limited, removed, shrink, wanted
from foveate.config import replace
from foveate.cost.count import cost
from foveate.data.load import Pictures
from foveate.deploy.measure import measure_latency
from foveate.files import write_text
from foveate.recipes import RECIPES
from foveate.train.draw import drawer
from foveate.train.evaluate import accuracy, labels_of, predict_logits
from foveate.train.intervals import wilson
from foveate.train.loop import train
from foveate.train.recipe import Recipe
from foveate.train.state import State
from foveate.train.statistics import refresh
from foveate.train.teacher import Teacher
from foveate.workflows.compress.tuning import tuning_recipe
from foveate.zoo import FAMILIES, variant

SEEN, TAKEN = 2**31 + 2, 2**31 + 3  # streams of training batches outside the training
OURS = ("taylor", "taylor2", "norm", "redundancy")
ROUNDS, BETWEEN = 3, 30  # of pruning in rounds; training steps between two


def config_of(name: str) -> Any:
    """The variant for 32 x 32 pictures of 10 classes.

    The padded shortcuts of resnet20_cifar and resnet56_cifar become projections: after Torch-Pruning 1.6.1 a network
    with padded ones gives shape errors. MobileNetV2 has stride 1 in its stem and second stage, as usual for CIFAR.
    """
    config: Any = replace(variant(name), num_classes=10, resolution=32)
    if config.family == "resnet" and config.shortcut == "pad":
        return replace(config, shortcut="conv")
    if name.startswith("mobilenetv2"):
        second = config.stages[1]
        blocks = (replace(second.blocks[0], stride=1), *second.blocks[1:])
        stages = (config.stages[0], replace(second, blocks=blocks), *config.stages[2:])
        return replace(config, stem_stride=1, stages=stages)
    return config


def macs_of(model: nn.Module) -> int:
    """Multiply-adds of one picture, by torch's own counter: for networks of either side."""
    mode = model.training
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, 3, 32, 32))
    model.train(mode)
    return counter.get_total_flops() // 2


class Bench:
    """What all methods share."""

    def __init__(self, base: nn.Module, training: Pictures, test: Pictures, recipe: Recipe):
        self.base, self.training, self.test, self.recipe = base, training, test, recipe
        self.macs = macs_of(base)

    def batches(self, stream: int, seed: int, pictures: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        recipe = replace(self.recipe, seed=seed)
        draw = drawer(self.training, P, recipe, 10, torch.device("cpu"), stream)
        return [draw(i) for i in range(-(-pictures // recipe.batch))]

    def tune(self, model: nn.Module, seed: int, skip: int = 0) -> nn.Module:
        """Fine-tune in place; skip: steps that were spent before."""
        per_epoch = self.training.steps(self.recipe.batch)
        recipe = replace(self.recipe, seed=seed)
        total, done = recipe.epochs * per_epoch - skip, 0
        state = State(model, None, recipe, FAMILIES[self.base.config.family].head, "cpu")
        state.teacher = Teacher(copy.deepcopy(self.base), P, range(10))
        state.step = skip
        for _ in train(state, self.training, P, recipe, 10):
            done += 1
        assert done == total
        return model

    def steps(self, model: nn.Module, seed: int, number: int) -> nn.Module:
        """A few steps at the peak rate, between two rounds of pruning."""
        recipe = replace(self.recipe, seed=seed + 100 * number, schedule=replace(self.recipe.schedule, kind="constant"))
        state = State(model, None, recipe, FAMILIES[self.base.config.family].head, "cpu")
        state.teacher = Teacher(copy.deepcopy(self.base), P, range(10))
        for step in train(state, self.training, P, recipe, 10):
            if step.number == BETWEEN:
                return model
        raise SystemExit("the training is shorter than the steps between two rounds")

    def right(self, model: nn.Module) -> float:
        return accuracy(predict_logits(model, self.test, P), labels_of(self.test))


def ours(name: str, fitted: bool = False) -> Callable[[Bench, float, int], tuple[nn.Module, int]]:
    """One shot of a criterion."""

    def method(bench: Bench, share: float, seed: int) -> tuple[nn.Module, int]:
        criterion, model = make_criterion(name), copy.deepcopy(bench.base)
        batches = bench.batches(SEEN, seed, max(enough(model.config.resolution), wanted(criterion, model)))
        scored = limited(criterion.score(model, batches), MOST)
        plan = choose(model.config, scored, counted, share * bench.macs, by_cost=criterion.by_cost)
        smaller = removed(model, plan)
        if fitted:
            refit(smaller, model, plan, batches)
        refresh(smaller, (x for x, _ in bench.batches(TAKEN, seed, 8 * bench.recipe.batch)))
        return smaller, 0

    return method


def in_rounds(name: str, fitted: bool, trained: bool) -> Callable[[Bench, float, int], tuple[nn.Module, int]]:
    """Rounds of a criterion, with or without a little training between."""

    def method(bench: Bench, share: float, seed: int) -> tuple[nn.Module, int]:
        criterion = make_criterion(name)
        draw = drawer(bench.training, P, replace(bench.recipe, seed=seed), 10, torch.device("cpu"), SEEN)

        def between(model: nn.Module, number: int) -> nn.Module:
            refresh(model, (x for x, _ in bench.batches(TAKEN, seed, 8 * bench.recipe.batch)))
            return bench.steps(model, seed, number) if number + 1 < ROUNDS and trained else model

        model = copy.deepcopy(bench.base)
        for found in shrink(
            model, criterion, draw, counted, share * bench.macs, between, PruningSchedule(rounds=ROUNDS, refit=fitted)
        ):
            model = found.model
        return model, (ROUNDS - 1) * BETWEEN if trained else 0

    return method


def theirs(importance: str) -> Callable[[Bench, float, int], tuple[nn.Module, int]]:
    """Torch-Pruning, globally, step by step until the multiply-adds are reached."""

    def method(bench: Bench, share: float, seed: int) -> tuple[nn.Module, int]:
        model = copy.deepcopy(bench.base).eval()
        taylor = importance == "taylor"
        kind = tp.importance.GroupTaylorImportance() if taylor else tp.importance.GroupMagnitudeImportance(p=2)
        heads = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == 10]
        options = {"global_pruning": True, "pruning_ratio": 1.0, "max_pruning_ratio": 0.9, "iterative_steps": 400}
        pruner = tp.pruner.BasePruner(model, torch.zeros(1, 3, 32, 32), kind, ignored_layers=heads, **options)
        if taylor:
            model.zero_grad()
            for x, y in bench.batches(SEEN, seed, 512):
                F.cross_entropy(model(x), y).backward()
        for _ in range(400):
            if macs_of(model) <= share * bench.macs:
                break
            pruner.step()
        model.zero_grad(set_to_none=True)
        if macs_of(model) > share * bench.macs:
            raise SystemExit(
                f"Torch-Pruning ({importance}) stops at {macs_of(model) / bench.macs:.3f} of the multiply-adds"
            )
        refresh(model, (x for x, _ in bench.batches(TAKEN, seed, 8 * bench.recipe.batch)))
        return model, 0

    return method


def counted(config: Any) -> float:
    return float(cost(config, resolution=32).macs)


METHODS = {f"foveate {name}": ours(name) for name in OURS}
METHODS |= {f"foveate {name}, refit": ours(name, True) for name in OURS}
METHODS |= {"foveate taylor, trained, 3 rounds": in_rounds("taylor", False, True)}
METHODS |= {"foveate taylor, refit, 3 rounds": in_rounds("taylor", True, False)}
METHODS |= {"foveate taylor, refit, trained, 3 rounds": in_rounds("taylor", True, True)}
METHODS |= {f"torch-pruning {name}": theirs(name) for name in ("taylor", "magnitude")}


def rows(bench: Bench, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row for every share, seed and method."""
    for share in map(float, given.shares.split(",")):
        for seed in range(given.seeds):
            for name in given.methods.split(";") if given.methods else METHODS:
                begun = time.process_time()
                model, spent = METHODS[name](bench, share, seed)
                pruned_s = time.process_time() - begun
                before, begun = bench.right(model), time.process_time()
                bench.tune(model, seed, spent)
                tuned_s, value = time.process_time() - begun, bench.right(model)
                timing = measure_latency(model, P, 1)
                low, high = wilson(round(value * len(bench.test)), len(bench.test))
                yield {
                    "model": given.model,
                    "share": share,
                    "seed": seed,
                    "method": name,
                    "macs": macs_of(model),
                    "params": sum(p.numel() for p in model.parameters()),
                    "before": before,
                    "test_accuracy": value,
                    "test_interval": [low, high],
                    "prune_cpu_s": pruned_s,
                    "tune_cpu_s": tuned_s,
                    "latency_ms": timing.median_ms,
                }


def table(found: list[dict[str, Any]]) -> str:
    """Means over seeds, with their standard error where there are two seeds or more."""
    lines = [
        "| share | method | MACs | params | before tuning % | test % (mean, standard error, n seeds) | prune s | ms |"
    ]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for share in sorted({row["share"] for row in found}, reverse=True):
        for name in dict.fromkeys(row["method"] for row in found):
            part = [row for row in found if (row["share"], row["method"]) == (share, name)]
            if not part:
                continue
            mean = {
                key: statistics.fmean(row[key] for row in part) for key in ("macs", "params", "before", "prune_cpu_s")
            }
            values = [100 * row["test_accuracy"] for row in part]
            error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
            said = f"{statistics.fmean(values):.2f} ({error:.2f}, {len(values)})"
            ms = statistics.median(row["latency_ms"] for row in part)
            counts = f"{mean['macs'] / 1e6:.2f} M | {mean['params'] / 1e3:.0f} k | {100 * mean['before']:.1f}"
            lines.append(f"| {share} | {name} | {counts} | {said} | {mean['prune_cpu_s']:.1f} | {ms:.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--model", default="resnet20_cifar")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=0, help="training pictures, evenly; 0: all")
    parser.add_argument("--test-limit", type=int, default=0, help="test pictures, evenly; 0: all")
    parser.add_argument("--epochs", type=int, default=60, help="of the base network")
    parser.add_argument("--tune-epochs", type=int, default=20)
    parser.add_argument("--shares", default="0.5,0.3")
    parser.add_argument("--methods", default="", help="names of the table, with ; between")
    parser.add_argument("--base", type=Path, help="model folder of the base; trained and written there where missing")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    dataset, training, test = pictures(given)
    base = base_of(given, config_of(given.model), dataset, training)
    first = replace(RECIPES["cifar_standard"], precision="fp32", layout="nhwc", threads=given.threads)
    bench = Bench(base, training, test, tuning_recipe(first, given.tune_epochs, "", 0))
    print(
        f"{given.model}: {bench.macs:,} multiply-adds, test {100 * bench.right(base):.2f} % of {len(test):,}",
        flush=True,
    )
    print(f"{len(training):,} training pictures, latency {measure_latency(base, P, 1).median_ms:.3f} ms", flush=True)
    found = []
    for row in rows(bench, given):
        found.append(row)
        print(json.dumps(row), flush=True)
        if given.json:
            write_text(given.json, json.dumps(found, indent=1))
    print(table(found))


if __name__ == "__main__":
    main()
