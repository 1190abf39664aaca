"""Runs one small training many times in forked children: straight through, killed at a named point and resumed,
stopped by a signal.

Prints one JSON object: case -> {"exit": how the first process ended, "files": name -> SHA-256 after the end, ...}.
Forking is safe here: torch runs on one thread and nothing was computed before.
"""

import hashlib
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch._dynamo  # torch.optim imports it at the first step: pay once, before forking

from foveate.config import replace
from foveate.data.index import Split
from foveate.data.load import evaluation_pictures, training_pictures
from foveate.data.preprocess import Preprocess
from foveate.errors import FoveateError
from foveate.events import Event, StepEvent
from foveate.train.engine import Job, run_training
from foveate.train.recipe import Augment, Loss, Mix, Optim, Recipe, Schedule
from foveate.train.signals import stop_on_signals
from foveate.train.state import State
from foveate.zoo import FAMILIES, build
from foveate.zoo.families.resnet.network import ResNetConfig, Stage

RECIPE = Recipe(
    epochs=3,
    batch=8,
    optim=Optim(name="adamw", lr=1e-3),
    schedule=Schedule(warmup=0.5),
    augment=Augment(crop=0.3, colour=0.2, erase=0.3),
    mix=Mix(mixup=0.2),
    loss=Loss(smoothing=0.1),
    ema=0.9,
    precision="fp32",
    layout="nchw",
)


# every refinement that holds something from step to step, or draws random numbers
ALL = replace(
    RECIPE,
    parts=2,
    optim=Optim(name="muon(steps=2)", lr=0.01, agc=0.05, clip_norm=5.0, sam=0.05, sam_every=3, lookahead=4),
    augment=Augment(crop=0.3, policy="trivial_augment", alternate=True, cutout=0.2, repeats=2, lighting=0.1),
    mix=Mix(mixup=0.2, cutmix=1.0),
    grow_from=0.5,
    ema_every=2,
    norm_batches=2,
)


def split(n: int, seed: int) -> Split:
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 20, 16, 3), dtype=np.uint8)
    return Split(tuple(f"made/{i}" for i in range(n)), tuple(i % 3 for i in range(n)), pixels)


def tiny(dropout: float = 0.0) -> ResNetConfig:
    stages = tuple(Stage(width, (width,), stride) for width, stride in ((8, 1), (12, 2)))
    return ResNetConfig(
        stages, stem="cifar", stem_widths=(8,), pool="none", num_classes=3, resolution=16, dropout=dropout
    )


def train(
    folder: Path,
    *,
    resume: bool,
    recipe: Recipe,
    resident: bool = True,
    workers: int = 0,
    pause_s: float = 0.0,
    at_step_4: Callable[[], None] = lambda: None,
) -> None:
    torch.set_num_threads(1)
    config = tiny(0.3)
    torch.manual_seed(0)
    state = State(build(config), build(config), recipe, FAMILIES[config.family].head, "cpu")
    p = Preprocess(resolution=16, resize=16, fit="squash")
    training, val = training_pictures(split(40, 0), 18), evaluation_pictures(split(20, 1), p)
    if resident:
        training.load(), val.load()
    job = Job("test", training, val, p, recipe, ("a", "b", "c"), {"data": "made"}, workers)

    def listener(event: Event) -> None:
        if isinstance(event, StepEvent) and event.step == 4:
            at_step_4()
        if (
            isinstance(event, StepEvent) and event.step > 2
        ):  # two steps are saved by then: the signal comes within this pause
            folder.with_suffix(".paused").touch()
            time.sleep(pause_s)

    with stop_on_signals() as stop:
        run_training(folder, state, job, listener, stop, resume=resume, every_s=0.0)


def child(action) -> int:
    """Run action in a fork and return its wait status as exit code, or minus the signal."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        except FoveateError as error:
            os._exit(error.exit_code)
        except BaseException:
            traceback.print_exc()
            os._exit(99)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def digest(folder: Path) -> dict[str, str]:
    """Hashes of what must not depend on history: weights, metrics, the newest checkpoint."""
    last = max((folder / "state").glob("step-*"))
    names = ["best/model.safetensors", "best/config.json", "last/model.safetensors", "metrics.jsonl"]
    paths = [folder / n for n in names] + [last / "tensors.safetensors", last / "state.json"]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def killed(folder: Path, point: str, recipe: Recipe, **options) -> dict[str, object]:
    folder.mkdir()

    def crash() -> None:
        os.environ["FOVEATE_CRASHPOINT"] = point
        train(folder, resume=False, recipe=recipe, **options)

    code = child(crash)
    again = child(lambda: train(folder, resume=True, recipe=recipe, **options)) if code == -signal.SIGKILL else None
    leftovers = [p.name for p in folder.rglob(".*")]
    return {"exit": code, "resumed": again, "files": digest(folder), "leftovers": leftovers}


def full_disk(folder: Path) -> dict[str, object]:
    """From step 4 on no file may be larger than 4 KB: what a full disk does to a checkpoint."""
    folder.mkdir()

    def crowded() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

        train(folder, resume=False, recipe=RECIPE, at_step_4=limit)

    code = child(crowded)
    kept = sorted(p.name for p in (folder / "state").iterdir())
    again = child(lambda: train(folder, resume=True, recipe=RECIPE))
    return {"exit": code, "resumed": again, "kept": kept, "files": digest(folder)}


def stopped(folder: Path, number: int, twice: bool) -> dict[str, object]:
    """Send a signal in the middle of training, measure how long the process takes, resume."""
    folder.mkdir()
    pid = os.fork()
    if pid == 0:
        try:
            train(folder, resume=False, recipe=RECIPE, pause_s=20.0 if twice else 0.05)
        except FoveateError as error:
            os._exit(error.exit_code)
        os._exit(0)
    while not folder.with_suffix(".paused").exists():  # before it, the end of step 2 would obey the first signal
        time.sleep(0.02)
    begun = time.monotonic()
    os.kill(pid, number)
    ended, status = os.waitpid(pid, os.WNOHANG if twice else 0)
    while not ended:  # two signals that arrive before the first is noted count as one: send until it has an effect
        time.sleep(0.1)
        os.kill(pid, number)
        ended, status = os.waitpid(pid, os.WNOHANG)
    code = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - begun
    again = child(lambda: train(folder, resume=True, recipe=RECIPE))
    return {"exit": code, "resumed": again, "seconds": seconds, "files": digest(folder)}


def main(root: Path, points: list[str], random_steps: int) -> None:
    sgd = replace(RECIPE, optim=Optim(lr=0.05), ema=0.0)
    found: dict[str, object] = {}
    for name, recipe, options in (
        ("adamw", RECIPE, {}),
        ("sgd", sgd, {}),
        ("streaming", RECIPE, {"resident": False}),
        ("all", ALL, {"resident": False}),
    ):
        folder = root / f"straight-{name}"
        folder.mkdir()
        code = child(lambda r=recipe, o=options, f=folder: train(f, resume=False, recipe=r, **o))
        found[f"straight-{name}"] = {"exit": code, "files": digest(folder)}
    for i, point in enumerate(points):
        found[point] = killed(root / f"killed-{i}", point, RECIPE)
    found["sgd step:8"] = killed(root / "sgd", "step:8", sgd)
    found["streaming step:7"] = killed(root / "streaming", "step:7", RECIPE, resident=False, workers=2)
    for i, step in enumerate(np.random.default_rng(0).integers(1, 15, random_steps)):  # three epochs of five steps
        options = {"resident": False, "workers": 2 * (i % 2)}
        found[f"all step:{step} ({i})"] = killed(root / f"all-{i}", f"step:{step}", ALL, **options)
    found["full disk"] = full_disk(root / "full")
    found["SIGTERM"] = stopped(root / "term", signal.SIGTERM, twice=False)
    found["SIGINT"] = stopped(root / "int", signal.SIGINT, twice=False)
    found["SIGTERM twice"] = stopped(root / "twice", signal.SIGTERM, twice=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3]))
