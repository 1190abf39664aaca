"""foveate search: the best net of a space, on pictures; on a table of trained nets, searchers beside each other."""

import csv
import enum
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.cli import show, units
from foveate.cli.options import (
    Bad,
    BadFiles,
    Debug,
    Device,
    Json,
    LatencyIn,
    MaxLatency,
    MaxMacs,
    MaxSize,
    Name,
    Quiet,
    Runs,
    Runtime,
    Seed,
    Threads,
    TrainDevice,
    print_json,
)
from foveate.errors import ConfigError

EXAMPLE = "Example: foveate search photos --space mnasnet --max-latency 2ms --time 20m"


class Reward(enum.StrEnum):
    """What one objective is made of accuracy and budget."""

    strict = "strict"
    accuracy = "accuracy"
    mnasnet_soft = "mnasnet_soft"
    mnasnet_hard = "mnasnet_hard"
    tunas = "tunas"


def command(
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA|TABLE", help="Pictures as in fit; or CSV or JSON of trained nets.", show_default=False
        ),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option("--space", help="A name, a call such as resnet(...), or a file my_space.py.", show_default=False),
    ] = None,
    sampler: Annotated[
        str, typer.Option("--sampler", help="A name, a call such as evolution(population=20); on a table also all.")
    ] = "predictor",
    objectives: Annotated[
        str | None,
        typer.Option(
            "--objectives",
            metavar="A,B",
            help="accuracy,latency_ms,macs,params,size_bytes; of a table: columns (+x,-y).",
            show_default=False,
        ),
    ] = None,
    max_latency: MaxLatency = None,
    runtime: LatencyIn = Runtime.onnxruntime,
    max_size: MaxSize = None,
    max_macs: MaxMacs = None,
    time: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Wall time for all of it; 60 % for the search.", show_default=False),
    ] = None,
    trials: Annotated[
        int | None, typer.Option("--trials", min=1, max=100_000, help="Different nets.", show_default=False)
    ] = None,
    reward: Annotated[
        Reward, typer.Option("--reward", help="How accuracy and budget become one number.")
    ] = Reward.strict,
    evaluate: Annotated[
        str,
        typer.Option("--evaluate", metavar="HOW", help="train, supernet(epochs=20), or a score: zen, naswot, synflow."),
    ] = "train",
    epochs: Annotated[int, typer.Option("--epochs", min=1, max=1000, help="Of a short training.")] = 3,
    pictures: Annotated[int, typer.Option("--pictures", min=1, help="Of a short training, at most.")] = 5000,
    resolution: Annotated[
        int | None, typer.Option("--resolution", min=8, max=1024, help="Pixels, square.", show_default=False)
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", metavar="NAME", help="Of the winner; by default what suits.", show_default=False),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, max=256, help="Processes on this machine.")] = 1,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="URL",
            help="A database that machines share: postgresql+psycopg://...",
            show_default=False,
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray", metavar="ADDRESS", help="Run the workers on this Ray cluster: auto, local.", show_default=False
        ),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option("--resume", metavar="FOLDER", help="Go on with this search folder.", show_default=False),
    ] = None,
    observe: Annotated[
        str | None,
        typer.Option("--observe", metavar="COLUMN", help="Table: what the search sees.", show_default=False),
    ] = None,
    report: Annotated[
        str | None,
        typer.Option("--report", metavar="COLUMN", help="Table: what is reported of its choice.", show_default=False),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option("--reference", metavar="X,Y", help="Table: where hypervolumes begin.", show_default=False),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline", metavar="COLUMN", help="Table: also the nets with the largest of this.", show_default=False
        ),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=10_000, help="Table: searches per sampler.")] = 20,
    name: Name = None,
    runs: Runs = "runs",
    seed: Seed = 0,
    threads: Threads = None,
    device: TrainDevice = Device.cpu,
    bad_files: Bad = BadFiles.stop,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Search the best net of a space.

    On pictures: short trainings find it, measured here; then it is trained in full. On a table: searchers are compared.
    """
    if resume is None and (data is None or space is None):
        raise ConfigError("DATA or --space is missing; expected foveate search DATA --space NAME, or --resume FOLDER")
    if data is not None and is_table(data):
        from foveate.cli.search_table import on_table

        on_table(
            data,
            str(space),
            sampler=sampler,
            observe=observe,
            report=report,
            objectives=objectives,
            reference=reference,
            baseline=baseline,
            trials=trials,
            seeds=seeds,
            as_json=as_json,
        )
        return
    of_table = {"--observe": observe, "--report": report, "--reference": reference, "--baseline": baseline}
    if given := [option for option, value in of_table.items() if value is not None]:
        raise ConfigError(f"{given[0]} goes with a table of trained nets; {data} holds pictures")
    if resume is not None and (data is not None or space is not None):
        raise ConfigError("--resume takes all from the folder; leave out DATA and --space")
    latency_ms = None if max_latency is None else units.latency_ms("--max-latency", max_latency)
    size_bytes = None if max_size is None else units.size_bytes("--max-size", max_size)
    macs = None if max_macs is None else units.count("--max-macs", max_macs)
    time_s = None if time is None else units.time_s("--time", time)
    from foveate.runs.plan import Budget
    from foveate.workflows.search.run import resume_search, search

    budget = Budget(
        max_latency_ms=latency_ms,
        max_size_bytes=size_bytes,
        max_macs=macs,
        time_s=time_s,
        runtime=runtime.value,
    )
    with show.progress(quiet) as listener:
        if resume is not None:
            run = resume_search(resume, workers=workers, ray=ray, listener=listener)
        else:
            run = search(
                str(data),
                str(space),
                sampler=sampler,
                reward=reward.value,
                evaluate=evaluate,
                objectives=objectives.split(",") if objectives else ("accuracy",),
                budget=budget,
                trials=trials,
                epochs=epochs,
                pictures=pictures,
                resolution=resolution,
                recipe=recipe,
                workers=workers,
                storage=storage,
                ray=ray,
                name=name,
                runs=runs,
                seed=seed,
                threads=threads,
                device=device.value,
                bad_files=bad_files.value,
                listener=listener,
            )
    if as_json:
        print_json(run.summary)
        return
    print("\n".join(closing(run.summary, quiet)))


def is_table(path: str) -> bool:
    """Whether a path is a table of trained nets: JSON, or a CSV without the columns path and label of pictures."""
    file = Path(path)
    if file.suffix.lower() == ".json":
        return True
    if file.suffix.lower() != ".csv" or not file.is_file():
        return False
    with open(file, newline="", encoding="utf-8", errors="replace") as lines:
        header = next(csv.reader([lines.readline(100_000)]), [])
    return not {"path", "label"} <= {name.strip() for name in header}


def closing(s: Mapping[str, Any], quiet: bool) -> list[str]:
    """The table of the search, then the winner."""
    about = s["search"]
    lines = [] if quiet else (Path(about["folder"]) / "table.md").read_text("utf-8").splitlines()
    low, high = (100 * v for v in s["test_interval"])
    accuracy = f"{show.percent(s['test_accuracy'])} % ({low:.1f}-{high:.1f}, n = {s['test_n']})"
    costs = f"{show.milliseconds(s['latency_ms'])} median · {show.size(s['size_bytes'])}"
    lines += ["", f"test      {accuracy} · {costs} · {show.count(s['macs'])} multiply-adds"]
    lines.append(f"model     {s['run']}/best          report  {s['report']}")
    lines.append(f"search    {about['folder']}: report.html, table.md, winner.txt, study.db")
    return lines
