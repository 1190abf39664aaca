"""Is --time kept? fit, search and compress at 30, 60 and 120 s, with and without a busy loop on each of four processes.

python scripts/benchmarks/on_time.py [--data digits] [--times 30,60,120] [--commands fit,search,compress] [--load 0,4]
prints a table: asked, taken, the bound (10 % + 15 s), and whether it holds. The full table takes about an hour.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

BUSY = "while True: pass"


@contextlib.contextmanager
def load(loops: int) -> Iterator[None]:
    """So many busy loops within the block."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def words(command: str, data: str, seconds: int, runs: Path) -> list[str]:
    """A command line; compress takes the model that a fit left in runs/model-1."""
    common = ["--time", f"{seconds}s", "--runs", str(runs)]
    if command == "search":
        return ["search", data, "--space", "mnasnet", *common]
    if command == "compress":
        return ["compress", str(runs / "model-1" / "best"), data, "--max-drop", "2", *common]
    return ["fit", data, *common]


def run(arguments: list[str]) -> tuple[int, float]:
    """(exit code, wall seconds) of a command."""
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "foveate", *arguments], capture_output=True)
    return done.returncode, time.monotonic() - begun


def main() -> int:
    """The table; 1 where a bound was not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--times", default="30,60,120")
    parser.add_argument("--commands", default="fit,search,compress")
    parser.add_argument("--load", default="0,4")
    asked = parser.parse_args()
    late = 0
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        if "compress" in asked.commands:
            run(["fit", asked.data, "--time", "30s", "--name", "model", "--runs", folder])
        print("| command | asked s | busy loops | taken s | bound s | exit | kept |\n|---|---|---|---|---|---|---|")
        for loops in map(int, asked.load.split(",")):
            for command in asked.commands.split(","):
                for seconds in map(int, asked.times.split(",")):
                    with load(loops):
                        code, taken = run(words(command, asked.data, seconds, runs))
                    bound = 1.1 * seconds + 15
                    kept = taken <= bound
                    late += not kept
                    row = (command, seconds, loops, f"{taken:.1f}", f"{bound:.0f}", code, "yes" if kept else "no")
                    print(f"| {' | '.join(map(str, row))} |", flush=True)
    return int(late > 0)


if __name__ == "__main__":
    raise SystemExit(main())
