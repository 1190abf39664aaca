"""foveate reproduce: a table of a paper at the size of this machine, with intervals and a verdict."""

from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.cli import show, units
from foveate.cli.options.declare import command_of, option
from foveate.cli.options.output import Output, Quiet, print_json
from foveate.cli.options.run import Device, Processor, Resume, RunOptions, refuse_beside_resume
from foveate.errors import ConfigError

EXAMPLE = "Example: foveate reproduce elu --budget 2m"
DIGITS = "digits"


@command_of
def command(
    table: Annotated[str | None, typer.Argument(metavar="TABLE", help="A name of --list.", show_default=False)] = None,
    *,
    listed: Annotated[bool, typer.Option("--list", help="Show the tables and what they claim.")] = False,
    data: Annotated[
        str, typer.Option("--data", metavar="DIR", help="Pictures: digits, or a folder such as CIFAR-10's.")
    ] = DIGITS,
    budget: Annotated[
        str, typer.Option("--budget", metavar="TIME", help="Wall time such as 2m or 30m; full: where it settles.")
    ] = "2m",
    seeds: Annotated[
        int | None, option("--seeds", low=1, high=1000, help="Trainings of every arm; by default as the table says.")
    ] = None,
    pictures: Annotated[
        int | None, option("--pictures", low=1, high=10**8, help="Training pictures, in place of the budget's choice.")
    ] = None,
    epochs: Annotated[
        int | None, option("--epochs", low=1, high=4096, help="Epochs, in place of the budget's choice.")
    ] = None,
    workers: Annotated[
        int | None, option("--workers", low=1, high=1024, help="Processes; by default one, on CUDA one a device.")
    ] = None,
    resume: Resume = None,
    retry: Annotated[bool, typer.Option("--retry", help="With --resume: failed trainings run again.")] = False,
    place: RunOptions,
    device: Device = Processor.auto,
    quiet: Quiet = False,
    output: Output,
) -> None:
    """A table of a paper at the size of this machine.

    Prints what so many seeds can tell, runs the comparison with paired seeds, and says whether the claim holds, with
    intervals. --resume RUN goes on where it stopped, or helps a process that is at work there.
    """
    if listed:
        print_tables(output.as_json)
        return
    budget_s = None if budget == "full" else units.time_s("--budget", budget)
    if resume is not None:
        refuse_beside_resume(resume, recorded(resume), ("workers", "retry"))
    elif table is None:
        raise ConfigError("TABLE is missing; expected foveate reproduce TABLE; see the names: foveate reproduce --list")
    elif retry:
        raise ConfigError("--retry goes with --resume RUN")
    from foveate.workflows.papers.run import reproduce, resume_reproduction

    with show.progress(quiet) as listener:
        if resume is not None:
            run = resume_reproduction(resume, workers=workers, retry=retry, listener=listener)
        else:
            run = reproduce(
                table or "",
                data,
                budget_s=budget_s,
                seeds=seeds,
                pictures=pictures,
                epochs=epochs,
                workers=workers,
                device=device.value,
                listener=listener,
                **place.keywords(),
            )
    output.answer(run.summary, lambda: lines(run.folder))


def recorded(folder: str) -> dict[str, object]:
    """What a run has, by the parameters of the command."""
    from foveate.workflows.papers.run import load_plan

    plan = load_plan(Path(folder))
    return {
        "table": plan.table,
        "data": plan.data,
        "seeds": plan.scale.seeds,
        "seed": plan.first_seed,
        "pictures": plan.scale.pictures,
        "epochs": plan.scale.epochs,
        "device": plan.device,
    }


def lines(folder: Path) -> list[str]:
    """The table, and where all is."""
    return [*(folder / "table.md").read_text("utf-8").splitlines(), "", f"folder    {folder}"]


def print_tables(as_json: bool) -> None:
    """The tables: names and claims, or all that is listed as one JSON array."""
    from foveate.workflows.papers.tables import TABLES

    listed: list[dict[str, Any]] = [table.listed() for table in TABLES.values()]
    if as_json:
        print_json(listed)
        return
    wide = max(len(one["name"]) for one in listed)
    for one in listed:
        print(f"{one['name']:<{wide}}  {one['claim']}  ({one['paper']}; page {one['seed_page']})")
    print(f"\n{len(listed)} tables. Run one: foveate reproduce NAME [--data CIFAR10] [--budget 30m]")
