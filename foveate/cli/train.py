"""foveate train: one named model with one named recipe."""

from pathlib import Path
from typing import Annotated

import typer

from foveate.cli import show
from foveate.cli.options import (
    Bad,
    BadFiles,
    Debug,
    Device,
    Json,
    Name,
    Quiet,
    Runs,
    Seed,
    TrainDevice,
    Weights,
    print_json,
)
from foveate.errors import ConfigError

EXAMPLE = "Example: foveate train photos --model resnet18 --recipe baseline optim.lr=0.05 --epochs 20"


def command(
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA", help="Folder of class folders, a CSV path,label, or digits.", show_default=False
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Changes: optim.lr=0.05, model.layers.act=silu, preprocess.resolution=128.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME|MODEL",
            help="A name, or whose architecture: a folder or a .json.",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe", metavar="NAME", help="Named recipe; by default what suits the pictures.", show_default=False
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Short for epochs=N.", show_default=False)
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            "--batch", metavar="N|auto", help="Short for batch=N; auto: what the memory holds.", show_default=False
        ),
    ] = None,
    weights: Weights = None,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume", metavar="RUN", help="Go on with this run folder; all else comes from it.", show_default=False
        ),
    ] = None,
    name: Name = None,
    runs: Runs = "runs",
    seed: Seed = 0,
    device: TrainDevice = Device.cpu,
    bad_files: Bad = BadFiles.stop,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train one named model, or go on with a run.

    Writes a run folder; --resume RUN goes on where it stopped.
    """
    assignments = list(changes or [])
    if data is not None and "=" in data and not Path(data).exists():  # no DATA: the first word is a change
        assignments.insert(0, data)
        data = None
    for text in assignments:
        if "=" not in text[1:]:
            raise ConfigError(f'"{text}": expected key=value, such as optim.lr=0.05')
    if epochs is not None:
        assignments.append(f"epochs={epochs}")
    if batch is not None:
        assignments.append(f"batch={batch}")
    if resume is None and (data is None or model is None):
        missing = "DATA" if data is None else "--model NAME"
        raise ConfigError(f"{missing} is missing; expected foveate train DATA --model NAME, or --resume RUN")
    from foveate.runs.complete import train

    with show.progress(quiet) as listener:
        run = train(
            data or "",
            model or "",
            recipe=recipe,
            overrides=assignments,
            weights=weights,
            name=name,
            runs=runs,
            resume=resume,
            seed=seed,
            device=device.value,
            bad_files=bad_files.value,
            listener=listener,
        )
    if not run.summary:  # one of several processes: the first one speaks
        return
    if as_json:
        print_json(run.summary)
        return
    s = run.summary
    accuracy = show.share(s["test_accuracy"], s["test_interval"], s["test_n"])
    print(f"{s.get('test_split', 'test'):<9} {accuracy} · {show.milliseconds(s['latency_ms'])} median")
    print(f"model     {run.folder / 'best'}")
