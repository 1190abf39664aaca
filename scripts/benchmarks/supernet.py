"""How well a supernet ranks nets: its accuracies against stand-alone trainings of the same nets.

    python scripts/benchmarks/supernet.py CIFAR10 --into supernet.jsonl [--space "mnasnet(skeleton='small')"]
        [--nets 24] [--pictures 5000] [--supernet-epochs 60] [--epochs 15] [--batch 0] [--seed 0]
        [--init zero_gamma] [--seconds 3000]

The supernet is trained once, by the sandwich rule, with the short form of the recipe for small pictures, and kept
beside the file. Then random nets of the space are trained one by one for --epochs, each with the same recipe on the
same pictures, from --init, as the supernet starts, too. Both accuracies on the same held-out part of the training split
are appended to the file as they are known. A call that ran out of --seconds is continued by the next; of the supernet's
own training nothing is kept.
Printed: Spearman's rank correlation of both accuracies with a 95 % bootstrap interval over nets, and, beside it, that
of multiply-adds and of parameters with the stand-alone accuracy, which a supernet has to beat.
"""

import argparse
import dataclasses
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveate.config import replace, to_json
from foveate.cost.count import cost
from foveate.data.index import open_data
from foveate.search.supernet import largest, smallest
from foveate.workflows.search.design import Search, config_of, default_recipes, fitted_space, search_preprocess
from foveate.workflows.search.evaluators import ABOUT, evaluator, prepare
from foveate.workflows.search.material import Material
from foveate.workflows.search.objective import material
from foveate.workflows.search.report import rank_correlation

DRAWS = 2000
KEYS = ("supernet", "macs", "params")


def setup(args: argparse.Namespace) -> tuple[Search, Material]:
    """The search that this benchmark stands for, and what its evaluators work on."""
    dataset = open_data(args.data, seed=args.seed)
    call, space = fitted_space(args.space, dataset, None)
    config = config_of(space, largest(space), dataset)
    _, long = default_recipes(dataset, None, args.supernet_epochs, args.seed)
    long = replace(long, batch=args.batch or long.batch)
    design = Search(
        data=args.data,
        name=dataset.name,
        fingerprint=dataset.fingerprint,
        space=call,
        evaluate=f"supernet(epochs={args.supernet_epochs})",
        recipe=long,
        proxy=long,
        pictures=args.pictures,
        preprocess=search_preprocess(config, dataset),
        seed=args.seed,
        threads=1,
    )
    folder = args.into.parent / f"{args.into.stem}-weights"
    folder.mkdir(parents=True, exist_ok=True)
    known = folder / "search.json"
    if known.exists() and known.read_text("utf-8") != to_json(design):
        raise SystemExit(f"{folder} holds a supernet of other settings; take another --into")
    known.write_text(to_json(design), "utf-8")
    return design, material(design, space, dataset, tuple, folder)


def wanted(scene: Material, count: int, seed: int) -> list[tuple[int, ...]]:
    """The largest net, the smallest, and different random ones."""
    space, rng = scene.space, np.random.default_rng(seed)
    nets = dict.fromkeys((space.canonical(largest(space)), space.canonical(smallest(space))))
    while len(nets) < count:
        nets[space.canonical(space.sample(rng))] = None
    return list(nets)


def row_of(scene: Material, net: tuple[int, ...], alone: Any, shared: Any) -> dict[str, Any]:
    """One net: what the supernet says, what it reaches by itself, what it costs."""
    counts = cost(config_of(scene.space, net, scene.dataset), resolution=scene.search.preprocess.resolution)
    noted: dict[str, Any] = {}
    begun = time.monotonic()
    row = {"net": scene.space.text(net), "supernet": shared(net, noted.__setitem__)}
    middle = time.monotonic()
    row |= {"alone": alone(net, noted.__setitem__), "macs": counts.macs, "params": counts.params}
    return {**row, "supernet_seconds": middle - begun, "alone_seconds": time.monotonic() - middle}


def lines(rows: list[dict[str, Any]], pictures: int, seed: int) -> list[str]:
    """Markdown. pictures: that an accuracy is of."""
    alone, rng = np.array([row["alone"] for row in rows]), np.random.default_rng(seed)
    out = ["| against stand-alone accuracy | Spearman | 95 % |", "|---|---|---|"]
    for key in KEYS:
        value = np.array([row[key] for row in rows], float)
        draws = [rank_correlation(value[d], alone[d]) for d in rng.integers(len(rows), size=(DRAWS, len(rows)))]
        low, high = np.percentile(draws, [2.5, 97.5])
        out.append(f"| {key} | {rank_correlation(value, alone):+.3f} | {low:+.2f} to {high:+.2f} |")
    mean = [100 * float(np.mean([row[key] for row in rows])) for key in ("alone", "supernet")]
    share, apart = mean[0] / 100, 100 * float(alone.std(ddof=1)) if len(rows) > 1 else 0.0
    error = 100 * (share * (1 - share) / pictures) ** 0.5
    told = f"alone the nets deviate by {apart:.1f} points; the error of {pictures:,} pictures is {error:.1f}"
    return [*out, "", f"{len(rows)} nets; mean alone {mean[0]:.1f} %, in the supernet {mean[1]:.1f} %; {told}."]


def main() -> None:
    """Do what is missing, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--space", default="mnasnet(skeleton='small')")
    parser.add_argument("--nets", type=int, default=24)
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--supernet-epochs", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch", type=int, default=0, help="0: the recipe's own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init", default="zero_gamma", help="initialisers of the nets alone; empty: the zoo's start")
    parser.add_argument("--seconds", type=float, default=1e9, help="of this call, once the supernet is there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    design, scene = setup(args)
    prepare(
        lambda: scene,
        design,
        scene.folder,
        lambda event: print(getattr(event, "text", event), flush=True),
        lambda: False,
    )
    about = json.loads((scene.folder / ABOUT).read_text("utf-8"))
    _, short = default_recipes(scene.dataset, None, args.epochs, args.seed)
    short = replace(short, batch=args.batch or short.batch, init=tuple(args.init.split()))
    alone = evaluator(dataclasses.replace(scene, search=replace(design, evaluate="train", proxy=short)))
    shared = evaluator(scene)
    known = args.into.read_text("utf-8").splitlines() if args.into.is_file() else []
    rows = {row["net"]: row for row in map(json.loads, known)}
    nets, start = wanted(scene, args.nets, args.seed), time.monotonic()
    with args.into.open("a", encoding="utf-8") as file:
        for net in itertools.filterfalse(lambda net: scene.space.text(net) in rows, nets):
            if time.monotonic() - start > args.seconds:
                break
            row = row_of(scene, net, alone, shared)
            rows[row["net"]] = row
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(f"{len(rows)}: alone {row['alone']:.3f}, supernet {row['supernet']:.3f}", flush=True)
    done = [rows[scene.space.text(net)] for net in nets if scene.space.text(net) in rows]
    if not done:
        return
    print("\n".join(lines(done, len(scene.val), args.seed)))
    each = np.mean([row["alone_seconds"] for row in done])
    print(f"{design.space}: supernet {about['epochs']:.0f} epochs in {about['seconds']:.0f} s,", end=" ")
    print(f"alone {args.epochs} epochs in {each:.0f} s each; {len(scene.train)} pictures, {len(scene.val)} to", end=" ")
    print(f"validate, batch {about['batch']}, seed {args.seed}, one thread.")


if __name__ == "__main__":
    main()
