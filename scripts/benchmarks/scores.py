"""How well zero-cost scores rank the nets of NAS-Bench-201, beside multiply-adds and parameters.

    python scripts/benchmarks/scores.py nasbench201.csv CIFAR10 [--nets 300] [--batch 32] [--seed 0] [--seconds 300]
        [--into scores.jsonl]

Nets are drawn from the table at random, built with fresh weights and scored on one batch of CIFAR-10's training
pictures (a folder or a name that `foveate fit` takes). Printed: Spearman's rank correlation with the table's test
accuracy, over all nets and over the best tenth of them by accuracy, each with a 95 % bootstrap interval over nets; and
how far a score is ahead of multiply-adds on the same nets. Scores go into the file as they are known: a call that ran
out of --seconds is continued by the next.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveate.data.index import open_data
from foveate.data.load import training_pictures
from foveate.data.preprocess import Preprocess, normalise
from foveate.data.random import epoch_order
from foveate.search import SPACES
from foveate.search.scores import BASELINES, SCORES, score
from foveate.search.tables import read_table
from foveate.workflows.search.report import rank_correlation
from foveate.zoo.families.nasbench201 import NASBench201

DRAWS = 2000
Pair = tuple[torch.Tensor, torch.Tensor]


def a_batch(data: str, n: int, seed: int) -> Pair:
    """n training pictures at 32 px, normalised, and their labels."""
    dataset = open_data(data, seed=seed)
    split = dataset.splits["train"]
    pictures = training_pictures(split, 32)
    item = pictures.gather(epoch_order(len(split), seed, 0)[:n])
    return normalise(item.pictures, Preprocess(resolution=32, resize=32)), item.labels


def interval(values: list[float]) -> str:
    """The middle 95 %."""
    low, high = np.percentile(values, [2.5, 97.5])
    return f"{low:+.2f} to {high:+.2f}"


def table(rows: list[dict[str, Any]], seed: int) -> list[str]:
    """Markdown: a line a score."""
    truth = np.array([row["accuracy"] for row in rows])
    top = np.flatnonzero(truth >= np.quantile(truth, 0.9))
    rng = np.random.default_rng(seed)
    draws = [rng.integers(len(rows), size=len(rows)) for _ in range(DRAWS)]
    top_draws = [rng.choice(top, len(top)) for _ in range(DRAWS)]
    found = {name: np.array([row[name] for row in rows]) for name in SCORES}
    macs = [rank_correlation(found["macs"][d], truth[d]) for d in draws]
    out = [f"{len(rows)} nets, {len(top)} in the best tenth.", ""]
    out += ["| score | all | 95 % | best tenth | 95 % | ahead of macs, all |", "|---|---|---|---|---|---|"]
    for name in (*BASELINES, *(n for n in SCORES if n not in BASELINES)):
        value = found[name]
        over = [rank_correlation(value[d], truth[d]) for d in draws]
        best = [rank_correlation(value[d], truth[d]) for d in top_draws]
        gap = "" if name == "macs" else interval([a - b for a, b in zip(over, macs, strict=True)])
        whole, tenth = rank_correlation(value, truth), rank_correlation(value[top], truth[top])
        out.append(f"| {name} | {whole:+.3f} | {interval(over)} | {tenth:+.2f} | {interval(best)} | {gap} |")
    return out


def main() -> None:
    """Score what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table")
    parser.add_argument("data")
    parser.add_argument("--column", default="c10_test_200ep_alt")
    parser.add_argument("--nets", type=int, default=300)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9, help="of this call")
    parser.add_argument("--into", type=Path, default=Path("scores.jsonl"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    space = SPACES["nasbench201"]()
    known = read_table(args.table, space)
    accuracy, names = known.column(args.column), list(known.rows)
    wanted = [names[i] for i in np.random.default_rng(args.seed).permutation(len(names))[: args.nets]]
    lines = args.into.read_text("utf-8").splitlines() if args.into.is_file() else []
    rows = {row["net"]: row for row in map(json.loads, lines)}
    batch, start = a_batch(args.data, args.batch, args.seed), time.monotonic()
    with args.into.open("a", encoding="utf-8") as file:
        for net in wanted:
            if space.text(net) in rows or time.monotonic() - start > args.seconds:
                continue
            torch.manual_seed(args.seed)
            model, begun = NASBench201(space.config(net)), time.process_time()
            row: dict[str, Any] = {"net": space.text(net), "accuracy": float(accuracy[known.rows[net]])}
            row |= {name: score(name, model, batch) for name in SCORES}
            row["cpu_seconds"] = time.process_time() - begun
            rows[row["net"]] = row
            file.write(json.dumps(row) + "\n")
            file.flush()
    done = [rows[space.text(net)] for net in wanted if space.text(net) in rows]
    print("\n".join(table(done, args.seed)))
    print(f"\n{sum(row['cpu_seconds'] for row in done):.0f} CPU-seconds; batch of {args.batch}, seed {args.seed}.")


if __name__ == "__main__":
    main()
