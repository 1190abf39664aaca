"""fit: a folder of pictures and a budget in, the best classifier that fits out. The product, in one readable file."""

import time
from pathlib import Path
from typing import Literal

from foveate.config import near, replace
from foveate.data.index import open_data
from foveate.errors import ConfigError
from foveate.events import Listener, StageEvent, silent
from foveate.files import free_name
from foveate.recipes import RECIPES
from foveate.runs.defaults import recipe_name
from foveate.runs.epochs import END_S, END_SHARE, annealing, in_time
from foveate.runs.plan import Budget, Plan, check_device, check_runtime, command_line
from foveate.runs.run import Run, announce
from foveate.runs.training import complete
from foveate.selection.candidates import affordable, look
from foveate.selection.halving import (
    FromScratchRunner,
    LinearProbeRunner,
    SharedPictures,
    entrants,
    rows,
    slowest_ms,
    successive_halving,
)
from foveate.zoo import list_models

LOOK_SHARE = 0.25  # of the time, after which no further candidate is measured
RACE_SHARE = 0.25  # of the time that is then left, at most
SEARCH_SHARE, SEARCHED = 0.3, 2  # of the time, for nets that no zoo has; how many of them race
COMPRESS_SHARE, MAX_DROP = 0.4, 0.5  # of the time for a smaller network; points of accuracy that it may lose


def fit(
    data: str | Path,
    *,
    max_latency_ms: float | None = None,
    max_size_bytes: int | None = None,
    max_macs: int | None = None,
    max_memory_bytes: int | None = None,
    time_s: float = 600.0,
    weights: str | None = None,
    models: str | None = None,
    name: str | None = None,
    runs: str | Path = "runs",
    seed: int = 0,
    threads: int | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    bad_files: Literal["stop", "skip"] = "stop",
    search: str | None = None,
    compress: bool = False,
    runtime: Literal["onnxruntime", "openvino"] = "onnxruntime",
    listener: Listener | None = None,
) -> Run:
    """Find, train, export and measure the best classifier of these pictures within a budget.

    max_latency_ms: median of one picture in `runtime` on this machine's processor with `threads` threads; a network
    is chosen only when it takes at most nine tenths of that, and the end of the run measures it again. With openvino
    (the extra) the run's model folder holds model.xml and model.bin beside model.onnx. max_size_bytes:
    of the exported file. max_macs: multiply-adds of one picture. max_memory_bytes: weights and maps of one picture in
    float32, as counted; the runtime's own memory comes on top. time_s: wall time for everything, about; one epoch is
    always trained. weights: "lite", a model folder, or a file (then with models). models: a pattern of names to choose
    from; without both, the whole zoo is looked at. device: where training runs. search: a space (see foveate.search);
    three tenths of the time go into a search, whose best nets then race against those of the zoo. compress: four
    tenths of the time go into a smaller network made of the one that was found, at a loss of at most MAX_DROP points of
    validation accuracy; its run, NAME-small, is returned.
    Raises BudgetError (with the nearest that is reachable), DataError, ConfigError.
    """
    import torch

    listener = listener or silent
    begun = time.monotonic()
    if compress:
        time_s *= 1 - COMPRESS_SHARE
    if models is not None and not list_models(models):
        raise ConfigError(f'--models "{models}" matches no model: {near(models, list_models())}')
    check_device(device)
    check_runtime(runtime)
    budget = Budget(
        max_latency_ms=max_latency_ms,
        max_size_bytes=max_size_bytes,
        max_macs=max_macs,
        max_memory_bytes=max_memory_bytes,
        time_s=time_s,
        runtime=runtime,
    )
    if search is not None and weights is not None:
        raise ConfigError("--search makes new networks, which have no published weights; leave out one of both")
    dataset = announce(open_data(data, seed=seed, bad_files=bad_files), listener)
    threads = threads or torch.get_num_threads()

    most_ms = slowest_ms(len(dataset.splits["train"]), time_s)
    measured = look(dataset, weights, models, budget, threads, most_ms, begun + LOOK_SHARE * time_s, listener)
    if search is not None:
        from foveate.workflows.search.design import Search
        from foveate.workflows.search.run import finalists

        rough = Search(
            data=str(data),
            name=dataset.name,
            fingerprint=dataset.fingerprint,
            space=search,
            budget=replace(budget, time_s=SEARCH_SHARE * time_s),
            share=1.0,
            seed=seed,
            threads=threads,
            device=device,
            bad_files=bad_files,
            command=command_line(),
        )
        measured += finalists(rough, dataset, SEARCHED, name=name, runs=runs, listener=listener)
    fitting = affordable(measured, budget)
    recipe = replace(RECIPES[recipe_name(dataset, weights)], seed=seed)
    raced_from = time.monotonic()
    left_s = max(0.0, begun + time_s - raced_from)
    shared = SharedPictures(dataset, bad_files, listener, device)
    entering = entrants(fitting, len(dataset.splits["train"]), left_s, RACE_SHARE)
    entries = (
        successive_halving(entering, recipe, RACE_SHARE * left_s, threads, shared, listener)
        if len(entering) > 1
        else []
    )
    chosen = entries[0].measured if entries else entering[0]
    winner = chosen.candidate
    story = {
        "candidates": rows(entries, measured, fitting, chosen, len(dataset.splits["val"])),
        "race_seconds": time.monotonic() - raced_from,
    }
    runner, probe = entries[0].runner if entries else None, None
    if weights is not None:
        listener(StageEvent(f"fitting a linear classifier on the features of {winner.model}"))
        probe = (runner if isinstance(runner, LinearProbeRunner) else LinearProbeRunner(winner, threads, shared)).probe(
            1.0
        )
    shown, initial_weights = runner.initial_weights() if isinstance(runner, FromScratchRunner) else (0, None)
    del shared, entries, runner  # memory for training

    listener(StageEvent(f"timing {winner.model}"))
    training_s = begun + time_s - time.monotonic() - min(END_S, END_SHARE * time_s)
    recipe = in_time(
        recipe,
        winner.config,
        winner.preprocess,
        dataset,
        training_s,
        published=winner.weights is not None,
        device=device,
    )
    if shown < recipe.epochs * len(dataset.splits["train"]):
        initial_weights = None  # only a training that is shorter than the race would end below it
    elif initial_weights is not None:
        recipe = annealing(recipe)
    story["goes_on_from_race"] = initial_weights is not None
    plan = Plan(
        data=str(data),
        model=winner.model,
        architecture=winner.config,
        recipe=recipe,
        preprocess=winner.preprocess,
        weights=weights,
        head_start=weights is not None,
        bad_files=bad_files,
        device=device,
        threads=threads,
        budget=budget,
        fingerprint=dataset.fingerprint,
        command=command_line(),
    )
    run = complete(
        free_name(runs, name or dataset.name),
        plan,
        dataset,
        listener,
        story=story,
        probe=probe,
        initial_weights=initial_weights,
    )
    if not compress:
        return run
    from foveate.workflows.compress.run import compress as shrink

    listener(StageEvent(f"compressing {run.folder / 'best'}"))
    return shrink(
        run.folder / "best",
        data,
        max_drop=MAX_DROP,
        time_s=time_s * COMPRESS_SHARE / (1 - COMPRESS_SHARE),
        name=f"{name or dataset.name}-small",
        runs=runs,
        seed=seed,
        threads=threads,
        bad_files=bad_files,
        runtime=runtime,
        listener=listener,
    )
