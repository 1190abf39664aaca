"""foveate compress: a trained model and a budget in, a smaller model out, with the steps that led there."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from foveate.cli import show, units
from foveate.cli.options import (
    Bad,
    BadFiles,
    Debug,
    Json,
    LatencyIn,
    MaxLatency,
    MaxSize,
    Name,
    Quiet,
    Runs,
    Runtime,
    Seed,
    Threads,
    model_folder,
    print_json,
)
from foveate.errors import ConfigError, FoveateError

EXAMPLE = "Example: foveate compress runs/photos-1/best photos --macs 0.5"
EXACT = 1e-12  # the largest difference that --check lets pass, in float64


def command(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="Model folder, or a run folder (then its best/).", show_default=False),
    ] = None,
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA", help="The data that it was trained on: folder, CSV, digits.", show_default=False
        ),
    ] = None,
    macs: Annotated[
        str | None,
        typer.Option("--macs", metavar="N", help="Multiply-adds: a share such as 0.5, or 20M.", show_default=False),
    ] = None,
    params: Annotated[
        str | None,
        typer.Option("--params", metavar="N", help="Parameters: a share such as 0.5, or 1M.", show_default=False),
    ] = None,
    max_latency: MaxLatency = None,
    runtime: LatencyIn = Runtime.onnxruntime,
    max_size: MaxSize = None,
    max_drop: Annotated[
        float | None,
        typer.Option("--max-drop", metavar="P", help="Points of accuracy that may go, e.g. 0.5.", show_default=False),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="auto, taylor, taylor2, redundancy, norm, bn_scale, random, lrpet, svd, int8; or a call of one.",
        ),
    ] = "auto",
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=1, max=4096, help="Of fine-tuning a step; by default 10.", show_default=False),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option("--time", metavar="TIME", help="Wall time for all, in place of --epochs.", show_default=False),
    ] = None,
    steps: Annotated[
        int, typer.Option("--steps", min=0, max=100, help="How many; 0: each costs about 0.7 of the one above.")
    ] = 0,
    multiple: Annotated[
        int | None,
        typer.Option(
            "--multiple",
            min=1,
            max=256,
            help="Widths become multiples of it; by default 8 or 16 for a latency, else 1.",
            show_default=False,
        ),
    ] = None,
    check: Annotated[
        str | None,
        typer.Option("--check", metavar="NAME", help="Prove removed == masked for this model.", show_default=False),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume", metavar="RUN", help="Go on with this run; all else comes from it.", show_default=False
        ),
    ] = None,
    name: Name = None,
    runs: Runs = "runs",
    seed: Seed = 0,
    threads: Threads = None,
    bad_files: Bad = BadFiles.stop,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """A trained model and a budget in, a smaller one out.

    Removes channels step by step, fine-tunes and measures each step, and takes the best that fits. --json prints one
    object a step, one a line.
    """
    if check is not None:
        prove(check, seed, as_json)
        return
    if resume is None and (model is None or data is None):
        missing = "MODEL" if model is None else "DATA"
        raise ConfigError(f"{missing} is missing; expected foveate compress MODEL DATA, --resume RUN or --check NAME")
    latency_ms = None if max_latency is None else units.latency_ms("--max-latency", max_latency)
    size_bytes = None if max_size is None else units.size_bytes("--max-size", max_size)
    time_s = None if time is None else units.time_s("--time", time)
    shares = {"--macs": macs, "--params": params}
    wanted = [None if text is None else amount(option, text) for option, text in shares.items()]
    from foveate.workflows.compress.run import compress

    with show.progress(quiet) as listener:
        run = compress(
            "" if model is None or resume is not None else model_folder(model),
            data or "",
            macs=wanted[0],
            params=wanted[1],
            max_latency_ms=latency_ms,
            max_size_bytes=size_bytes,
            max_drop=max_drop,
            method=method,
            epochs=epochs,
            time_s=time_s,
            steps=steps,
            multiple=multiple,
            name=name,
            runs=runs,
            resume=resume,
            seed=seed,
            threads=threads,
            bad_files=bad_files.value,
            runtime=runtime.value,
            listener=listener,
        )
    if as_json:
        from foveate.workflows.compress.step import line

        print("\n".join(line(row) for row in run.summary["ladder"]))
    else:
        print("\n".join(closing(run.summary, quiet)))


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
            low, high = (show.percent(v) for v in row["test_interval"])
            accuracy = f"{show.percent(row['val_accuracy']):>5}   {show.percent(row['test_accuracy'])} ({low}-{high})"
            cost = f"{show.count(row['macs']):>8}  {show.milliseconds(row['latency_ms']):>8}"
            cost += f"  {show.size(row['size_bytes']):>8}"
            mark = "   <- chosen" if row["chosen"] else ""
            lines.append(f"{row['step']:>4}  {row['method']:<{wide}}  {accuracy:<26} {cost}{mark}")
    accuracy = show.share(s["test_accuracy"], s["test_interval"], s["test_n"])
    before, after = rows[0], rows[s["chosen"]]
    ratio = (
        f"{after['macs'] / before['macs']:.2f} of the multiply-adds, {after['latency_ms'] / before['latency_ms']:.2f}"
    )
    lines.append(f"{s.get('test_split', 'test'):<9} {accuracy} · {ratio} of the latency")
    lines.append(f"model     {s['run'] + '/best':<30} report  {s['report']}")
    if after["method"] == "int8":
        lines.append(f"int8      {s['run']}/best/model_int8.*; the weights beside it are float32")
    return lines
