"""foveate train: one named model with one named recipe."""

from typing import Annotated

from foveate.cli import show
from foveate.cli.fit import next_lines
from foveate.cli.options.data import Training, model_folder
from foveate.cli.options.declare import command_of, option
from foveate.cli.options.output import Output, Quiet
from foveate.cli.options.run import Device, Epochs, Processor, Recipe, Resume, RunOptions, Weights, require, spoken
from foveate.report.units import milliseconds, percent, plural, share

EXAMPLE = "Example: foveate train photos --model resnet18 --recipe baseline optim.lr=0.02 --epochs 20"


@command_of
def command(
    what: Training,
    *,
    recipe: Recipe = None,
    epochs: Epochs = None,
    batch: Annotated[
        str | None, option("--batch", metavar="N|auto", help="Short for batch=N; auto: what the memory holds.")
    ] = None,
    teacher: Annotated[
        str | None, option("--teacher", metavar="MODEL", help="Whose answers are learnt too: a run, also a fusion.")
    ] = None,
    weights: Weights = "auto",
    resume: Resume = None,
    place: RunOptions,
    device: Device = Processor.auto,
    quiet: Quiet = False,
    output: Output,
) -> None:
    """Train one named model, or go on with a run.

    Writes a run folder; --resume RUN goes on where it stopped.
    """
    data, changes = what.read(epochs, batch)
    if teacher is not None:
        changes.append(f"loss.teacher={model_folder(teacher)}")
    if resume is None:
        require({"DATA": data, "--model NAME": what.model}, "foveate train DATA --model NAME, or --resume RUN")
    from foveate.runs.complete import train

    with show.progress(quiet) as listener:
        run = train(
            data or "",
            what.model or "",
            recipe=recipe,
            overrides=changes,
            weights=weights if "weights" in spoken() else None,
            resume=resume,
            device=device.value if "device" in spoken() else None,
            listener=listener,
            **place.spoken(),
        )
    s = run.summary
    if not s:  # one of several processes: the first one speaks
        return

    def lines() -> list[str]:
        if run.before:
            epochs = plural(s["epochs"], "epoch") if "epochs" in s else "all epochs"
            reached = f"{percent(s['test_accuracy'])} % {s.get('test_split', 'test')}"
            return [f"{run.folder} is finished ({epochs}, {reached}); nothing to do"]
        accuracy = share(s["test_accuracy"], s["test_interval"], s["test_n"])
        return [
            f"{s.get('test_split', 'test'):<9} {accuracy} · {milliseconds(s['latency_ms'])} median",
            f"model     {run.folder / 'best'}",
            *(next_lines(s["next_steps"], quiet) if s["warnings"] else []),
        ]

    output.answer(s, lines)
