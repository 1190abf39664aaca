"""foveate fit: a folder of pictures and a budget in, a measured classifier out."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from foveate.cli import show, units
from foveate.cli.options import (
    Bad,
    BadFiles,
    Data,
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
    Weights,
    print_json,
)

EXAMPLE = "Example: foveate fit photos --max-latency 5ms --time 10m"
RACE_ROWS = 4  # rows of the race in the closing text; the report has all


def command(
    data: Data,
    max_latency: MaxLatency = None,
    runtime: LatencyIn = Runtime.onnxruntime,
    max_size: MaxSize = None,
    max_macs: MaxMacs = None,
    max_memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Weights and maps of one picture in float32, e.g. 20MB.", show_default=False),
    ] = None,
    time: Annotated[str, typer.Option(metavar="TIME", help="Wall time for all of it, e.g. 90s, 10m, 1h30m.")] = "10m",
    search: Annotated[
        str | None,
        typer.Option("--search", metavar="SPACE", help="Also race nets that are searched there.", show_default=False),
    ] = None,
    compress: Annotated[
        bool, typer.Option("--compress", help="Also make it smaller, at half a point at most.")
    ] = False,
    weights: Weights = None,
    models: Annotated[
        str | None, typer.Option(metavar="PATTERN", help='Only these models, e.g. "resnet*".', show_default=False)
    ] = None,
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
    """Pictures and a budget in, a measured classifier out.

    Checks the pictures, races the models that fit the budget, trains the winner, exports and measures it.
    """
    latency_ms = None if max_latency is None else units.latency_ms("--max-latency", max_latency)
    size_bytes = None if max_size is None else units.size_bytes("--max-size", max_size)
    macs = None if max_macs is None else units.count("--max-macs", max_macs)
    memory_bytes = None if max_memory is None else units.size_bytes("--max-memory", max_memory)
    time_s = units.time_s("--time", time)
    from foveate.workflows.fit import fit

    with show.progress(quiet) as listener:
        run = fit(
            data,
            max_latency_ms=latency_ms,
            max_size_bytes=size_bytes,
            max_macs=macs,
            max_memory_bytes=memory_bytes,
            time_s=time_s,
            weights=weights,
            models=models,
            name=name,
            runs=runs,
            seed=seed,
            threads=threads,
            device=device.value,
            bad_files=bad_files.value,
            search=search,
            compress=compress,
            runtime=runtime.value,
            listener=listener,
        )
    if as_json:
        print_json(run.summary)
    else:
        print("\n".join(closing(run.summary, quiet)))


def closing(s: Mapping[str, Any], quiet: bool = False) -> list[str]:
    """The lines at the end of fit; quiet keeps the last three."""
    lines = []
    if not quiet:
        data = s["data"]
        lines.append(f"{data['name']:<9} {show.data_line(data)}{' (report)' if data.get('left_out') else ''}")
        lines += [f"budget    {s['budget']['text']}", *race_table(s)]
    accuracy = show.share(s["test_accuracy"], s["test_interval"], s["test_n"])
    cost = f"{show.milliseconds(s['latency_ms'])} median · {show.size(s['size_bytes'])} · {show.count(s['macs'])}"
    lines.append(f"{s.get('test_split', 'test'):<9} {accuracy} · {cost} multiply-adds")
    model = f"{s['run']}/best"
    lines.append(f"model     {model:<30} report  {s['report']}")
    lines.append(f"next      foveate predict {model if ' ' not in model else repr(model)} my.jpg")
    return lines


def race_table(s: Mapping[str, Any]) -> list[str]:
    """The model that was trained on, then the best of the others, with what each costs."""
    race = sorted(s["race"], key=lambda r: (not r["chosen"], -r["val_accuracy"]))
    if not race:
        return []
    shown = [(f"{r['model']} ({r['resolution']} px)", r) for r in race[:RACE_ROWS]]
    wide = max(len(name) for name, _ in shown)
    head = f"raced     {len(race)} candidate{'s' if len(race) != 1 else ''} · {show.duration(s['race_seconds'])}"
    lines = [f"{head:<41}{'model':<{wide}}   {'val':>5}   {'latency':>8}   {'size':>8}"]
    for name, r in shown:
        cost = f"{show.milliseconds(r['latency_ms']):>8}   {show.size(r['size_bytes']):>8}"
        row = f"{name:<{wide}}   {show.percent(r['val_accuracy']):>5}   {cost}"
        lines.append(f"{'':<41}{row}{'   <- trained on' if r['chosen'] else ''}")
    return lines
