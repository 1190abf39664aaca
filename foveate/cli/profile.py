"""foveate profile: what a model costs, counted from the real module; --measure times it in the runtimes here."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foveate.cli import units
from foveate.cli.options.budget import read
from foveate.cli.options.data import FollowLinks, MaxDrop
from foveate.cli.options.declare import command_of, option
from foveate.cli.options.output import Output, warn
from foveate.cli.options.run import Processor, Threads
from foveate.errors import ConfigError
from foveate.report.units import percent

if TYPE_CHECKING:
    from foveate.cli.profile_value import Profile

EXAMPLE = "Example: foveate profile resnet18 --measure --threads 2"
PICTURES = ("png", "svg", "pdf")


@command_of
def command(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME|MODEL|HUB",
            help="A name (see foveate models), a model folder or hf-hub:ORG/NAME.",
            show_default=False,
        ),
    ] = None,
    *,
    resolution: Annotated[
        int | None, option("--resolution", low=1, high=4096, help="Pixels, square; else its own.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, max=1_000_000, help="Pictures that are counted.")] = 1,
    memory: Annotated[
        str | None, option("--memory", metavar="SIZE", help="The largest training batch for so much (8GB).")
    ] = None,
    tree: Annotated[bool, typer.Option("--tree", help="Every module, folded by what is alike.")] = False,
    csv: Annotated[str | None, option("--csv", metavar="FILE", help="Write the layers as CSV.")] = None,
    plot: Annotated[
        str | None, option("--plot", metavar="FILE", help="Draw the parts as bars: .png, .svg or .pdf.")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time it in every runtime that is ready in seconds.")
    ] = False,
    runtime: Annotated[
        str | None, option("--runtime", metavar="all|NAME,...", help="Time these: openvino, onnxruntime:int8.")
    ] = None,
    data: Annotated[
        str | None, option("--data", metavar="DATA", help="Compare the accuracy of the precisions on these pictures.")
    ] = None,
    follow_links: FollowLinks = False,
    max_drop: MaxDrop = 1.0,
    device: Annotated[Processor, typer.Option("--device", help="Where PyTorch is timed.")] = Processor.cpu,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure this device's table of operators first; minutes.")
    ] = False,
    table_file: Annotated[
        str | None, option("--table", metavar="FILE", help="That table; else the one in the cache.")
    ] = None,
    threads: Threads = None,
    output: Output,
) -> None:
    """Count what a model costs.

    Parameters, multiply-adds, memory and size, by part; --measure adds the latency on this machine, and in which
    runtime and precision it is best.
    """
    measure = measure or runtime is not None
    if data is not None and not measure:
        raise ConfigError("--data: only with --measure; add it")
    if model is None and not calibrate:
        raise ConfigError("NAME is missing; expected foveate profile NAME, or foveate profile --calibrate")
    memory_bytes = read(units.size_bytes, "--memory", memory)
    if plot is not None and suffix_of(plot) not in PICTURES:
        raise ConfigError(f'--plot "{plot}": expected a file that ends in .{", .".join(PICTURES)}')

    from foveate.cli.calibrate import calibrated, table_for

    if calibrate:
        made, place = calibrated(table_file, threads)
        if model is None:
            said = f"{place}: {len(made.rows):,} operators, error {percent(made.error)} % on networks left out"
            output.answer({"table": str(place), "operators": len(made.rows), "error": made.error}, lambda: [said])
    if model is None:
        return
    from foveate.cli.profile_text import lines
    from foveate.cli.profile_value import Measured, count_costs, open_model
    from foveate.cli.runtimes import measured
    from foveate.config import replace as changed

    opened = open_model(model, measure)
    if resolution is not None:
        preprocess = changed(opened.preprocess, resolution=resolution, resize=round(resolution * 8 / 7))
        opened = replace(opened, preprocess=preprocess)
    if measure and opened.network is not None:
        from foveate.deploy.effort import check_effort

        named = resolution is not None
        check_effort(opened.network, opened.config, opened.preprocess, model, named=named, tell=warn)
    profile = count_costs(model, opened, batch, table=table_for(table_file, threads), memory_bytes=memory_bytes)
    if measure:
        import torch

        from foveate.runs.devices import check_device
        from foveate.zoo import build

        compared, latency, size_bytes = measured(
            opened.network or build(opened.config).eval(),
            opened.preprocess,
            opened.classes,
            runtime=runtime,
            data=data,
            follow_links=follow_links,
            batch=batch,
            threads=threads or torch.get_num_threads(),
            max_drop=max_drop / 100,
            device=check_device(device.value),
        )
        times = Measured(latency, compared, whole=runtime is not None)
        profile = replace(profile, size_bytes=size_bytes, measured=times)
    write_files(profile, csv, plot)
    output.answer(profile.as_dict(), lambda: lines(profile, tree))


def suffix_of(file: str) -> str:
    """ "bars.PNG" -> "png"."""
    return Path(file).suffix.removeprefix(".").lower()


def write_files(profile: "Profile", csv: str | None, plot: str | None) -> None:
    """The layers as CSV and the parts as bars, where they are wanted."""
    from foveate.cli.profile_value import bar_parts
    from foveate.cost.plot import bars
    from foveate.cost.table import csv_text
    from foveate.files import write_bytes, write_text

    if csv is not None:
        write_text(csv, csv_text(profile.layers))
    if plot is not None:
        counted = profile.counted
        title = f"{profile.model} at {counted.resolution} pixels, batch {counted.batch}"
        write_bytes(plot, bars(title, bar_parts(counted.layers, profile.kept), suffix_of(plot)))
