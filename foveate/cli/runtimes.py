"""foveate profile --measure: the model in every runtime and precision, and the table that people read."""

import sys
from typing import TYPE_CHECKING, Any

from foveate.report.units import milliseconds, percent, plural, points, size

if TYPE_CHECKING:
    from foveate.cost.latency import Latency
    from foveate.deploy.compare import Comparison

NAMES = {
    "torch": "PyTorch eager",
    "torch_compile": "torch.compile",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
}


def told(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def measured(
    net: Any,
    preprocess: Any,
    classes: tuple[str, ...],
    *,
    runtime: str | None,
    data: str | None,
    follow_links: bool = False,
    batch: int,
    threads: int,
    max_drop: float,
    device: str = "cpu",
) -> "tuple[Comparison, Latency, int]":
    """(the comparison, the latency of the ONNX file in ONNX Runtime, its size in bytes).

    runtime: None for those that are ready in seconds, "all", or names between commas.
    """
    from foveate.deploy.compare import compare, pairs, quick
    from foveate.deploy.measure import measure_latency
    from foveate.deploy.sample import given
    from foveate.deploy.subject import Subject

    wanted = quick() if runtime is None else pairs(None if runtime == "all" else runtime.split(","))
    calibration, sample = given(data, None, classes, follow_links)
    if not calibration and any(precision == "int8" for _, precision in wanted):
        told("warning: int8 is calibrated and judged on generated pictures; --data DATA gives real ones")
        calibration = list(sample.pictures)
    subject = Subject(
        net, preprocess, classes, threads, batch, device, calibration, min_agreement=1 - max_drop, told=told
    )
    compared = compare(subject, sample, wanted, max_drop=max_drop)
    return compared, measure_latency(subject.onnx, preprocess, threads, batch=batch), len(subject.onnx)


def table(compared: "Comparison", whole: bool) -> list[str]:
    """A row for each runtime and precision, fastest first; whole: nothing was left out of the measurement."""
    from foveate.deploy.compare import cost_ms, lost

    if not compared.measured:
        return _absent(compared)
    judged = compared.measured[0].drop is not None
    head: tuple[str, ...] = ("runtime", "precision", "median", "p90", "p99", "CPU", "spread", "ratio", "size")
    head += ("accuracy", "drop") if judged else ("agrees",)
    base = next((m for m in compared.measured if (m.engine, m.precision) == ("torch", "fp32")), compared.measured[0])
    rows = []
    for m in sorted(compared.measured, key=cost_ms):
        times = [milliseconds(v) for v in (m.median_ms, m.p90_ms, m.p99_ms, m.cpu_ms)]
        cells = [NAMES[m.engine], m.precision, *times, f"{m.spread:.2f}", f"{cost_ms(m) / cost_ms(base):.2f}"]
        cells.append(size(m.size_bytes))
        if m.accuracy is not None:
            cells += [f"{percent(m.accuracy)} %", f"{points(lost(m))}"]
        else:
            cells.append(f"{percent(m.agreement)} %")
        best = compared.best is not None and m == compared.best
        rows.append([*cells, "<- best" if best else ""])
    wide = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    out = [_row(head, wide), *(f"{_row(row, wide)} {row[-1]}".rstrip() for row in rows)]
    where = f"{base.device} · {plural(base.threads, 'thread')} · batch {base.batch}"
    out.append(f"on        {where} · n = {base.n} each, in turns · {base.input}")
    judged_on = f"{base.pictures} pictures ({base.pictures_of})"
    out.append(f"answers   {judged_on}; ratio and drop against {NAMES[base.engine]} fp32")
    out.append(f"best      {_best(compared)}")
    if not whole:
        out.append("next      --runtime all adds torch.compile and int8 (minutes); --data DATA judges on real pictures")
    return out + _absent(compared)


def _row(cells: Any, wide: list[int]) -> str:
    return "  ".join(
        f"{cell:<{w}}" if i < 2 else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(cells, wide, strict=False))
    )


def _best(compared: "Comparison") -> str:
    if compared.best is None:
        return f"none is accurate enough: {compared.rule}"
    return f"{NAMES[compared.best.engine]} {compared.best.precision}: {compared.rule}"


def _absent(compared: "Comparison") -> list[str]:
    """What was not measured: a line a reason."""
    reasons: dict[str, list[str]] = {}
    for u in compared.unavailable:
        reasons.setdefault(u.reason, []).append(f"{NAMES[u.engine]} {u.precision}")
    return [f"without   {', '.join(names)}: {reason}" for reason, names in reasons.items()]
