"""Whether `foveate fit --max-latency` keeps its word: fits, and what the file takes when another process measures it.

    python scripts/benchmarks/budget.py DATA [--times 10] [--seconds 20] [--low 0.15] [--high 2.0] [--threads 1]

Latency budgets (ms) are spread over the logarithm from low to high. Each line: the budget, the exit code of fit, the
network, the median that fit measured at its end, and the median, CPU time and spread that a fresh process measures.
Ends with 1 where a fit with exit code 0 gave a file that is over its budget.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

AGAIN = """
import sys
from foveate.config import to_json
from foveate.deploy.measure import measure_latency
from foveate.deploy.runtime import inspect
data = open(sys.argv[1], "rb").read()
print(to_json(measure_latency(data, inspect(data)[2], int(sys.argv[2]))))
"""


def fit(data: str, budget_ms: float, options: argparse.Namespace, runs: str) -> tuple[int, dict]:
    """(exit code, summary) of one fit."""
    command = [sys.executable, "-m", "foveate", "fit", data, "--max-latency", f"{budget_ms}ms", "--json", "--quiet"]
    command += ["--time", f"{options.seconds}s", "--threads", str(options.threads), "--runs", runs]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 4):
        raise SystemExit(done.stderr)
    return done.returncode, json.loads(done.stdout) if done.returncode == 0 else {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--low", type=float, default=0.15)
    parser.add_argument("--high", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    kept = broken = 0
    print("| budget ms | exit | network | fit ms | again ms | again CPU ms | spread |\n|---|---|---|---|---|---|---|")
    for i in range(options.times):
        budget_ms = options.low * (options.high / options.low) ** (i / max(1, options.times - 1))
        with tempfile.TemporaryDirectory() as runs:
            code, summary = fit(options.data, round(budget_ms, 3), options, runs)
            if code:
                print(f"| {budget_ms:.3f} | {code} | | | | | |", flush=True)
                kept += 1
                continue
            file = str(Path(summary["run"]) / "best" / "model.onnx")
            command = [sys.executable, "-c", AGAIN, file, str(options.threads)]
            again = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        within = again["median_ms"] <= budget_ms
        kept, broken = kept + within, broken + (not within)
        spread = (again["p90_ms"] - again["p10_ms"]) / again["median_ms"]
        cells = (f"{again['median_ms']:.3f}", f"{again['cpu_ms']:.3f}", f"{spread:.2f}")
        name = f"{summary['model']} ({summary['resolution']} px)"
        print(f"| {budget_ms:.3f} | 0 | {name} | {summary['latency_ms']:.3f} | {' | '.join(cells)} |", flush=True)
    print(f"{kept} of {options.times} within the budget, or exit 4")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
