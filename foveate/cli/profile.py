"""foveate profile: what a model costs, counted from the real module; --measure times it in the runtimes here."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli import show
from foveate.cli.options import Debug, Device, Json, Threads, model_folder, print_json
from foveate.cli.runtimes import measured
from foveate.cli.runtimes import table as runtime_table
from foveate.cli.units import size_bytes as parse_size
from foveate.errors import BudgetError, ConfigError, FoveateError

if TYPE_CHECKING:
    from foveate.cost.count import Cost, LayerCost
    from foveate.cost.latency import Latency
    from foveate.cost.memory import Memory
    from foveate.cost.table import Node
    from foveate.data.preprocess import Preprocess

EXAMPLE = "Example: foveate profile resnet18 --measure --threads 2"
FLOAT32_BYTES = 4
PICTURES = ("png", "svg", "pdf")
OPTIMIZERS = {"sgd": "SGD", "momentum": "SGD with momentum", "adam": "Adam"}


def command(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME|MODEL|HUB",
            help="A name (see foveate models), a model folder or hf-hub:ORG/NAME.",
            show_default=False,
        ),
    ] = None,
    resolution: Annotated[
        int | None,
        typer.Option("--resolution", min=1, max=4096, help="Pixels, square; else its own.", show_default=False),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, max=1_000_000, help="Pictures that are counted.")] = 1,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory", metavar="SIZE", help="The largest training batch for so much (8GB).", show_default=False
        ),
    ] = None,
    tree: Annotated[bool, typer.Option("--tree", help="Every module, folded by what is alike.")] = False,
    csv: Annotated[
        str | None, typer.Option("--csv", metavar="FILE", help="Write the layers as CSV.", show_default=False)
    ] = None,
    plot: Annotated[
        str | None,
        typer.Option("--plot", metavar="FILE", help="Draw the parts as bars: .png, .svg or .pdf.", show_default=False),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time it in every runtime that is ready in seconds.")
    ] = False,
    runtime: Annotated[
        str | None,
        typer.Option(
            "--runtime", metavar="all|NAME,...", help="Time these: openvino, onnxruntime:int8.", show_default=False
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="DATA", help="Judge precisions on these pictures.", show_default=False),
    ] = None,
    max_drop: Annotated[
        float, typer.Option("--max-drop", min=0.0, max=100.0, help="Points of accuracy that the best may lose.")
    ] = 1.0,
    device: Annotated[Device, typer.Option("--device", help="Where PyTorch is timed.")] = Device.cpu,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure this device's table of operators first; minutes.")
    ] = False,
    table_file: Annotated[
        str | None,
        typer.Option("--table", metavar="FILE", help="That table; else the one in the cache.", show_default=False),
    ] = None,
    threads: Threads = None,
    as_json: Json = False,
    debug: Debug = False,
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
    budget = parse_size("--memory", memory) if memory is not None else None
    suffix = Path(plot).suffix.removeprefix(".").lower() if plot is not None else ""
    if plot is not None and suffix not in PICTURES:
        raise ConfigError(f'--plot "{plot}": expected a file that ends in .{", .".join(PICTURES)}')

    from foveate.cli.calibrate import calibrated, prediction, prediction_line, table_for

    if calibrate:
        made, place = calibrated(table_file, threads)
        if model is None and as_json:
            print_json({"table": str(place), "operators": len(made.rows), "error": made.error})
        elif model is None:
            print(f"{place}: {len(made.rows):,} operators, error {made.error:.0%} on networks left out")
    if model is None:
        return
    from foveate.config import replace, to_dict
    from foveate.cost.count import cost
    from foveate.cost.plot import bars
    from foveate.cost.table import csv_text, rows, walk
    from foveate.cost.table import tree as folded
    from foveate.files import write_bytes, write_text
    from foveate.zoo import build

    net, config, preprocess, classes = opened(model, measure)
    if resolution is not None:
        preprocess = replace(preprocess, resolution=resolution, resize=round(resolution * 8 / 7))
    counted = cost(config, resolution=preprocess.resolution, batch=batch)
    known = table_for(table_file, threads)
    predicted = prediction(counted.network, known, counted.resolution) if known else None
    trained, field, missing = trained_and_field(counted)
    kept = dict(trained.layers) if trained is not None else {}
    batches = largest(counted, budget) if budget is not None else []
    table = rows(counted, kept)
    size_bytes = FLOAT32_BYTES * (counted.params + counted.buffers)
    latency = compared = None
    if measure:
        import torch

        compared, latency, size_bytes = measured(
            net or build(config).eval(),
            preprocess,
            classes,
            runtime=runtime,
            data=data,
            batch=batch,
            threads=threads or torch.get_num_threads(),
            max_drop=max_drop / 100,
            device=device.value,
        )
    if csv is not None:
        write_text(csv, csv_text(table))
    if plot is not None:
        title = f"{model} at {counted.resolution} pixels, batch {batch}"
        write_bytes(plot, bars(title, bar_parts(counted.layers, kept), suffix))
    if as_json:
        numbers = {
            "params": counted.params,
            "buffers": counted.buffers,
            "macs": counted.macs,
            "flops": counted.flops,
            "elementwise_flops": counted.elementwise_flops,
            "activations": counted.activations,
            "activation_bytes": trained and trained.activation_bytes,
            "train_bytes": trained and trained.peak_bytes,
            "train": trained and {k: v for k, v in asdict(trained).items() if k != "layers"},
            "inference_bytes": counted.inference_bytes,
            "receptive_field": field and asdict(field),
        }
        parted = [{"part": part, "params": p, "macs": m} for part, p, m in parts(counted.layers)]
        rest = {"not_counted": [*counted.not_counted, *missing], "parts": parted, "layers": table}
        if budget is not None:
            rest["largest_batch"] = [{"optimizer": o, "precision": p, "batch": b} for o, p, b in batches]
        head = {"model": model, "resolution": counted.resolution, "batch": batch}
        times = {
            "predicted": predicted,
            "latency": latency and to_dict(latency),
            **(compared.as_dict() if compared else {}),
        }
        print_json({**head, **numbers, "size_bytes": size_bytes, **rest, **times})
        return
    out = lines(model, counted, size_bytes, latency, whole=not tree)
    out[2:2] = memory_lines(counted, trained, field) + ([prediction_line(predicted)] if predicted else [])
    out += [f"          not known: {text}" for text in missing]
    if compared is not None:
        out += ["", *runtime_table(compared, whole=runtime is not None)]
    if tree:
        out += tree_lines(walk(folded(counted, kept)))
    if budget is not None:
        out += batch_lines(batches, budget)
    print("\n".join(out))


def opened(model: str, weights: bool) -> tuple[Any, Any, "Preprocess", tuple[str, ...]]:
    """(the network or None where it needs no weights, its config, preprocessing, classes) of a name, folder or address.

    A repository of timm's is a network of the zoo of the same name, with its weights where they are wanted.
    """
    from foveate.config import replace
    from foveate.data.preprocess import Preprocess
    from foveate.zoo import build, variant
    from foveate.zoo.hub import PREFIX, hub_facts, timm_name
    from foveate.zoo.weights import load_weights, weights_info

    facts = hub_facts(model) if model.startswith(PREFIX) else {}
    theirs = timm_name(facts)
    if theirs is None and (model.startswith(PREFIX) or Path(model).exists()):
        from foveate.train.artefact import load_model

        found, card = load_model(model_folder(model))
        return found, card.architecture, card.preprocess, card.classes
    net, config = None, variant(theirs or model)
    preprocess = Preprocess(resolution=config.resolution, resize=round(config.resolution * 8 / 7))
    if theirs is not None:
        config = replace(config, num_classes=facts.get("num_classes", config.num_classes))
        preprocess = replace(preprocess, **weights_info(config, model))
        if weights:
            net = build(config).eval()
            load_weights(net, model)
    return net, config, preprocess, tuple(str(i) for i in range(config.num_classes))


def trained_and_field(counted: "Cost") -> tuple["Memory | None", Any, list[str]]:
    """(memory of training, receptive field, why one of them is not known)."""
    from foveate.cost.plan import Plan

    memory, field, missing = None, None, []
    try:
        memory = counted.memory(Plan())
    except FoveateError as error:
        missing.append(str(error))
    try:
        field = counted.receptive_field
    except FoveateError as error:
        missing.append(str(error))
    return memory, field, missing


def largest(counted: "Cost", memory_bytes: int) -> list[tuple[str, str, int]]:
    """(optimiser, precision, largest batch that fits, 0 where none does) for the usual ones."""
    from foveate.cost.memory import largest_batch
    from foveate.cost.plan import Plan

    found = []
    for optimizer in OPTIMIZERS:
        for precision in ("fp32", "bf16"):
            plan = Plan(optimizer=optimizer, precision=precision)  # type: ignore[arg-type]
            try:
                fits = largest_batch(counted.network, memory_bytes, plan, counted.resolution, counted.in_chans)
            except BudgetError:
                fits = 0
            found.append((optimizer, precision, fits))
    return found


def parts(layers: Iterable["LayerCost"]) -> list[tuple[str, int, int]]:
    """(part, params, macs) in order of first use: layers folded by the first name of their path, with its number."""
    folded: dict[str, tuple[int, int]] = {}
    for layer in layers:
        part = part_of(layer.name)
        params, macs = folded.get(part, (0, 0))
        folded[part] = (params + layer.params, macs + layer.macs)
    return [(part, params, macs) for part, (params, macs) in folded.items() if params or macs]


def part_of(name: str) -> str:
    """The part that a module belongs to: the first name of its path, with its number."""
    names = name.split(".")
    return ".".join(names[: 2 if names[1:] and names[1].isdigit() else 1])


def bar_parts(layers: Iterable["LayerCost"], kept: Mapping[str, int]) -> list[tuple[str, int, int, int]]:
    """(part, params, macs, activation bytes)."""
    held: dict[str, int] = {}
    for name, size in kept.items():
        held[part_of(name)] = held.get(part_of(name), 0) + size
    return [(part, params, macs, held.get(part, 0)) for part, params, macs in parts(layers)]


def lines(model: str, counted: "Cost", size_bytes: int, latency: "Latency | None", whole: bool = True) -> list[str]:
    """The text that people read; whole: with the parts."""
    batch = f", batch {counted.batch}" if counted.batch > 1 else ""
    out = [f"model     {model} at {counted.resolution} x {counted.resolution}{batch}"]
    cost = f"{show.count(counted.params)} parameters · {show.count(counted.macs)} multiply-adds"
    out.append(f"cost      {cost} · {show.size(size_bytes)}{' as ONNX' if latency else ' as float32'}")
    if latency:
        spread = f"{show.milliseconds(latency.p10_ms)} to {show.milliseconds(latency.p90_ms)}, n = {latency.n}"
        threads = f"{latency.threads} thread{'s' if latency.threads != 1 else ''}"
        out.append(f"latency   {show.milliseconds(latency.median_ms)} median ({spread}) · {latency.input}")
        out.append(f"on        {latency.device} · {threads} · {latency.runtime} · {latency.precision}")
    rows = parts(counted.layers) if whole else []
    wide = max((len(part) for part, _, _ in rows), default=0)
    for i, (part, params, macs) in enumerate(rows):
        share = f"{macs / counted.macs:6.1%}" if counted.macs else ""
        start = "parts" if i == 0 else ""
        out.append(f"{start:<9} {part:<{wide}}  {show.count(params):>8} params  {show.count(macs):>8} MACs  {share}")
    if counted.not_counted:
        out.append(f"          not counted: {', '.join(counted.not_counted)}")
    return out


def memory_lines(counted: "Cost", trained: "Memory | None", field: Any) -> list[str]:
    """FLOPs in both senses, memory, receptive field."""
    apart = f"element-wise, apart: {show.count(counted.elementwise_flops)}FLOPs"
    out = [f"flops     {show.count(counted.flops)}FLOPs = 2 x MACs · {apart}"]
    predict = f"{show.size(counted.inference_bytes)} to predict"
    if trained is not None:
        plural = "s" if counted.batch > 1 else ""
        kept = f"{show.size(trained.activation_bytes)} kept for the backward pass"
        train = f"{show.size(trained.peak_bytes)} to train {counted.batch} picture{plural} with momentum ({kept})"
        predict += f" · {train}"
    out.append(f"memory    {predict}")
    if field is not None:
        out.append(
            f"field     a position of the last map sees {field.height} x {field.width} pixels, stride {field.stride}"
        )
    return out


def tree_lines(nodes: Iterable[tuple[int, "Node"]]) -> list[str]:
    """A line a module, indented; numbers of all that is in it."""
    texts = [("  " * depth + (f"{n.name} " if n.name else "") + n.kind, n) for depth, n in nodes]
    wide = max(len(text) for text, _ in texts)
    out = [f"{'module':<{wide}}  {'params':>8}  {'MACs':>8}  {'element':>8}  {'kept':>8}"]
    for text, node in texts:
        params, _, macs, flops, kept = node.numbers
        alike = f"  ({node.alike} alike)" if node.alike > 1 else ""
        cells = (show.count(params), show.count(macs), show.count(flops), show.size(kept))
        out.append(f"{text:<{wide}}  {'  '.join(f'{cell:>8}' for cell in cells)}{alike}")
    return out


def batch_lines(batches: Iterable[tuple[str, str, int]], memory_bytes: int) -> list[str]:
    """The largest batches as a small table."""
    out = [f"largest training batch in {show.size(memory_bytes)} of tensors (workspaces and the program come on top):"]
    for optimizer, precision, fits in batches:
        out.append(f"          {OPTIMIZERS[optimizer]:<18} {precision}  {fits if fits else 'not one picture'}")
    return out
