"""foveate ablate: what every factor is worth on these pictures, with intervals."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from foveate.cli import show
from foveate.cli.options.data import Training
from foveate.cli.options.declare import command_of, option
from foveate.cli.options.output import Output, Quiet, print_json
from foveate.cli.options.run import (
    Device,
    Epochs,
    Processor,
    Resume,
    RunOptions,
    Weights,
    refuse_beside_resume,
    require,
)
from foveate.errors import ConfigError
from foveate.report.units import duration

EXAMPLE = "Example: foveate ablate photos --model resnet18 --factors smoothing,mixup,layers.act=silu --epochs 20"


@command_of
def command(
    what: Training,
    *,
    base: Annotated[
        str | None, option("--base", metavar="RECIPE", help="Named recipe; by default what suits the pictures.")
    ] = None,
    factors: Annotated[
        str | None,
        option(
            "--factors", metavar="A,B,...", help="Names, KEY=VALUE, layers.norm=iter_norm, A+B; list: show the names."
        ),
    ] = None,
    cumulative: Annotated[bool, typer.Option("--cumulative", help="One factor more in every row.")] = False,
    one_out: Annotated[bool, typer.Option("--one-out", help="All factors but one in every row.")] = False,
    factorial: Annotated[bool, typer.Option("--factorial", help="Every choice of factors.")] = False,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=1000, help="Trials of every row.")] = 5,
    epochs: Epochs = None,
    unequal: Annotated[bool, typer.Option("--unequal", help="Rows may differ in epochs.")] = False,
    workers: Annotated[
        int | None, option("--workers", low=1, high=1024, help="Processes; by default one, on CUDA one a device.")
    ] = None,
    weights: Weights = "none",
    resume: Resume = None,
    retry: Annotated[bool, typer.Option("--retry", help="With --resume: failed trials run again.")] = False,
    place: RunOptions,
    device: Device = Processor.auto,
    quiet: Quiet = False,
    output: Output,
) -> None:
    """What each factor is worth: paired seeds, intervals, tests.

    By default each factor alone over the base. Writes a folder; --resume RUN goes on where it stopped, or helps a
    process that is at work there.
    """
    if factors == "list":
        print_factors(output.as_json)
        return
    data, changes = what.read(epochs)
    kind = one_kind(cumulative, one_out, factorial)
    given = {"DATA": data, "--model NAME": what.model, "--factors A,B": factors}
    if resume is not None:
        refuse_beside_resume(resume, recorded(resume, what.changes), ("workers", "retry", "unequal"))
    else:
        require(given, "foveate ablate DATA --model NAME --factors A,B")
        if retry:
            raise ConfigError("--retry goes with --resume RUN")
    from foveate.workflows.ablate.report import timing
    from foveate.workflows.ablate.run import ablate, load_ablation, resume_ablation

    with show.progress(quiet) as listener:
        if resume is not None:
            run = resume_ablation(resume, workers=workers, retry=retry, listener=listener)
        else:
            run = ablate(
                data or "",
                what.model or "",
                factors or "",
                base=base,
                overrides=changes,
                kind=kind,
                seeds=seeds,
                weights=None if weights == "none" else weights,
                workers=workers,
                device=device.value,
                unequal=unequal,
                listener=listener,
                **place.keywords(),
            )
    if os.environ.get("RANK", "0") == "0":  # under torchrun one process speaks for all
        times = timing(run.folder, load_ablation(run.folder))
        output.answer({**run.summary, "timing": times}, lambda: closing(run.folder, times, quiet))


def recorded(folder: str, changes: list[str] | None) -> dict[str, object]:
    """What an ablation has, by the parameters of the command."""
    from foveate.workflows.ablate.run import load_ablation

    found = load_ablation(Path(folder))
    plan = found.rows[0].plan
    kinds = {"one_out": "one-out", "cumulative": "cumulative", "factorial": "factorial"}
    return {
        **{option: found.kind == kind for option, kind in kinds.items()},
        "data": found.data,
        "model": plan.model,
        "base": found.base,
        "factors": ",".join(found.factors),
        "changes": changes if set(changes or []) <= set(found.changes) else list(found.changes),
        "epochs": plan.recipe.epochs,
        "seeds": len(found.seeds),
        "seed": found.seeds[0],
        "weights": plan.weights,
        "device": plan.device,
        "bad_files": plan.bad_files,
    }


def one_kind(
    cumulative: bool, one_out: bool, factorial: bool
) -> Literal["one-in", "one-out", "cumulative", "factorial"]:
    """The design that the switches ask for."""
    if cumulative + one_out + factorial > 1:
        raise ConfigError("--cumulative, --one-out and --factorial are three designs; take one of them")
    return "cumulative" if cumulative else "one-out" if one_out else "factorial" if factorial else "one-in"


def closing(folder: Path, times: list[dict[str, Any]], quiet: bool) -> list[str]:
    """The table, what a trial took, and where all is."""
    lines = (folder / "table.md").read_text("utf-8").splitlines()
    if times and not quiet:
        spent = ", ".join(f"{t['row']} {duration(t['median_s'])}" for t in times)
        lines += ["", f"time of a trial (median): {spent}"]
    return [*lines, "", f"folder    {folder}"]


def print_factors(as_json: bool) -> None:
    """The table of named factors."""
    from foveate.workflows.ablate.factors import table

    rows = table()
    if as_json:
        keys = ("name", "changes", "what", "source")
        print_json([dict(zip(keys, row, strict=True)) for row in rows])
        return
    wide = max(len(name) for name, *_ in rows)
    for name, changes, what, source in rows:
        print(f"{name:<{wide}}  {what}: {changes}  ({source})")
    print("\nAny KEY=VALUE is a factor too: optim.lr=0.05, layers.norm=iter_norm, model.stem=deep, model=resnet18d.")
