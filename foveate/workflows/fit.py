"""fit: a folder of pictures and a budget in, the best classifier that fits out. The product, in one readable file.

Five steps: measure_candidates, race, plan_training, complete (of every run), compress_best.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from foveate.config import near, replace
from foveate.data.index import Dataset, open_data
from foveate.data.sample import is_small
from foveate.errors import ConfigError
from foveate.events import Listener, StageEvent, silent
from foveate.files import check_writable, free_name
from foveate.recipes.adapt import IMBALANCE
from foveate.report.units import percent
from foveate.runs.complete import complete
from foveate.runs.defaults import facts_of, recipe_for
from foveate.runs.devices import Device, check_device, describe_device
from foveate.runs.epochs import anneal, limit_epochs
from foveate.runs.plan import Budget, Plan, check_runtime, command_line
from foveate.runs.run import Run, announce
from foveate.runs.time_budget import RACE_SHARE, TimeBudget
from foveate.runs.training import Start
from foveate.selection.candidates import Candidate, Measured, look, select_affordable
from foveate.selection.halving import (
    Entry,
    FromScratchRunner,
    LinearProbeRunner,
    SharedPictures,
    best_of_heats,
    choose_entrants,
    counted_on,
    make_rows,
    slowest_ms,
    split_heats,
    successive_halving,
)
from foveate.train.head import Probe
from foveate.train.metric import check_metric
from foveate.train.recipe import Recipe
from foveate.zoo import list_models

SEARCHED = 2  # how many nets of a search race
PROBE_SHARE = 0.3  # of the time that is left, at most, for the features of all training pictures
MAX_DROP = 0.5  # points of validation accuracy that compression, or class weights, may lose


@dataclass(frozen=True)
class Request:
    """What fit was asked for, checked, and the pictures; the fields that are not said here are as in fit."""

    data: str
    dataset: Dataset
    budget: Budget
    time: TimeBudget
    recipe: Recipe  # that these pictures call for, from scratch
    balance: Literal["auto", "none", "weights", "draws"]
    weights: str | None  # "auto", "hub", a source, or None: from scratch
    licence: Literal["commercial", "any"]
    models: str | None
    search: str | None
    name: str  # of the run folder
    runs: str | Path
    seed: int
    threads: int  # of the latency measurement
    device: Device
    bad_files: Literal["stop", "skip"]
    follow_links: bool
    listener: Listener


@dataclass(frozen=True)
class Winner:
    """The network that is trained in full, and what the race leaves to that training."""

    candidate: Candidate
    rows: list[dict[str, object]]  # all candidates, for the report
    race_seconds: float
    probe: Probe | None  # a linear classifier on all pictures, with published weights
    probe_seconds: float  # that it took, with its rounds of the race
    end_s: float  # kept for all that comes after training
    shown: int  # pictures that the race has shown to it, from scratch
    initial_weights: Mapping[str, torch.Tensor] | None  # what came of these


def fit(
    data: str | Path,
    *,
    max_latency_ms: float | None = None,
    max_size_bytes: int | None = None,
    max_macs: int | None = None,
    max_memory_bytes: int | None = None,
    time_s: float = 600.0,
    weights: str | None = "auto",
    licence: Literal["commercial", "any"] = "commercial",
    models: str | None = None,
    name: str | None = None,
    runs: str | Path = "runs",
    seed: int = 0,
    threads: int | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    bad_files: Literal["stop", "skip"] = "stop",
    follow_links: bool = False,
    search: str | None = None,
    compress: bool = False,
    runtime: Literal["onnxruntime", "openvino"] = "onnxruntime",
    balance: Literal["auto", "none", "weights", "draws"] = "auto",
    metric: str = "accuracy",
    listener: Listener | None = None,
) -> Run:
    """Find, train, export and measure the best classifier of these pictures within a budget.

    max_latency_ms: median of one picture in `runtime` on this machine's processor with `threads` threads; a network
    is chosen only when it takes at most nine tenths of that, and the end of the run measures it again. With openvino
    (the extra) the run's model folder holds model.xml and model.bin beside model.onnx. max_size_bytes:
    of the exported file. max_macs: multiply-adds of one picture. max_memory_bytes: weights and maps of one picture in
    float32, as counted; the runtime's own memory comes on top. time_s: wall time for everything, about; one epoch is
    always trained. weights: "auto", the best published ones that are on this machine; "hub", those of every network,
    where only what enters the race is fetched; "none" or None, from scratch; "lite", "hf-hub:ORG/NAME", a model folder,
    or a file (then with models). licence: "any" lets "auto" and "hub" take weights, too, that are not for commercial
    use. models: a pattern of names to choose from; without it, the whole zoo is looked at. device: where training runs,
    "auto": CUDA, then MPS, then the CPU. search: a space (see foveate.search);
    three tenths of the time go into a search, whose best nets then race against those of the zoo. compress: four
    tenths of the time go into a smaller network made of the one that was found, at a loss of at most MAX_DROP points of
    validation accuracy; its run, NAME-small, is returned.
    balance: what is done where classes are of unequal size (data/balance.py); auto: where the largest has more than
    IMBALANCE times the pictures of the smallest, what has the best balanced accuracy on validation. metric: by which
    candidates and epochs are chosen: accuracy, balanced, f1 or recall@CLASS.
    Raises BudgetError (with the nearest that is reachable), DataError, ConfigError.
    """
    listener = listener or silent
    time = TimeBudget.start(time_s, compress=compress)
    if models is not None and not list_models(models):
        raise ConfigError(f'--models "{models}" matches no model: {near(models, list_models())}')
    place = check_device(device)
    check_runtime(runtime)
    check_metric(metric)
    budget = Budget(
        max_latency_ms=max_latency_ms,
        max_size_bytes=max_size_bytes,
        max_macs=max_macs,
        max_memory_bytes=max_memory_bytes,
        time_s=time.run_s,
        runtime=runtime,
    )
    weights = None if weights == "none" or (search is not None and weights == "auto") else weights
    if search is not None and weights is not None:
        raise ConfigError("--search makes new networks, which have no published weights; leave out one of both")
    check_writable(runs)
    dataset = announce(open_data(data, seed=seed, bad_files=bad_files, follow_links=follow_links), listener)
    check_metric(metric, dataset.classes)
    recipe, _ = recipe_for(dataset, None)
    request = Request(
        data=str(data),
        dataset=dataset,
        budget=budget,
        time=time,
        recipe=replace(recipe, seed=seed, metric=metric, balance="none" if balance == "auto" else balance),
        balance=balance,
        weights=weights,
        licence=licence,
        models=models,
        search=search,
        name=name or dataset.name,
        runs=runs,
        seed=seed,
        threads=threads or torch.get_num_threads(),
        device=place,
        bad_files=bad_files,
        follow_links=follow_links,
        listener=listener,
    )
    plan, start = plan_training(request, race(request, measure_candidates(request)))
    run = complete(free_name(runs, request.name), plan, dataset, listener, start=start)
    if compress:
        run = compress_best(request, run)
    return Run(run.folder, {**run.summary, "time_s": time_s, "seconds": time.clock() - time.begun})


def measure_candidates(request: Request) -> list[Measured]:
    """Networks of the zoo, cheapest first, and the best of a search where one is asked for: each exported and timed."""
    dataset, time = request.dataset, request.time
    most_ms = slowest_ms(len(dataset.splits["train"]), time.run_s)
    options = (request.budget, request.threads, most_ms, time.look_until, request.listener)
    measured = look(dataset, request.weights, request.models, *options, request.licence)
    return measured if request.search is None else measured + search_candidates(request, request.search)


def search_candidates(request: Request, space: str) -> list[Measured]:
    """The SEARCHED best nets of a search in its share of the time; perhaps fewer, perhaps none."""
    from foveate.workflows.search.design import Search
    from foveate.workflows.search.run import finalists

    rough = Search(
        data=request.data,
        name=request.dataset.name,
        fingerprint=request.dataset.fingerprint,
        space=space,
        budget=replace(request.budget, time_s=request.time.search_s),
        share=1.0,
        seed=request.seed,
        threads=request.threads,
        device=request.device,
        bad_files=request.bad_files,
        follow_links=request.follow_links,
        command=command_line(),
    )
    listener, name, runs = request.listener, request.name, request.runs
    return finalists(rough, request.dataset, SEARCHED, name=name, runs=runs, listener=listener)


def race(request: Request, measured: list[Measured]) -> Winner:
    """The best of the candidates that fit the budget: by their accuracy after short trainings, where there is time.

    Raises BudgetError where none fits.
    """
    dataset, time, threads = request.dataset, request.time, request.threads
    fitting = select_affordable(measured, request.budget)
    end_s = time.kept_s((time.clock() - time.begun) / (1 + len(measured)))
    begun, left_s, race_s = time.clock(), time.left_s, time.race_s
    shared = SharedPictures(dataset, request.bad_files, request.listener, request.device, request.recipe.metric)
    fields = split_heats(fitting, is_small(dataset))
    heats: list[list[Entry]] = []
    for field in fields:
        entering = choose_entrants(field, len(dataset.splits["train"]), left_s, RACE_SHARE / len(fields))
        if len(entering) > 1 or len(fields) > 1:
            options = (race_s / len(fields), threads, shared, request.listener)
            heats.append(successive_halving(entering, request.recipe, *options))
    entries = best_of_heats(heats, len(dataset.splits["val"])) if heats else []
    chosen = entries[0].measured if entries else entering[0]
    table = make_rows(entries, measured, fitting, chosen, counted_on(dataset, chosen.candidate.weights is not None))
    seconds = time.clock() - begun
    runner, probe, probe_s = entries[0].runner if entries else None, None, 0.0
    if chosen.candidate.weights is not None:
        request.listener(StageEvent(f"fitting a linear classifier on the features of {chosen.candidate.model}"))
        before = time.clock()
        if not isinstance(runner, LinearProbeRunner):
            shared.fetch([chosen])
            runner = LinearProbeRunner(chosen.candidate, threads, shared)
        probe = runner.probe(PROBE_SHARE * time.left_s)
        probe_s = time.clock() - before + (entries[0].seconds if entries else 0.0)
    shown, weights = runner.initial_weights() if isinstance(runner, FromScratchRunner) else (0, None)
    # a hub's weights are known by their commit once they are here
    candidate = runner.candidate if isinstance(runner, LinearProbeRunner) else chosen.candidate
    return Winner(candidate, table, seconds, probe, probe_s, end_s, shown, weights)


def plan_training(request: Request, winner: Winner) -> tuple[Plan, Start]:
    """The winner's training in the time that is left, and what it begins with."""
    dataset, candidate, initial_weights = request.dataset, winner.candidate, winner.initial_weights
    start_from = f"from {candidate.weights}" if candidate.weights is not None else "from scratch"
    request.listener(StageEvent(f"timing {candidate.model} ({start_from}, on {describe_device(request.device)})"))
    chosen, notes = choose_recipe(request, winner)
    for note in notes:
        request.listener(StageEvent(note))
    recipe = limit_epochs(
        chosen,
        candidate.config,
        candidate.preprocess,
        dataset,
        max(0.0, request.time.left_s - winner.end_s),
        published=candidate.weights is not None,
        device=request.device,
    )
    if winner.shown < recipe.epochs * len(dataset.splits["train"]):
        initial_weights = None  # only a training that is shorter than the race would end below it
    elif initial_weights is not None:
        recipe = anneal(recipe)
    plan = Plan(
        data=request.data,
        model=candidate.model,
        architecture=candidate.config,
        recipe=recipe,
        preprocess=candidate.preprocess,
        weights=candidate.weights,
        head_start=candidate.weights is not None,
        bad_files=request.bad_files,
        follow_links=request.follow_links,
        device=request.device,
        threads=request.threads,
        budget=request.budget,
        fingerprint=dataset.fingerprint,
        notes=tuple(notes),
        command=command_line(),
    )
    time, whole_s = request.time, request.time.whole_s
    story = {
        "candidates": winner.rows,
        "race_seconds": winner.race_seconds,
        "goes_on_from_race": initial_weights is not None,
        **({"probe_seconds": winner.probe_seconds} if winner.probe is not None else {}),
    }
    left = lambda: time.begun + time.run_s - winner.end_s - time.clock()  # noqa: E731
    return plan, Start(story, winner.probe, initial_weights, left, time.begun, whole_s)


def choose_recipe(request: Request, winner: Winner) -> tuple[Recipe, list[str]]:
    """The recipe of the winner, changed to suit the pictures, with what is done about classes of unequal size, and a
    line of why for each change.

    balance auto, where the largest class has more than IMBALANCE times the pictures of the smallest: from published
    weights what gives a linear classifier on the frozen features the higher balanced accuracy on the validation
    pictures, where plain accuracy, if that is the metric, does not fall by more than MAX_DROP points; from scratch
    weights, without a trial.
    """
    asked, source = request.recipe, winner.candidate.weights
    recipe, notes = recipe_for(request.dataset, source)
    recipe = replace(recipe, seed=asked.seed, metric=asked.metric, balance=asked.balance)
    facts = facts_of(request.dataset, source)
    if request.balance != "auto" or facts.imbalance <= IMBALANCE:
        return recipe, notes
    sizes = f"the largest class has {facts.imbalance:.0f} times the pictures of the smallest"
    if winner.probe is None:
        return replace(recipe, balance="weights"), [*notes, f"classes are weighted by their size: {sizes}"]
    plain, weighted = winner.probe.balanced, winner.probe.balanced_weighted
    lost = winner.probe.val_accuracy - winner.probe.accuracy_weighted
    better = weighted > plain and (recipe.metric != "accuracy" or lost <= MAX_DROP / 100)
    numbers = f"balanced accuracy of a linear classifier {percent(weighted)} % with weights, {percent(plain)} % without"
    why = f"classes are {'weighted by their size' if better else 'left as they are'}: {sizes}; {numbers}"
    return replace(recipe, balance="weights" if better else "none"), [*notes, why]


def compress_best(request: Request, run: Run) -> Run:
    """A smaller network made of the run's best, in the time that is kept for it: the run NAME-small."""
    from foveate.workflows.compress.run import compress

    request.listener(StageEvent(f"compressing {run.folder / 'best'}"))
    return compress(
        run.folder / "best",
        request.data,
        max_drop=MAX_DROP,
        time_s=request.time.compress_s,
        name=f"{request.name}-small",
        runs=request.runs,
        seed=request.seed,
        threads=request.threads,
        bad_files=request.bad_files,
        follow_links=request.follow_links,
        runtime=request.budget.runtime,
        listener=request.listener,
    )
