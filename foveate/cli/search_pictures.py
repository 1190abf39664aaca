"""The half of foveate search that finds a network for pictures: short trainings, then the best in full."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.cli import show, units
from foveate.cli.options.budget import Budget, MaxMacs, TimeOrNone, read
from foveate.cli.options.declare import option
from foveate.cli.options.output import Output, Quiet
from foveate.cli.options.run import (
    Device,
    Processor,
    Recipe,
    Resume,
    RunOptions,
    Threads,
    refuse_beside_resume,
)
from foveate.report.units import count, milliseconds, percent, plural, share, size


@dataclass(frozen=True)
class Costs(Budget):
    """The budget of a search, and its time."""

    max_macs: MaxMacs = None
    time: TimeOrNone = None


@dataclass(frozen=True)
class Trials:
    """How a network is valued, and where the trials run."""

    reward: Annotated[
        str,
        typer.Option(
            "--reward",
            metavar="NAME",
            help="Of accuracy and budget: strict, accuracy, mnasnet_soft(w=-0.07), mnasnet_hard, tunas(b=-0.07).",
        ),
    ] = "strict"
    evaluate: Annotated[
        str | None,
        option("--evaluate", metavar="HOW", help="train, supernet(epochs=20), children, or a score: zen, naswot."),
    ] = None
    front: Annotated[
        int, typer.Option("--front", min=1, max=5, help="Models over the range of the budget, the winner among them.")
    ] = 3
    epochs: Annotated[int, typer.Option("--epochs", min=1, max=1000, help="Of a short training.")] = 3
    pictures: Annotated[int, typer.Option("--pictures", min=1, help="Of a short training, at most.")] = 5000
    resolution: Annotated[int | None, option("--resolution", low=8, high=1024, help="Pixels, square.")] = None
    recipe: Recipe = None
    study: Annotated[
        int | None,
        option(
            "--study", metavar="N", low=8, high=1000, help="Train N nets alone, and tell which cheap score ranks them."
        ),
    ] = None
    workers: Annotated[int, typer.Option("--workers", min=1, max=256, help="Processes on this machine.")] = 1
    storage: Annotated[
        str | None,
        option("--storage", metavar="URL", help="A database that machines share: postgresql+psycopg://..."),
    ] = None
    ray: Annotated[
        str | None, option("--ray", metavar="ADDRESS", help="Run the workers on this Ray cluster: auto, local.")
    ] = None
    resume: Resume = None


@dataclass(frozen=True)
class WinnerRun(RunOptions):
    """The run of the winner."""

    threads: Threads = None
    device: Device = Processor.auto
    quiet: Quiet = False


def search_on_pictures(
    data: str | None,
    space: str | None,
    *,
    sampler: str,
    objectives: str | None,
    number: int | None,
    costs: Costs,
    trials: Trials,
    place: WinnerRun,
    output: Output,
) -> None:
    """Search, train the winner, print both. number: of different nets; None: as many as the time allows."""
    limits = costs.limits()
    macs = read(units.count, "--max-macs", costs.max_macs)
    time_s = read(units.time_s, "--time", costs.time)
    from foveate.runs import plan
    from foveate.workflows.search.run import resume_search, search

    wanted = plan.Budget(**limits, max_macs=macs, time_s=time_s)
    if trials.resume is not None:
        known = recorded(trials.resume, wanted, costs, space)
        refuse_beside_resume(trials.resume, known, ("workers", "ray", "storage"))

    with show.progress(place.quiet) as listener:
        if trials.resume is not None:
            run = resume_search(
                trials.resume,
                space=space,  # a folder names neither code nor a database
                storage=trials.storage,
                workers=trials.workers,
                ray=trials.ray,
                listener=listener,
            )
        else:
            run = search(
                str(data),
                space,
                sampler=sampler,
                reward=trials.reward,
                evaluate=trials.evaluate,
                objectives=objectives.split(",") if objectives else ("accuracy",),
                budget=wanted,
                trials=number,
                epochs=trials.epochs,
                pictures=trials.pictures,
                resolution=trials.resolution,
                recipe=trials.recipe,
                front=trials.front,
                study=trials.study,
                workers=trials.workers,
                storage=trials.storage,
                ray=trials.ray,
                threads=place.threads,
                device=place.device.value,
                listener=listener,
                **place.keywords(),
            )
    if "ranks" in run.summary:
        from foveate.workflows.search.proxies import lines

        output.answer(run.summary, lambda: [*lines(run.summary), "", f"study     {run.folder}"])
        return
    output.answer(run.summary, lambda: closing(run.summary, place.quiet, run.before))


def recorded(folder: str, wanted: Any, costs: Costs, space: str | None) -> dict[str, object]:
    """What a search has, by the parameters of the command; what is written otherwise and means the same is as typed."""
    from foveate.workflows.search.study import load_search

    design = load_search(Path(folder))
    names = {"max_latency": "max_latency_ms", "max_size": "max_size_bytes", "max_macs": "max_macs", "time": "time_s"}
    limits = {
        option: getattr(costs, option) if getattr(wanted, field) == found else found
        for option, field, found in ((o, f, getattr(design.budget, f)) for o, f in names.items())
    }
    call = space is not None and "(" not in space and design.space.partition("(")[0] == space
    return {
        **{key: getattr(design, key) for key in ("data", "sampler", "reward", "evaluate", "seed", "threads", "device")},
        **{key: getattr(design, key) for key in ("bad_files", "storage", "pictures", "front")},
        "study": None,
        **limits,
        "runtime": design.budget.runtime,
        "space": space if call else design.space,
        "objectives": ",".join(design.objectives),
        "number": design.trials,
        "epochs": design.proxy.epochs,
        "resolution": design.preprocess.resolution,
    }


def closing(s: Mapping[str, Any], quiet: bool, before: bool = False) -> list[str]:
    """The table of the search, then the winner; one line where the search was finished before."""
    about = s["search"]
    if before:
        reached = f"{percent(s['test_accuracy'])} % {s.get('test_split', 'test')}"
        return [f"{about['folder']} is finished ({plural(about['trials'], 'net')}, {reached}); nothing to do"]
    lines = [] if quiet else (Path(about["folder"]) / "table.md").read_text("utf-8").splitlines()
    accuracy = share(s["test_accuracy"], s["test_interval"], s["test_n"])
    costs = f"{milliseconds(s['latency_ms'])} median · {size(s['size_bytes'])}"
    lines += ["", f"{s.get('test_split', 'test'):<9} {accuracy} · {costs} · {count(s['macs'])} multiply-adds"]
    if len(s.get("front", ())) > 1:
        lines.append(f"front     {about['folder']}/front/1 to {len(s['front'])}, the cheapest first")
    lines.append(f"model     {s['run']}/best          report  {s['report']}")
    lines.append(f"search    {about['folder']}: report.html, table.md, winner.txt, study.db")
    return lines
