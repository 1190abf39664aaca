"""foveate fit: a folder of pictures and a budget in, a measured classifier out."""

import enum
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from foveate.cli import show, units
from foveate.cli.options.budget import Budget, MaxMacs, MaxMemory, Time, read
from foveate.cli.options.data import DataOrNone
from foveate.cli.options.declare import command_of, option
from foveate.cli.options.output import Output, Quiet
from foveate.cli.options.run import Device, Licence, Processor, Resume, RunOptions, Threads, Weights, require, spoken
from foveate.report.units import count, duration, milliseconds, percent, plural, share, size

EXAMPLE = "Example: foveate fit photos --max-latency 5ms --time 10m"
TYPED = {  # parameters of the command by other names than those of fit
    "time": "time_s",
    "max_memory": "max_memory_bytes",
    "max_latency": "max_latency_ms",
    "max_size": "max_size_bytes",
}
RACE_ROWS = 4  # rows of the race in the closing text; the report has all


class Balance(enum.StrEnum):
    """What is done about classes of unequal size."""

    auto = "auto"
    none = "none"
    weights = "weights"
    draws = "draws"


@command_of
def command(
    data: DataOrNone = None,
    *,
    budget: Budget,
    max_macs: MaxMacs = None,
    max_memory: MaxMemory = None,
    time: Time = "10m",
    search: Annotated[
        str | None,
        option(
            "--search",
            metavar="SPACE",
            help="Also race networks that are searched in this space; auto: by the pictures.",
        ),
    ] = None,
    compress: Annotated[
        bool, typer.Option("--compress", help="Also make it smaller, at a loss of half a point of accuracy at most.")
    ] = False,
    weights: Weights = "auto",
    licence: Annotated[
        Licence, typer.Option("--licence", metavar="WHICH", help="Of published weights: commercial, or any.")
    ] = Licence.commercial,
    models: Annotated[
        str | None, option("--models", metavar="PATTERN", help='Only these models, e.g. "resnet*".')
    ] = None,
    balance: Annotated[
        Balance,
        typer.Option("--balance", metavar="HOW", help="Classes of unequal size: auto, none, weights or draws."),
    ] = Balance.auto,
    metric: Annotated[
        str, typer.Option("--metric", metavar="NAME", help="What is best: accuracy, balanced, f1 or recall@CLASS.")
    ] = "accuracy",
    resume: Resume = None,
    place: RunOptions,
    threads: Threads = None,
    device: Device = Processor.auto,
    quiet: Quiet = False,
    output: Output,
) -> None:
    """Pictures and a budget in, a measured classifier out.

    Checks the pictures, races the models that fit the budget, trains the winner, exports and measures it. --resume RUN
    goes on from the stage where it stopped.
    """
    if resume is None:
        require({"DATA": data}, "foveate fit DATA, or --resume RUN")
    limits = budget.limits()
    macs = read(units.count, "--max-macs", max_macs)
    memory_bytes = read(units.size_bytes, "--max-memory", max_memory)
    time_s = units.time_s("--time", time)
    from foveate.workflows.fit import fit, resume_fit

    settings: dict[str, Any] = {
        "max_macs": macs,
        "max_memory_bytes": memory_bytes,
        "time_s": time_s,
        "weights": weights,
        "licence": licence.value,
        "models": models,
        "threads": threads,
        "device": device.value,
        "search": search,
        "compress": compress,
        "balance": balance.value,
        "metric": metric,
        **limits,
        **place.keywords(),
    }
    with show.progress(quiet) as listener:
        if resume is None:
            run = fit(data or "", **settings, listener=listener)
        else:
            said = {TYPED.get(name, name) for name in spoken()}
            run = resume_fit(resume, {"data": data, **{k: v for k, v in settings.items() if k in said}}, listener)
    output.answer(run.summary, lambda: finished_line(run.summary) if run.before else closing(run.summary, quiet))


def finished_line(s: Mapping[str, Any]) -> list[str]:
    """What is said of a run that was finished before."""
    reached = f"{percent(s['test_accuracy'])} % {s.get('test_split', 'test')}"
    return [f"{s['run']} is finished ({plural(s['epochs'], 'epoch')}, {reached}); nothing to do"]


def closing(s: Mapping[str, Any], quiet: bool = False) -> list[str]:
    """The lines at the end of fit; quiet keeps the last three."""
    lines = []
    if not quiet:
        from foveate.report.progress import data_line

        data = s["data"]
        lines.append(f"{data['name']:<9} {data_line(data)}{' (report)' if data.get('left_out') else ''}")
        lines += [f"budget    {s['budget']['text']}", *race_table(s), *way_lines(s.get("ways", []))]
    accuracy = share(s["test_accuracy"], s["test_interval"], s["test_n"])
    cost = f"{milliseconds(s['latency_ms'])} median · {size(s['size_bytes'])} · {count(s['macs'])}"
    if s.get("metric", "accuracy") != "accuracy":
        lines.append(f"metric    {s['metric']} {percent(s['test_score'])} %")
    if not quiet:
        lines += baseline_lines(s.get("baselines", []))
    lines.append(f"{s.get('test_split', 'test'):<9} {accuracy} · {cost} multiply-adds")
    model = f"{s['run']}/best"
    lines.append(f"model     {model:<30} report  {s['report']}")
    return lines + next_lines(s.get("next_steps", []), quiet)


def way_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the zoo and a search beside it each brought to the race, and took."""
    lines = []
    for row in rows:
        best = (
            f"best {percent(row['val_accuracy'])} % val" if row["val_accuracy"] is not None else "none entered the race"
        )
        lines.append(f"{row['way']:<9} {plural(row['nets'], 'net')} · {best} · {duration(row['seconds'])}")
    return lines


def baseline_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What simpler ways reach on the test pictures, a line each; the winner has its own."""
    from foveate.report.page import visible

    head = "against"
    lines = []
    for row in rows[:-1]:
        spent = f" · {duration(row['seconds'])}" if row["seconds"] else ""
        lines.append(f"{head:<9} {percent(row['test_accuracy'])} % {visible(row['name'])}{spent}")
        head = ""
    return lines


def next_lines(steps: Sequence[Mapping[str, Any]], quiet: bool = False) -> list[str]:
    """The next steps with their reasons; quiet keeps the first."""
    from foveate.report.page import visible

    shown = list(steps)[: 1 if quiet else len(steps)]
    what = ["next" if i == 0 else "" for i in range(len(shown))]
    return [
        f"{name:<9} {visible(step['do'])}{'' if step['why'] == 'ask it' else '  (' + visible(step['why']) + ')'}"
        for name, step in zip(what, shown, strict=True)
    ]


def race_table(s: Mapping[str, Any]) -> list[str]:
    """The model that was trained on, then the best of the others, with what each costs."""
    race = sorted(s["race"], key=lambda r: (not r["chosen"], -r["val_accuracy"]))
    if not race:
        return []
    shown = [(f"{r['model']} ({r['resolution']} px)", r) for r in race[:RACE_ROWS]]
    wide = max(len(name) for name, _ in shown)
    head = f"raced     {plural(len(race), 'candidate')} · {duration(s['race_seconds'])}"
    lines = [f"{head:<41}{'model':<{wide}}   {'val':>5}   {'latency':>8}   {'size':>8}"]
    for name, r in shown:
        cost = f"{milliseconds(r['latency_ms']):>8}   {size(r['size_bytes']):>8}"
        row = f"{name:<{wide}}   {percent(r['val_accuracy']):>5}   {cost}"
        lines.append(f"{'':<41}{row}{'   <- trained on' if r['chosen'] else ''}")
    return lines
