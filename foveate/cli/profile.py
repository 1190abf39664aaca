"""foveate profile: what a model costs, counted from the real module; --measure times it in ONNX Runtime here."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli import show
from foveate.cli.options import Debug, Json, Threads, model_folder, print_json

if TYPE_CHECKING:
    from foveate.cost.count import Cost, LayerCost
    from foveate.cost.latency import Latency

EXAMPLE = "Example: foveate profile resnet18 --measure --threads 2"
FLOAT32_BYTES = 4


def command(
    model: Annotated[str, typer.Argument(metavar="NAME|MODEL", help="A name (see foveate models) or a model folder.")],
    resolution: Annotated[
        int | None,
        typer.Option("--resolution", min=1, max=4096, help="Pixels, square; else its own.", show_default=False),
    ] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Export it and time it in ONNX Runtime.")] = False,
    threads: Threads = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Count what a model costs.

    Parameters, multiply-adds and size, by part; --measure adds the latency on this machine.
    """
    from foveate.config import replace, to_dict
    from foveate.cost.count import cost
    from foveate.data.preprocess import Preprocess
    from foveate.zoo import build, variant

    if Path(model).exists():
        from foveate.train.artefact import load_model

        net, card = load_model(model_folder(model))
        config, preprocess = card.architecture, card.preprocess
    else:
        net, config = None, variant(model)
        preprocess = Preprocess(resolution=config.resolution, resize=round(config.resolution * 8 / 7))
    if resolution is not None:
        preprocess = replace(preprocess, resize=round(resolution * 8 / 7))
        preprocess = replace(preprocess, resolution=resolution)
    counted = cost(config, resolution=preprocess.resolution)
    size_bytes = FLOAT32_BYTES * (counted.params + counted.buffers)
    latency = None
    if measure:
        latency, size_bytes = timed(net or build(config).eval(), preprocess, config.num_classes, threads)
    if as_json:
        folded = [{"part": part, "params": p, "macs": m} for part, p, m in parts(counted.layers)]
        numbers = {"params": counted.params, "macs": counted.macs, "activations": counted.activations}
        rest = {"not_counted": list(counted.not_counted), "parts": folded, "latency": latency and to_dict(latency)}
        print_json({"model": model, "resolution": counted.resolution, **numbers, "size_bytes": size_bytes, **rest})
    else:
        print("\n".join(lines(model, counted, size_bytes, latency)))


def timed(net: Any, preprocess: Any, classes: int, threads: int | None) -> tuple["Latency", int]:
    """Median latency of the exported model, preprocessing inside, and its size in bytes."""
    import torch

    from foveate.deploy.export import export_onnx
    from foveate.deploy.measure import measure_latency

    onnx = export_onnx(net, preprocess, tuple(str(i) for i in range(classes)))
    return measure_latency(onnx, preprocess, threads or torch.get_num_threads()), len(onnx)


def parts(layers: Iterable["LayerCost"]) -> list[tuple[str, int, int]]:
    """(part, params, macs) in order of first use: layers folded by the first name of their path, with its number."""
    folded: dict[str, tuple[int, int]] = {}
    for layer in layers:
        names = layer.name.split(".")
        part = ".".join(names[: 2 if names[1:] and names[1].isdigit() else 1])
        params, macs = folded.get(part, (0, 0))
        folded[part] = (params + layer.params, macs + layer.macs)
    return [(part, params, macs) for part, (params, macs) in folded.items()]


def lines(model: str, counted: "Cost", size_bytes: int, latency: "Latency | None") -> list[str]:
    """The text that people read."""
    out = [f"model     {model} at {counted.resolution} x {counted.resolution}"]
    cost = f"{show.count(counted.params)} parameters · {show.count(counted.macs)} multiply-adds"
    out.append(f"cost      {cost} · {show.size(size_bytes)}{' as ONNX' if latency else ' as float32'}")
    if latency:
        spread = f"{show.milliseconds(latency.p10_ms)} to {show.milliseconds(latency.p90_ms)}, n = {latency.n}"
        threads = f"{latency.threads} thread{'s' if latency.threads != 1 else ''}"
        out.append(f"latency   {show.milliseconds(latency.median_ms)} median ({spread}) · {latency.input}")
        out.append(f"on        {latency.device} · {threads} · {latency.runtime} · {latency.precision}")
    rows = parts(counted.layers)
    wide = max((len(part) for part, _, _ in rows), default=0)
    for i, (part, params, macs) in enumerate(rows):
        share = f"{macs / counted.macs:6.1%}" if counted.macs else ""
        start = "parts" if i == 0 else ""
        out.append(f"{start:<9} {part:<{wide}}  {show.count(params):>8} params  {show.count(macs):>8} MACs  {share}")
    if counted.not_counted:
        out.append(f"          not counted: {', '.join(counted.not_counted)}")
    return out
