"""A search on pictures from its folder to its winner: trials, by one process or several; the winner's full training.

The folder: search.json, study.db (an Optuna study), results.json, report.html, table.md, winner.txt, and winner/, a run
folder like any other.
"""

import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from foveate.config import replace
from foveate.data.index import Dataset, open_data
from foveate.errors import ConfigError, Interrupted
from foveate.events import Listener, StageEvent, WarningEvent, silent
from foveate.files import check_writable, folder_lock, free_name, write_json
from foveate.report.progress import hear
from foveate.runs.complete import complete, resume_run
from foveate.runs.devices import check_device
from foveate.runs.plan import Budget, check_runtime, command_line
from foveate.runs.request import write_spent
from foveate.runs.run import Run, announce, environment
from foveate.runs.time_budget import TimeBudget
from foveate.search import sampler as make_sampler
from foveate.search.space import Space
from foveate.search.study import Found, found, open_study, quiet, work
from foveate.search.workers import fail_stale, shared_storage
from foveate.selection.candidates import Measured
from foveate.train.signals import Stop, exit_code, resumable, stop_on_signals, unbroken
from foveate.workflows.search.baselines import verdict, zoo_rows
from foveate.workflows.search.best import fitting, winner
from foveate.workflows.search.design import (
    FEWEST,
    Search,
    check_request,
    check_reward,
    default_evaluate,
    default_recipes,
    fitted_space,
    is_code,
    search_preprocess,
)
from foveate.workflows.search.evaluators import ahead_s, check_evaluate, prepare
from foveate.workflows.search.final import plan_of
from foveate.workflows.search.fitting_space import default_space, has_own_recipes, unsuited
from foveate.workflows.search.floor import check_reachable
from foveate.workflows.search.front import FRONT, plan_front, train_front
from foveate.workflows.search.in_time import clock_of, in_time, last_trainings, trials_until, zoo_until
from foveate.workflows.search.material import Material
from foveate.workflows.search.objective import MOST_VAL, Objective, material
from foveate.workflows.search.proxies import begin_study, is_study, study_scores
from foveate.workflows.search.ray_workers import run_on_ray
from foveate.workflows.search.report import line_of, rows_of, tell_test, write_search_report
from foveate.workflows.search.start import start_of, with_weights
from foveate.workflows.search.study import (
    ENDLESS,
    opened,
    over_time,
    resume_command,
    spent,
    study_name,
    trusted,
    url_of,
)
from foveate.workflows.search.study import (
    load_search as load_search,
)
from foveate.workflows.search.subnets.source import SubnetSpace, is_subnets
from foveate.workflows.search.subnets.train import TooLittleTime
from foveate.workflows.search.workers import run_workers

DEFAULT_TRIALS = 50


def search(
    data: str | Path,
    space: str | None = None,
    *,
    sampler: str = "predictor",
    reward: str = "strict",
    evaluate: str | None = None,
    objectives: Sequence[str] = ("accuracy",),
    budget: Budget | None = None,
    trials: int | None = None,
    epochs: int = 3,
    pictures: int = 5000,
    resolution: int | None = None,
    recipe: str | None = None,
    front: int = FRONT,
    study: int | None = None,
    workers: int = 1,
    storage: str | None = None,
    ray: str | None = None,
    name: str | None = None,
    runs: str | Path = "runs",
    seed: int = 0,
    threads: int | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    bad_files: Literal["stop", "skip"] = "stop",
    follow_links: bool = False,
    listener: Listener | None = None,
    progress: bool = True,
) -> Run:
    """Search a space on pictures and train the best net that was found; returns the winner's run.

    space: a call of SPACES ("mnasnet", "resnet(...)"), "subnets(of=NAME or model folder)", or a Python file with a
    function space(): it is run with all your rights, so name only a file that you would run yourself; None: what suits
    the pictures. evaluate: how a net is valued, "train", "supernet", "children" (of subnets, the default there) or a
    zero-cost score (evaluators.py); that value stands wherever accuracy is named here. objectives: names of
    design.OBJECTIVES, accuracy first; several are searched together, and the winner is the most accurate net within
    the budget. budget: limits as in fit; time_s is for everything, 60 % of it for the search. trials: different nets;
    None: as many as the time allows, 50 without a time. epochs, pictures: of the short trainings. recipe: of the
    winner; None: what suits the pictures. front: models over the range of the budget that the search ends with, the
    winner among them (front/1, front/2, ..). study: in place of a search, so many nets are trained alone and cheap
    scores held against that (proxies.py). storage: URL of a database that several machines share; None: a file in the
    folder. ray: address of a Ray cluster that runs the workers ("auto", "local").
    listener: hears the events of foveate.events; None: lines on stderr, or nothing where progress is False.
    Raises ConfigError, DataError, BudgetError (no net within the budget was found), Interrupted.
    """
    listener, budget, begun = hear(listener, progress), budget or Budget(), time.monotonic()
    place = check_device(device)
    check_runtime(budget.runtime)
    check_reward(reward, tuple(objectives), budget)  # before the pictures are read
    check_writable(runs)
    if workers < 1:
        raise ConfigError(f"--workers {workers}: expected 1 or more")
    dataset = announce(open_data(data, seed=seed, bad_files=bad_files, follow_links=follow_links), listener)
    if space is None:
        space = default_space(dataset)
        listener(StageEvent(f"searching {space}, which suits these pictures"))
    elif (line := unsuited(space, dataset)) is not None:
        listener(WarningEvent(line))
    evaluate = default_evaluate(space, evaluate)
    if ray is not None and evaluate.startswith(("supernet", "children")):
        raise ConfigError(
            "--ray: the weights of a supernet stay in this machine's folder; take --workers, or --evaluate train"
        )
    rough = Search(
        data=str(data),
        name=dataset.name,
        fingerprint=dataset.fingerprint,
        space=space,
        sampler=sampler,
        reward=reward,
        evaluate=evaluate,
        objectives=tuple(objectives),
        budget=budget,
        trials=trials,
        front=front,
        pictures=pictures,
        storage=storage or "",
        seed=seed,
        threads=threads or 0,
        device=place,
        bad_files=bad_files,
        follow_links=follow_links,
        command=command_line(),
    )
    design = designed(rough, dataset, epochs=epochs, resolution=resolution, recipe=recipe)
    choices = fitted_space(design.space, dataset, None)[1]
    check_reachable(design, choices, dataset, listener)
    if study is None:
        design = in_time(design, choices, dataset, min(MOST_VAL, len(dataset.splits["val"])), listener)
    named = {"space": design.space, "storage": design.storage or None}  # by the caller of this function
    folder = written(design, name, runs)
    if study is not None:
        begin_study(folder, study)
    return resume_search(folder, **named, workers=workers, ray=ray, listener=listener, begun=begun)


def designed(
    rough: Search, dataset: Dataset, *, epochs: int = 3, resolution: int | None = None, recipe: str | None = None
) -> Search:
    """A search as the user typed it, with everything checked and what follows from the pictures filled in."""
    import torch

    call, made = fitted_space(rough.space, dataset, resolution)
    rough = replace(
        rough, evaluate=default_evaluate(rough.space, None if rough.evaluate == "train" else rough.evaluate)
    )
    check_request(rough.sampler, rough.reward, rough.objectives, made)
    check_evaluate(rough.evaluate, rough.reward)
    weights = made.source.candidate.weights if isinstance(made, SubnetSpace) else None
    full, proxy = default_recipes(dataset, recipe, epochs, rough.seed, weights)
    return replace(
        rough,
        space=call,
        trials=rough.trials or (None if rough.budget.time_s else DEFAULT_TRIALS),
        recipe=full,
        proxy=proxy,
        own_recipes=recipe is None and has_own_recipes(call, dataset),
        preprocess=search_preprocess(made, dataset),
        threads=rough.threads or torch.get_num_threads(),
    )


def written(design: Search, name: str | None, runs: str | Path) -> Path:
    """A new folder for a search."""
    facts = environment()
    with unbroken():
        folder = free_name(runs, f"search-{name or design.name}")
        write_json(folder / "env.json", facts)
        write_json(folder / "search.json", design)
    return folder


def finalists(rough: Search, dataset: Dataset, count: int, folder: Path, listener: Listener) -> list[Measured]:
    """The best nets of a search that fit the budget when they are measured again, `count` at most and perhaps none; no
    net is trained in full. folder: of the search, new, or one of an earlier session, with which it goes on.
    """
    if (folder / "search.json").exists():
        design = trusted(folder, rough.space if is_code(rough.space) else None)
    else:
        design = designed(rough, dataset)
        choices = fitted_space(design.space, dataset, None)[1]
        design = in_time(design, choices, dataset, min(MOST_VAL, len(dataset.splits["val"])), listener)
        write_json(folder / "env.json", environment())
        write_json(folder / "search.json", design)
    with folder_lock(folder, notice=lambda text: listener(WarningEvent(text))), stop_on_signals() as stop:
        space = opened(design)[1]
        try:
            done = trials(folder, design, space, dataset, 1, None, listener, stop, clock_of(folder, design))
        except TooLittleTime as error:
            listener(WarningEvent(f"no sub-network enters the race: {error}"))
            return []
        write_search_report(folder, design, space, done)
    best = list(itertools.islice(fitting(design, space, dataset, done), count))
    found = with_weights(folder, design, space, dataset, best) if is_subnets(design.space) else [m for _, m in best]
    for m in found:
        listener(m.event(True))
    return found


def resume_search(
    folder: str | Path,
    *,
    space: str | None = None,
    storage: str | None = None,
    workers: int = 1,
    ray: str | None = None,
    listener: Listener | None = None,
    begun: float | None = None,
) -> Run:
    """Do what is left of a search: trials, the winner's training, the report. workers, ray: see search. begun:
    time.monotonic() when its time began to run, now without one.

    space, storage: the Python file and the database of the search, where it has such, named again: neither is run or
    opened because a folder says so. ConfigError says what to name.
    """
    folder, listener = Path(folder), listener or silent
    design = trusted(folder, space, storage)
    if is_study(folder):
        return Run(folder, study_scores(folder, design, listener))
    clock = clock_of(folder, design, begun)
    with folder_lock(folder), stop_on_signals() as stop:
        with stop.at_once(), resumable(resume_command(folder, design)):
            dataset, choices = opened(design)
        done = trials(folder, design, choices, dataset, workers, ray, listener, stop, clock)
        if not is_training(folder):
            write_search_report(folder, design, choices, done)
    with resumable(resume_command(folder, design)):
        return train_winner(folder, design, choices, dataset, done, workers, listener, clock)


def is_training(folder: Path) -> bool:
    """Whether the winner's training has begun, and there is something of it to go on with."""
    place = folder / "winner"
    return (place / "recipe.json").exists() and any((place / "state").glob("step-*"))


def train_winner(
    folder: Path,
    design: Search,
    choices: Space,
    dataset: Dataset,
    done: Sequence[Found],
    workers: int,
    listener: Listener,
    clock: TimeBudget,
) -> Run:
    """The best net of all trials, measured again, trained in full and reported, or what is left of that."""
    place = folder / "winner"
    if is_training(folder):
        listener(StageEvent("going on with the winner's training"))
        return reported(folder, design, choices, dataset, done, resume_run(place, listener), listener)
    measuring = time.monotonic()
    best, m = winner(design, choices, dataset, done, listener)
    one_s = time.monotonic() - measuring
    zoo, said = [], []
    if design.evaluate == "train":
        until = zoo_until(clock)
        goods = material(design, choices, dataset, list, folder, until)  # no other trainings: none falls behind them
        zoo = zoo_rows(folder, goods, done, listener)
        said = verdict(zoo, best, len(goods.val))
        del goods
    ahead = ahead_s(folder) + sum(float(row["seconds"]) for row in zoo)
    left, count = last_trainings(design, clock, one_s)
    begun, left = time.monotonic(), plan_front(folder, replace(design, front=count), done, best, left)
    plan = plan_of(design, dataset, m, left, listener)
    write_search_report(folder, design, choices, done, best, m.candidate.config, zoo, said)
    place.mkdir(exist_ok=True)
    rows = [*rows_of(design, choices, done, best), *({**row, "chosen": False} for row in zoo)]
    story = {"candidates": rows, "race_seconds": spent(done, 1) + ahead}
    start = start_of(folder, design, choices, dataset, best, plan.recipe, story, begun, left)
    run = complete(place, plan, dataset, listener, start=start)
    return reported(folder, design, choices, dataset, done, run, listener)


def reported(
    folder: Path,
    design: Search,
    space: Space,
    dataset: Dataset,
    done: Sequence[Found],
    run: Run,
    listener: Listener,
) -> Run:
    """The winner's run, with the front and what the search cost beside it."""
    front = train_front(folder, design, space, dataset, done, run, listener)
    tell_test(folder, run.summary, front)
    cost_of_it: dict[str, Any] = {"trials": len(done), "failed": sum(f.values is None for f in done)}
    cost_of_it |= {"seconds": spent(done, 1) + ahead_s(folder)}
    how = {"space": design.space, "sampler": design.sampler, "evaluate": design.evaluate}
    summary = {**run.summary, "search": {"folder": str(folder), **how, **cost_of_it}, "front": front}
    return Run(run.folder, summary, run.before)


def trials(
    folder: Path,
    design: Search,
    space: Space,
    dataset: Dataset,
    workers: int,
    ray: str | None,
    listener: Listener,
    stop: Stop,
    clock: TimeBudget,
) -> list[Found]:
    """Evaluate nets until the budget of trials or of time is spent; all that are known then."""
    name = study_name(folder, design)
    held = resumable(resume_command(folder, design))
    with held, shared_storage(url_of(folder, design)) as storage:
        with quiet():
            study = open_study(make_sampler(design.sampler, space, design.seed), design.directions, storage, name)
        count = design.trials or ENDLESS

        def enough() -> bool:
            if stop.signal:
                return True
            known = found(space, study)
            late = len(known) >= FEWEST and clock.clock() > trials_until(design, clock)
            return late or len(known) >= count or over_time(design, known, workers, ahead_s(folder))

        def on_result(one: Found) -> None:
            listener(StageEvent(line_of(design, space, one, len(found(space, study)))))
            write_spent(folder, clock)

        told = {one.number for one in found(space, study)}

        def told_and_enough() -> bool:
            """enough(), and what other processes found since the last look is told."""
            over = enough()  # first: what makes it enough is told as well
            for one in found(space, study):
                if one.number not in told:
                    told.add(one.number)
                    on_result(one)
            return over

        def scene() -> Material:
            with stop.at_once():
                until = trials_until(design, clock)
                return material(design, space, dataset, lambda: found(space, study), folder, until)

        if not enough():
            prepare(scene, design, folder, listener, lambda: bool(stop.signal))
        if not enough():
            listener(StageEvent(f"searching {space!r} with {design.sampler}"))
            if ray is not None:
                run_on_ray(ray, design, url_of(folder, design), name, workers, told_and_enough)
            elif workers == 1:
                objective = Objective(scene(), stop.at_once)
                sampler = make_sampler(design.sampler, space, design.seed)
                alone = not design.storage
                options: dict[str, Any] = {"storage": storage, "name": name, "directions": design.directions}
                work(space, objective, sampler, budget=count, alone=alone, stop=enough, on_result=on_result, **options)
            else:
                run_workers(folder, design, workers, told_and_enough)
        if stop.signal:
            raise Interrupted(
                f"stopped and saved; go on with: {resume_command(folder, design)}", exit_code(stop.signal)
            )
        fail_stale(study, 0.0 if not design.storage else 30.0)
        return found(space, study)
