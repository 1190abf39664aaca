"""Does a search find what fit does not? Three ways to a budget in the same time on the same machine, seed by seed.

    python scripts/benchmarks/search_or_fit.py FOLDER [--budgets 3,5,8] [--minutes 30] [--seeds 3] [--ways fit,search]

    fit        foveate fit FOLDER --max-latency Bms
    compress   the same with --compress
    search     the same with --search auto: nets of the zoo, and sub-networks of one with weights
Each way has the machine to itself, one thread. Prints a line as each ends, and a table: test accuracy with its interval
and measured latency. All of it takes BUDGETS x SEEDS x WAYS x MINUTES.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from foveate.train.intervals import wilson

OPTIONS = {"fit": [], "compress": ["--compress"], "search": ["--search", "auto"]}


def run(way: str, folder: str, budget: float, minutes: float, seed: int) -> dict[str, Any]:
    """What foveate fit --json prints; its one line of error, where it fails."""
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-m", "foveate", "fit", folder, "--max-latency", f"{budget:g}ms", *OPTIONS[way]]
        command += ["--time", f"{round(minutes * 60)}s", "--threads", "1", "--seed", str(seed), "--runs", runs]
        done = subprocess.run([*command, "--json", "--quiet"], capture_output=True, text=True)
        if done.returncode:
            return {"error": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else str(done.returncode)}
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def row(way: str, budget: float, found: list[dict[str, Any]]) -> str:
    """The mean over seeds, Wilson's interval of it at one seed's n, the spread, and each seed."""
    good = [f for f in found if "error" not in f]
    if not good:
        return f"| {budget:g} | {way} | – | – | – | {found[0]['error']} |"
    values, n = [float(f["test_accuracy"]) for f in good], int(good[0]["test_n"])
    mean = statistics.mean(values)
    low, high = wilson(round(mean * n), n)
    latency = statistics.mean(float(f["latency_ms"]) for f in good)
    each = ", ".join(f"{100 * v:.1f}" for v in values)
    return (
        f"| {budget:g} | {way} | {100 * mean:.1f} ({100 * low:.1f}-{100 * high:.1f}) | {latency:.2f} | {n} | {each} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--budgets", default="3,5,8", help="milliseconds")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", default=",".join(OPTIONS))
    given = parser.parse_args()
    rows = ["| budget ms | way | test % | latency ms | n | each seed |", "|---|---|---|---|---|---|"]
    for budget in map(float, given.budgets.split(",")):
        for way in given.ways.split(","):
            found = []
            for seed in range(given.seeds):
                found.append(run(way, given.folder, budget, given.minutes, seed))
                keys = ("model", "test_accuracy", "latency_ms", "seconds", "error")
                told = {key: found[-1][key] for key in keys if key in found[-1]}
                print(f"{budget:g} ms, {way}, seed {seed}: {json.dumps(told)}", flush=True)
            rows.append(row(way, budget, found))
    print("\n".join(rows))


if __name__ == "__main__":
    main()
