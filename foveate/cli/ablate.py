"""foveate ablate: what every factor is worth on these pictures, with intervals."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from foveate.cli import show
from foveate.cli.options import Bad, BadFiles, Debug, Device, Json, Name, Quiet, Runs, Seed, Weights, print_json
from foveate.errors import ConfigError

EXAMPLE = "Example: foveate ablate photos --model resnet18 --factors cosine,mixup,layers.act=silu --epochs 20"


def command(
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA", help="Folder of class folders, a CSV path,label, or digits.", show_default=False
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Changes of the base, in every row.", show_default=False),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="See foveate models.", show_default=False)
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base", metavar="RECIPE", help="Named recipe; by default what suits the pictures.", show_default=False
        ),
    ] = None,
    factors: Annotated[
        str | None,
        typer.Option(
            "--factors",
            metavar="A,B,...",
            help="Names, KEY=VALUE, layers.norm=iter_norm, A+B; list: show the names.",
            show_default=False,
        ),
    ] = None,
    cumulative: Annotated[bool, typer.Option("--cumulative", help="One factor more in every row.")] = False,
    one_out: Annotated[bool, typer.Option("--one-out", help="All factors but one in every row.")] = False,
    factorial: Annotated[bool, typer.Option("--factorial", help="Every choice of factors.")] = False,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=1000, help="Trials of every row.")] = 5,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Short for epochs=N.", show_default=False)
    ] = None,
    unequal: Annotated[bool, typer.Option("--unequal", help="Rows may differ in epochs.")] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", min=1, max=1024, help="Processes; by default one, on CUDA one a device.", show_default=False
        ),
    ] = None,
    weights: Weights = None,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume", metavar="FOLDER", help="Go on with this ablation, or help with it.", show_default=False
        ),
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="With --resume: failed trials run again.")] = False,
    name: Name = None,
    runs: Runs = "runs",
    seed: Seed = 0,
    device: Annotated[Device, typer.Option("--device", help="Where to train.")] = Device.cpu,
    bad_files: Bad = BadFiles.stop,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """What each factor is worth: paired seeds, intervals, tests.

    By default each factor alone over the base. Writes a folder; --resume FOLDER goes on where it stopped.
    """
    if factors == "list":
        print_factors(as_json)
        return
    assignments = list(changes or [])
    if data is not None and "=" in data and not Path(data).exists():  # no DATA: the first word is a change
        assignments.insert(0, data)
        data = None
    for text in assignments:
        if "=" not in text[1:]:
            raise ConfigError(f'"{text}": expected key=value, such as optim.lr=0.05')
    if epochs is not None:
        assignments.append(f"epochs={epochs}")
    kind = one_kind(cumulative, one_out, factorial)
    if resume is not None:
        given = {"DATA": data, "KEY=VALUE": assignments, "--model": model, "--factors": factors, "--base": base}
        if too_much := [what for what, value in given.items() if value]:
            raise ConfigError(f"--resume takes all from the folder; leave out {', '.join(too_much)}")
    elif missing := [w for w, v in (("DATA", data), ("--model NAME", model), ("--factors A,B", factors)) if not v]:
        raise ConfigError(f"{missing[0]} is missing; expected foveate ablate DATA --model NAME --factors A,B")
    elif retry:
        raise ConfigError("--retry goes with --resume FOLDER")
    from foveate.workflows.ablate.report import timing
    from foveate.workflows.ablate.run import ablate, load_ablation, resume_ablation

    with show.progress(quiet) as listener:
        if resume is not None:
            run = resume_ablation(resume, workers=workers, retry=retry, listener=listener)
        else:
            run = ablate(
                data or "",
                model or "",
                factors or "",
                base=base,
                overrides=assignments,
                kind=kind,
                seeds=seeds,
                seed=seed,
                weights=weights,
                workers=workers,
                device=device.value,
                bad_files=bad_files.value,
                unequal=unequal,
                name=name,
                runs=runs,
                listener=listener,
            )
    if os.environ.get("RANK", "0") != "0":  # under torchrun one process speaks for all
        return
    times = timing(run.folder, load_ablation(run.folder))
    if as_json:
        print_json({**run.summary, "timing": times})
        return
    print("\n".join(closing(run.folder, times, quiet)))


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
        spent = ", ".join(f"{t['row']} {show.duration(t['median_s'])}" for t in times)
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
