"""What a smaller network costs, in the kind that is asked for: counted, or measured on the exported network."""

import functools
from collections.abc import Callable
from typing import Any

import torch

from foveate.config import to_json
from foveate.cost.count import cost
from foveate.cost.latency import MIN_REPEATS
from foveate.deploy.beside import Yardstick
from foveate.runs.plan import Plan
from foveate.zoo import build
from foveate.zoo.family import Config

SLACK_BYTES = 1024  # by which the final file may be larger than computed: its graph and its config are text


def channels_at_once() -> int:
    """Channels that runtimes on this processor keep in one block: other widths fall back to slower kernels. MobileNets
    with a quarter of the multiply-adds were hardly faster in ONNX Runtime with widths as they came.
    """
    return 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8


def make_yardstick(plan: Plan, ms: Callable[[], float | None]) -> Callable[[], Yardstick]:
    """The original to time others beside, made when it is first asked for. ms: its latency; None: measured then."""

    @functools.cache
    def made() -> Yardstick:
        model = build(plan.architecture)
        return Yardstick(model, plan.preprocess, plan.threads or 1, plan.budget.runtime, ms())

    return made


def cost_of(kind: str, plan: Plan, extra_bytes: int, yardstick: Callable[[], Yardstick]) -> Callable[[Any], float]:
    """What a config costs. A latency and a size are measured, on the exported network with random weights; a latency
    beside the original's, so that it means the same however busy the machine is.
    """
    preprocess = plan.preprocess

    def latency_ms(config: Config) -> float:
        return yardstick().time(build(config), MIN_REPEATS).median_ms

    def size_bytes(config: Config) -> float:
        from foveate.deploy.export import export_for_timing

        return float(len(export_for_timing(build(config), preprocess)) + extra_bytes + SLACK_BYTES)

    def counted(config: Config) -> float:
        return float(getattr(cost(config, resolution=preprocess.resolution), kind))

    return {"latency_ms": latency_ms, "size_bytes": size_bytes}.get(kind, counted)


def extra_bytes(kind: str, plan: Plan) -> int:
    """By how many bytes the final file is larger than the one that is quick to make; 0 unless the size counts. It
    depends on the layers, not on their widths.
    """
    from foveate.deploy.export import export_for_timing, export_onnx

    if kind != "size_bytes":
        return 0
    config = plan.architecture
    model, names = build(config), [str(i) for i in range(config.num_classes)]
    final = export_onnx(model, plan.preprocess, names, metadata={"architecture": to_json(config)})  # as finish writes
    return len(final) - len(export_for_timing(model, plan.preprocess))


def amount(kind: str, value: float) -> str:
    """A cost with its unit."""
    forms = {"macs": (1e6, "M multiply-adds"), "params": (1e3, "k parameters"), "size_bytes": (1e3, "kB")}
    factor, unit = forms.get(kind, (1.0, "ms"))
    return f"{value / factor:.4g} {unit}"
