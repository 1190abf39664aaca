"""Processes that a test may kill: forked from a server that has imported the heavy packages once.

Each is a process of its own with nothing computed before, as if it had been started anew, without 3 s of imports.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

PRELOAD = ["torch._dynamo", "optuna", "foveate.workflows.ablate.run", "foveate.workflows.search.run", "forked"]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(PRELOAD)


def start(function: Callable[..., None], *arguments: object) -> multiprocessing.Process:
    """function(*arguments), of a module of the tests, in a process of its own."""
    process = CONTEXT.Process(target=function, args=arguments)
    with pytest.MonkeyPatch.context() as patch:  # what the server, at its first start, imports from
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        patch.setenv("OMP_NUM_THREADS", "1")
        process.start()
    return process


def start_command(arguments: Sequence[str], folder: Path, *, crash: str = "") -> multiprocessing.Process:
    """The command line in a process of its own; out.txt and err.txt of the folder hold what it said."""
    return start(run_command, list(arguments), str(folder), crash)


def run_command(arguments: Sequence[str], folder: str, crash: str) -> None:
    """What such a process runs. crash: the point at which it kills itself."""
    for number, name in ((1, "out.txt"), (2, "err.txt")):
        with open(Path(folder) / name, "wb") as file:
            os.dup2(file.fileno(), number)
    os.environ["FOVEATE_CRASHPOINT"] = crash
    from foveate.cli import main

    sys.exit(main(list(arguments)))
