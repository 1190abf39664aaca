"""fit: a folder of pictures and a budget in, the best classifier that fits out. The product, in one readable file.

Five steps: measure_candidates, race, plan_training, complete (of every run), compress_best.
"""

import contextlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from foveate.config import replace
from foveate.data.index import Dataset, open_data
from foveate.data.sample import is_small
from foveate.errors import ConfigError, DataError
from foveate.events import Listener, StageEvent, WarningEvent
from foveate.files import check_writable, crashpoint, folder_lock, free_name, sweep, write_json
from foveate.report.progress import hear
from foveate.runs.complete import complete_held, read_plan
from foveate.runs.defaults import recipe_for
from foveate.runs.devices import check_device, describe_device
from foveate.runs.epochs import anneal, limit_epochs
from foveate.runs.plan import Budget, Plan, check_runtime, command_line
from foveate.runs.request import REQUEST, Asked, read_beside, read_request, read_spent, refuse_others
from foveate.runs.resume import finished
from foveate.runs.run import Run, announce
from foveate.runs.time_budget import RACE_SHARE, TimeBudget
from foveate.runs.training import Start
from foveate.runs.trust import KNOWN
from foveate.selection.balance import MAX_DROP, choose_recipe
from foveate.selection.candidates import Measured, look, select_affordable
from foveate.selection.classical import check_names, fit_classical, is_classical, learn_beside
from foveate.selection.halving import (
    Entry,
    best_of_heats,
    choose_entrants,
    counted_on,
    make_rows,
    slowest_ms,
    split_heats,
    successive_halving,
)
from foveate.selection.journal import Journal
from foveate.selection.runners import FromScratchRunner, LinearProbeRunner, SharedPictures, make_runner
from foveate.selection.session import beside, kept, timekeeper
from foveate.selection.winner import Winner, read_winner, write_winner
from foveate.train.metric import check_metric
from foveate.train.recipe import Recipe

SEARCHED = 2  # how many nets of a search race
PROBE_SHARE = 0.3  # of the time that is left, at most, for the features of all training pictures
TORCH = 2.0  # times as long torch takes for a picture as the runtime


@dataclass(frozen=True)
class Request:
    """What fit works on: what was asked for, the run folder, which is held, the pictures and the time."""

    asked: Asked
    folder: Path
    dataset: Dataset
    budget: Budget
    time: TimeBudget
    recipe: Recipe  # that these pictures call for, from scratch
    weights: str | None  # "auto", "hub", a source, or None: from scratch
    journal: Journal
    listener: Listener


def fit(
    data: str | Path = "",
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
    resume: str | Path | None = None,
    listener: Listener | None = None,
    progress: bool = True,
) -> Run:
    """Find, train, export and measure the best classifier of these pictures within a budget.

    max_latency_ms: median of one picture in `runtime` on this machine's processor with `threads` threads; a network is
    chosen only when it takes at most nine tenths of that, and the end of the run measures it again. max_size_bytes: of
    the exported file. max_macs: multiply-adds of one picture. max_memory_bytes: weights and maps of one picture, as
    counted, without the runtime's own. time_s: wall time for everything, about; one epoch is always trained. weights:
    "auto", the best published ones that are on this machine; "hub", those of every network, where only what enters the
    race is fetched; "none" or None, from scratch; "lite", "hf-hub:ORG/NAME", a model folder, or a file (then with
    models). licence: "any" lets "auto" and "hub" take weights, too, that are not for commercial use. models: a pattern
    of names to choose from, or "classic:*"; without it, all of the zoo. device: where training runs, "auto": CUDA,
    then MPS, then the CPU. search: a space of foveate.search, "subnets(of=NAME)" for the sub-networks of a net with
    weights, or "auto", what suits the pictures; three tenths of the time are its, and its best nets race against the
    zoo's. compress: four tenths of the time go into a smaller network, at most MAX_DROP points of validation accuracy
    below the one that was found; its run, NAME-small, is returned. balance: what is done where classes are of unequal
    size (data/balance.py); auto: where the largest has more than IMBALANCE times the pictures of the smallest, what
    has the best balanced accuracy on validation. metric: by which candidates and epochs are chosen: accuracy,
    balanced, f1 or recall@CLASS. resume: a run folder, which goes on where it stopped; what else is given must be as
    it began. listener: hears the events of foveate.events; None: lines on stderr, or nothing where progress is False.
    Raises BudgetError (with the nearest that is reachable), DataError, ConfigError, Interrupted.
    """
    given, listener = dict(locals()), hear(listener, progress)
    if resume is not None:
        defaults = {key: p.default for key, p in inspect.signature(fit).parameters.items()}
        return resume_fit(resume, {k: v for k, v in given.items() if k in defaults and v != defaults[k]}, listener)
    time = TimeBudget.start(time_s, compress=compress)
    listener = time.told(listener)
    check_names(models)
    place = check_device(device)
    check_runtime(runtime)
    check_metric(metric)
    if search is not None and weights not in (None, "none", "auto"):
        raise ConfigError("--search makes new networks, which have no published weights; leave out one of both")
    check_writable(runs)
    dataset = announce(open_data(data, seed=seed, bad_files=bad_files, follow_links=follow_links), listener)
    check_metric(metric, dataset.classes)
    settings: dict[str, Any] = {key: given[key] for key in inspect.signature(Asked).parameters if key in given}
    settings |= {"data": str(data), "name": name or dataset.name, "device": place, "time_s": float(time_s)}
    settings |= {"threads": threads or torch.get_num_threads(), "fingerprint": dataset.fingerprint}
    asked, there = Asked(**settings, command=command_line()), Path(runs).exists()
    folder = free_name(runs, asked.name)
    try:
        return go_on(folder, asked, dataset, time, listener)
    finally:
        if not there and not folder.exists():  # nothing came of it
            with contextlib.suppress(OSError):
                Path(runs).rmdir()


def resume_fit(folder: str | Path, given: Mapping[str, object], listener: Listener) -> Run:
    """Go on with a fit from the stage in which it was stopped; a finished one is left as it is (Run.before).

    given: settings by the names of fit's arguments; they must be those that the run began with. Raises what fit raises.
    """
    folder = Path(folder)
    asked = read_request(folder)
    refuse_others(folder, asked, {k: v for k, v in given.items() if k not in ("resume", "listener", "progress")})
    if (summary := finished(folder)) is not None:
        small = folder.parent / read_beside(folder).get("small", "") / "summary.json"
        if not asked.compress:
            return Run(folder, summary, before=True)
        if small.parent != folder.parent and (found := finished(small.parent)) is not None and "ladder" in found:
            return Run(small.parent, found, before=True)
    check_writable(folder)
    time = TimeBudget.start(asked.time_s, compress=asked.compress, spent_s=read_spent(folder))
    listener = time.told(listener)
    options: dict[str, Any] = {"bad_files": asked.bad_files, "follow_links": asked.follow_links}
    dataset = announce(open_data(asked.data, seed=asked.seed, **options), listener)
    if dataset.fingerprint != asked.fingerprint:
        raise DataError(f"{asked.data}: the pictures changed since the run began; start a new run")
    return go_on(folder, asked, dataset, time, listener)


def go_on(folder: Path, asked: Asked, dataset: Dataset, time: TimeBudget, listener: Listener) -> Run:
    """Every stage of a fit that is not over yet, in its folder."""
    with folder_lock(folder, notice=lambda text: listener(WarningEvent(text))), kept(folder, time):
        sweep(folder)
        if not (folder / REQUEST).exists():
            write_json(folder / REQUEST, asked)
        crashpoint("fit.request")
        listener(StageEvent(f"the run is {folder}"))
        recipe, _ = recipe_for(dataset, None)
        balance = "none" if asked.balance == "auto" else asked.balance
        from_none = asked.weights == "none" or (asked.weights == "auto" and searches_from_scratch(asked, dataset))
        request = Request(
            asked=asked,
            folder=folder,
            dataset=dataset,
            budget=asked.budget(time.run_s),
            time=time,
            recipe=replace(recipe, seed=asked.seed, metric=asked.metric, balance=balance),
            weights=None if from_none else asked.weights,
            journal=Journal.open(folder),
            listener=timekeeper(folder, time, listener),
        )
        run = train_winner(request)
        crashpoint("fit.finished")
        if asked.compress:
            run = compress_best(request, run)
        found = {} if asked.search is None else {"ways": told_ways(folder)}
        return Run(run.folder, {**run.summary, **found, "time_s": asked.time_s, "seconds": time.spent_s})


def train_winner(request: Request) -> Run:
    """The run of the network that is found: candidates, race, training, and its end, as far as these are not over."""
    folder, time, dataset = request.folder, request.time, request.dataset
    if (summary := finished(folder)) is not None:
        return Run(folder, summary)
    if is_classical(request.asked.models):
        return fit_classical(folder, request.asked, dataset, time, request.listener)
    winner = read_winner(folder)
    if winner is not None and any((folder / "state").glob("step-*")):
        start = Start(left=time_for_training(request, winner), begun=time.begun, asked_s=time.whole_s)
        return complete_held(folder, read_plan(folder), dataset, request.listener, resume=True, start=start)
    if winner is None:
        winner = race(request, measure_candidates(request))
        write_winner(folder, winner)
    learn_beside(folder, dataset, time, request.asked, request.listener)
    request.journal.drop_networks()
    plan, start = plan_training(request, winner)
    return complete_held(folder, plan, dataset, request.listener, start=start)


def time_for_training(request: Request, winner: Winner) -> Callable[[], float]:
    """Seconds that training may still take: what is kept for the end is left out."""
    time = request.time
    return lambda: time.begun + time.run_s - winner.end_s - time.clock()


def measure_candidates(request: Request) -> list[Measured]:
    """Networks of the zoo, cheapest first, and the best of a search where one is asked for: each exported and timed."""
    dataset, time, asked, journal = request.dataset, request.time, request.asked, request.journal
    if journal.complete:
        return journal.measured
    most_ms = slowest_ms(len(dataset.splits["train"]), time.run_s)
    options = (request.budget, asked.threads, most_ms, time.look_until, request.listener)
    measured = look(dataset, request.weights, asked.models, *options, asked.licence, journal)
    if asked.search is not None:
        measured = measured + search_candidates(request, asked.search)
    journal.finish_looking(measured)
    return measured


def told_ways(folder: Path) -> list[dict[str, Any]]:
    """What the zoo and the search each found, and took."""
    from foveate.workflows.search.ways import ways

    return ways(folder)


def searches_from_scratch(asked: Asked, dataset: Dataset) -> bool:
    """Whether nets are searched that start from nothing: then the zoo's do, too."""
    from foveate.workflows.search.fitting_space import shares_weights

    return asked.search is not None and not shares_weights(asked.search, dataset)


def search_candidates(request: Request, space: str) -> list[Measured]:
    """The SEARCHED best nets of a search in its share of the time; perhaps fewer, perhaps none."""
    from foveate.workflows.search.design import Search
    from foveate.workflows.search.fitting_space import named_space
    from foveate.workflows.search.run import finalists

    asked, dataset = request.asked, request.dataset
    space = named_space(space, dataset)
    rough = Search(
        data=asked.data,
        name=dataset.name,
        fingerprint=dataset.fingerprint,
        space=space,
        budget=replace(request.budget, time_s=request.time.search_s),
        share=1.0,
        seed=asked.seed,
        threads=asked.threads,
        device=asked.device,
        bad_files=asked.bad_files,
        follow_links=asked.follow_links,
        command=asked.command,
    )
    return finalists(
        rough, dataset, SEARCHED, beside(request.folder, "search", f"search-{asked.name}"), request.listener
    )


def race(request: Request, measured: list[Measured]) -> Winner:
    """The best candidate within the budget, by short trainings where there is time; BudgetError where none is."""
    dataset, time, asked, journal = request.dataset, request.time, request.asked, request.journal
    fitting = select_affordable(measured, request.budget)
    one_s = (time.clock() - time.begun) / (1 + len(measured))
    begun, left_s, race_s = time.clock(), time.left_s, time.race_s
    shared = SharedPictures(dataset, asked.bad_files, request.listener, asked.device, request.recipe.metric)
    fields = split_heats(fitting, is_small(dataset))
    heats: list[list[Entry]] = []
    for number, field in enumerate(fields):
        entering = choose_entrants(field, len(dataset.splits["train"]), left_s, RACE_SHARE / len(fields))
        entering = journal.enter(number, entering)
        if len(entering) > 1 or len(fields) > 1:
            options = (race_s / len(fields), asked.threads, shared, request.listener, journal)
            heats.append(successive_halving(entering, request.recipe, *options))
    entries = best_of_heats(heats, len(dataset.splits["val"])) if heats else []
    chosen = entries[0].measured if entries else entering[0]
    table = make_rows(entries, measured, fitting, chosen, counted_on(dataset, chosen.candidate.weights is not None))
    seconds = time.clock() - begun
    runner, probe, probe_s = entries[0].runner if entries else None, None, 0.0
    if entries and runner is None and chosen.candidate.weights is None:  # all its rounds were run by an earlier session
        runner = make_runner(chosen.candidate, request.recipe, asked.threads, shared, journal.network(chosen))
    if chosen.candidate.weights is not None:
        request.listener(StageEvent(f"fitting a linear classifier on the features of {chosen.candidate.model}"))
        before = time.clock()
        if not isinstance(runner, LinearProbeRunner):
            shared.fetch([chosen])
            runner = LinearProbeRunner(chosen.candidate, asked.threads, shared)
        probe = runner.probe(PROBE_SHARE * time.left_s)
        probe_s = time.clock() - before + (entries[0].seconds if entries else 0.0)
    shown, weights = runner.initial_weights() if isinstance(runner, FromScratchRunner) else (0, None)
    # a hub's weights are known by their commit once they are here
    candidate = runner.candidate if isinstance(runner, LinearProbeRunner) else chosen.candidate
    tested = len(dataset.splits["test" if "test" in dataset.splits else "val"])
    seen = (2 if probe is not None else 1) * tested + min(KNOWN, len(dataset.splits["train"]))  # both tested; features
    end_s = time.kept_s(one_s, seen * TORCH * chosen.latency.median_ms / 1000)
    return Winner(candidate, table, seconds, probe, probe_s, end_s, shown, weights)


def plan_training(request: Request, winner: Winner) -> tuple[Plan, Start]:
    """The winner's training in the time that is left, and what it begins with."""
    dataset, candidate, asked, time = request.dataset, winner.candidate, request.asked, request.time
    initial_weights = winner.initial_weights
    start_from = f"from {candidate.weights}" if candidate.weights is not None else "from scratch"
    request.listener(StageEvent(f"timing {candidate.model} ({start_from}, on {describe_device(asked.device)})"))
    chosen, notes = choose_recipe(request.dataset, request.recipe, asked.balance, winner)
    for note in notes:
        request.listener(StageEvent(note))
    recipe = limit_epochs(
        chosen,
        candidate.config,
        candidate.preprocess,
        dataset,
        max(0.0, time.left_s - winner.end_s),
        published=candidate.weights is not None,
        device=asked.device,
    )
    if winner.shown < recipe.epochs * len(dataset.splits["train"]):
        initial_weights = None  # only a training that is shorter than the race would end below it
    elif initial_weights is not None:
        recipe = anneal(recipe)
    plan = Plan(
        data=asked.data,
        model=candidate.model,
        architecture=candidate.config,
        recipe=recipe,
        most_epochs=chosen.epochs,
        preprocess=candidate.preprocess,
        weights=candidate.weights,
        head_start=candidate.weights is not None,
        bad_files=asked.bad_files,
        follow_links=asked.follow_links,
        device=asked.device,
        threads=asked.threads,
        budget=request.budget,
        fingerprint=dataset.fingerprint,
        notes=tuple(notes),
        command=asked.command,
    )
    story = {
        "candidates": winner.rows,
        "race_seconds": winner.race_seconds,
        "goes_on_from_race": initial_weights is not None,
        **({"probe_seconds": winner.probe_seconds} if winner.probe is not None else {}),
    }
    left = time_for_training(request, winner)
    return plan, Start(story, winner.probe, initial_weights, left, time.begun, time.whole_s)


def compress_best(request: Request, run: Run) -> Run:
    """A smaller network made of the run's best, in the time that is left for it: the run NAME-small."""
    from foveate.workflows.compress.run import compress

    asked, time = request.asked, request.time
    if time.late:
        request.listener(WarningEvent("the time is over: nothing is compressed; foveate compress does it later"))
        return run
    place = beside(request.folder, "small", f"{asked.name}-small")
    request.listener(StageEvent(f"compressing {run.folder / 'best'}"))
    return compress(
        run.folder / "best",
        asked.data,
        max_drop=MAX_DROP,
        time_s=time.compress_left_s,
        folder=place,
        seed=asked.seed,
        threads=asked.threads,
        bad_files=asked.bad_files,
        follow_links=asked.follow_links,
        runtime=asked.runtime,
        listener=request.listener,
    )
