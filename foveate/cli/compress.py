"""foveate compress: a trained model and a budget in, a smaller model out, with the steps that led there."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from foveate.cli import show, units
from foveate.cli.options.budget import Budget, TimeOrNone, read
from foveate.cli.options.data import DataOrNone, ModelOrNone, model_folder
from foveate.cli.options.declare import command_of, option
from foveate.cli.options.output import Output, Quiet, print_json
from foveate.cli.options.run import Resume, RunOptions, Threads, refuse_beside_resume, require
from foveate.errors import FoveateError
from foveate.report.units import count, milliseconds, percent, plural, share, size

EXAMPLE = "Example: foveate compress runs/photos-1/best photos --macs 0.5"
EXACT = 1e-12  # the largest difference that --check lets pass, in float64


@command_of
def command(
    model: ModelOrNone = None,
    data: DataOrNone = None,
    *,
    macs: Annotated[
        str | None, option("--macs", metavar="N", help="Multiply-adds: a share such as 0.5, or 20M.")
    ] = None,
    params: Annotated[
        str | None, option("--params", metavar="N", help="Parameters: a share such as 0.5, or 1M.")
    ] = None,
    budget: Budget,
    max_drop: Annotated[
        float | None, option("--max-drop", metavar="P", help="Points of accuracy that it may lose at most, e.g. 0.5.")
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="auto, taylor, taylor2, redundancy, norm, bn_scale, random, lrpet, svd, int8; or a call of one.",
        ),
    ] = "auto",
    epochs: Annotated[
        int | None, option("--epochs", low=1, high=4096, help="Of fine-tuning a step; by default 10.")
    ] = None,
    time: TimeOrNone = None,
    steps: Annotated[
        int,
        typer.Option("--steps", min=0, max=100, help="Number of steps; 0: each keeps about 0.7 of the cost before it."),
    ] = 0,
    multiple: Annotated[
        int | None,
        option(
            "--multiple",
            low=1,
            high=256,
            help="Widths become multiples of it; by default of what the runtime takes at once, 8 or 16.",
        ),
    ] = None,
    allow_slower: Annotated[
        bool, typer.Option("--allow-slower", help="Take a step that costs less and runs longer than the original.")
    ] = False,
    check: Annotated[
        str | None,
        option("--check", metavar="NAME", help="Prove for this model: removing channels equals masking."),
    ] = None,
    resume: Resume = None,
    place: RunOptions,
    threads: Threads = None,
    quiet: Quiet = False,
    output: Output,
) -> None:
    """A trained model and a budget in, a smaller one out.

    Removes channels step by step, fine-tunes and measures each step, and takes the best that fits. --json prints one
    object a step, one a line.
    """
    if check is not None:
        prove(check, place.seed, output.as_json)
        return
    if resume is None:
        require({"MODEL": model, "DATA": data}, "foveate compress MODEL DATA, --resume RUN or --check NAME")
    else:
        refuse_beside_resume(resume, recorded(resume), ("threads",))
    limits = budget.limits()
    time_s = read(units.time_s, "--time", time)
    wanted_macs, wanted_params = read(amount, "--macs", macs), read(amount, "--params", params)
    from foveate.workflows.compress.run import compress
    from foveate.workflows.compress.step import line

    with show.progress(quiet) as listener:
        run = compress(
            "" if model is None or resume is not None else model_folder(model),
            data or "",
            macs=wanted_macs,
            params=wanted_params,
            max_drop=max_drop,
            method=method,
            epochs=epochs,
            time_s=time_s,
            steps=steps,
            multiple=multiple,
            allow_slower=allow_slower,
            resume=resume,
            threads=threads,
            listener=listener,
            **limits,
            **place.keywords(),
        )
    if run.before and not output.as_json:
        reached = f"{percent(run.summary['test_accuracy'])} % {run.summary.get('test_split', 'test')}"
        print(f"{run.folder} is finished ({plural(len(run.summary['ladder']) - 1, 'step')}, {reached}); nothing to do")
        return
    print("\n".join(map(line, run.summary["ladder"]) if output.as_json else closing(run.summary, quiet)))


def recorded(folder: str) -> dict[str, object]:
    """What a compression has, by those parameters of the command that it keeps as they are typed."""
    from pathlib import Path

    from foveate.runs.complete import read_plan
    from foveate.workflows.compress.goal import read_goal

    goal, plan = read_goal(Path(folder)), read_plan(Path(folder))
    kept = {key: getattr(goal, key) for key in ("method", "max_drop", "steps")}
    return {**kept, "model": goal.source, "data": plan.data, "seed": goal.split_seed, "epochs": plan.recipe.epochs}


def amount(option: str, text: str) -> float:
    """ "0.5", "50%" -> 0.5; "1" -> 1.0; "20M" -> 20,000,000."""
    if text.endswith("%"):
        return units.count(option, text[:-1]) / 100
    try:
        return float(text)
    except ValueError:
        return float(units.count(option, text))


def prove(name: str, seed: int, as_json: bool) -> None:
    """Removed against masked for a variant of the zoo; an error where they differ."""
    from foveate.compress.check import check
    from foveate.zoo import variant

    found = check(variant(name), seed)
    if as_json:
        print_json({"model": name, "max_difference": found, "seed": seed, "precision": "float64", "limit": EXACT})
    else:
        print(f"{name}   removed - masked: at most {found:.2g} of a logit (float64, half of all channels, seed {seed})")
    if not found <= EXACT:
        raise FoveateError(f"{name}: removed and masked differ by {found:.2g}, over {EXACT:g}; please report it")


def closing(s: Mapping[str, Any], quiet: bool = False) -> list[str]:
    """The lines at the end: the steps, then the chosen one; quiet keeps the last two."""
    rows: Sequence[Mapping[str, Any]] = s["ladder"]
    lines = []
    if not quiet:
        wide = max(len(row["method"]) for row in rows)
        lines.append(f"step  {'method':<{wide}}    val   test              multiply-adds   latency      size")
        for row in rows:
            low, high = (percent(v) for v in row["test_interval"])
            accuracy = f"{percent(row['val_accuracy']):>5}   {percent(row['test_accuracy'])} ({low}-{high})"
            cost = f"{count(row['macs']):>8}  {milliseconds(row['latency_ms']):>8}"
            cost += f"  {size(row['size_bytes']):>8}"
            mark = "   <- chosen" if row["chosen"] else "   slower" if row["slower"] else ""
            lines.append(f"{row['step']:>4}  {row['method']:<{wide}}  {accuracy:<26} {cost}{mark}")
    accuracy = share(s["test_accuracy"], s["test_interval"], s["test_n"])
    before, after = rows[0], rows[s["chosen"]]
    ratio = (
        f"{after['macs'] / before['macs']:.2f} of the multiply-adds, {after['latency_ms'] / before['latency_ms']:.2f}"
    )
    lines.append(f"{s.get('test_split', 'test'):<9} {accuracy} · {ratio} of the latency")
    lines.append(f"model     {s['run'] + '/best':<30} report  {s['report']}")
    if after["method"] == "int8":
        lines.append(f"int8      {s['run']}/best/model_int8.*; the weights beside it are float32")
    return lines
