"""A profile as people read it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from foveate.cli.calibrate import prediction_line
from foveate.cli.profile_value import OPTIMIZERS, Batch, Profile, parts
from foveate.cli.runtimes import table as runtime_table
from foveate.report.units import count, milliseconds, percent, plural, size

if TYPE_CHECKING:
    from foveate.cost.count import Cost
    from foveate.cost.latency import Latency
    from foveate.cost.memory import Memory
    from foveate.cost.receptive_field import Field
    from foveate.cost.table import Node


def lines(profile: Profile, tree: bool) -> list[str]:
    """The text that people read. tree: every module in place of the parts."""
    from foveate.cost.table import tree as folded
    from foveate.cost.table import walk

    counted, measured = profile.counted, profile.measured
    out = [*head_lines(profile), *memory_lines(counted, profile.trained, profile.field)]
    if profile.predicted is not None:
        out.append(prediction_line(profile.predicted))
    if measured is not None:
        out += latency_lines(measured.latency)
    if not tree:
        out += part_lines(counted)
    if counted.not_counted:
        out.append(f"          not counted: {', '.join(counted.not_counted)}")
    out += [f"          not known: {text}" for text in profile.missing]
    if measured is not None:
        out += ["", *runtime_table(measured.compared, whole=measured.whole)]
    if tree:
        out += tree_lines(walk(folded(counted, profile.kept)))
    if profile.memory_bytes is not None:
        out += batch_lines(profile.batches, profile.memory_bytes)
    return out


def head_lines(profile: Profile) -> list[str]:
    """The model and what is counted of it."""
    counted = profile.counted
    batch = f", batch {counted.batch}" if counted.batch > 1 else ""
    cost = f"{count(counted.params)} parameters · {count(counted.macs)} multiply-adds"
    stored = f"{size(profile.size_bytes)} as {'float32' if profile.measured is None else 'ONNX'}"
    return [
        f"model     {profile.model} at {counted.resolution} x {counted.resolution}{batch}",
        f"cost      {cost} · {stored}",
    ]


def latency_lines(latency: "Latency") -> list[str]:
    """The time of a batch, and where it was measured."""
    spread = f"{milliseconds(latency.p10_ms)} to {milliseconds(latency.p90_ms)}, n = {latency.n}"
    threads = plural(latency.threads, "thread")
    return [
        f"latency   {milliseconds(latency.median_ms)} median ({spread}) · {latency.input}",
        f"on        {latency.device} · {threads} · {latency.runtime} · {latency.precision}",
    ]


def part_lines(counted: "Cost") -> list[str]:
    """A line a part of the network."""
    rows = parts(counted.layers)
    wide = max((len(part) for part, _, _ in rows), default=0)
    out = []
    for i, (part, params, macs) in enumerate(rows):
        of_all = f"{percent(macs / counted.macs):>5} %" if counted.macs else ""
        start = "parts" if i == 0 else ""
        out.append(f"{start:<9} {part:<{wide}}  {count(params):>8} params  {count(macs):>8} MACs  {of_all}")
    return out


def memory_lines(counted: "Cost", trained: "Memory | None", field: "Field | None") -> list[str]:
    """FLOPs in both senses, memory, receptive field."""
    apart = f"element-wise, apart: {count(counted.elementwise_flops)}FLOPs"
    out = [f"flops     {count(counted.flops)}FLOPs = 2 x MACs · {apart}"]
    predict = f"{size(counted.inference_bytes)} to predict"
    if trained is not None:
        kept = f"{size(trained.activation_bytes)} kept for the backward pass"
        train = f"{size(trained.peak_bytes)} to train {plural(counted.batch, 'picture')} with momentum ({kept})"
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
        cells = (count(params), count(macs), count(flops), size(kept))
        out.append(f"{text:<{wide}}  {'  '.join(f'{cell:>8}' for cell in cells)}{alike}")
    return out


def batch_lines(batches: Iterable[Batch], memory_bytes: int) -> list[str]:
    """The largest batches as a small table."""
    out = [f"largest training batch in {size(memory_bytes)} of tensors (workspaces and the program come on top):"]
    for b in batches:
        out.append(f"          {OPTIMIZERS[b.optimizer]:<18} {b.precision}  {b.pictures or 'not one picture'}")
    return out
