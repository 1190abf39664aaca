"""Measures operators where they run: in whole networks, node by node, by the profiler of ONNX Runtime.

An operator by itself would be timed with another memory layout around it and with its weights always in the cache. The
networks are visited in turn, again and again, so that a slow minute of a shared machine falls on all of them alike. The
profile says how a run is shared among its nodes; the processor's clock says how long it is, for other processes hardly
change that.
"""

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foveate.cost.interpolate import BLOCK  # the log shows padded numbers of channels
from foveate.cost.operators import Operator

VISIT, UNSEEN = 6, 2  # runs a visit, and how many of them only warm up
KERNEL = "_kernel_time"
CONVS, LINEARS = ("Conv", "FusedConv"), ("Gemm", "FusedGemm", "MatMul", "FusedMatMul")
HALF_TICK_US = 0.5  # durations are whole microseconds, rounded down

Feed = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Exported:
    """A network as ONNX, what to feed it, and its operators by cost/operators.py."""

    onnx: bytes
    feed: Feed
    operators: tuple[Operator, ...]
    pixels: int  # of the picture that goes in


@dataclass(frozen=True)
class Case:
    """A measured network. times: microseconds of each convolution and linear layer that was found in the log."""

    operators: tuple[Operator, ...]
    pixels: int
    times: tuple[tuple[Operator, float], ...]
    total_us: float  # processor time of a whole run, without the profiler


def cases(
    networks: Sequence[Exported], threads: int = 1, rounds: int = 8, told: Callable[[int, int], None] | None = None
) -> list[Case]:
    """Cases for fitting a latency model: of each network the median processor time and that of every layer, in
    microseconds.

    All networks are visited `rounds` times, so that a slow minute is shared by all. threads: of ONNX Runtime.
    told(round, rounds) is called before each round.
    """
    with tempfile.TemporaryDirectory() as folder:
        plain = [session(net.onnx, threads) for net in networks]
        watched = [session(net.onnx, threads, str(Path(folder) / f"net{i}")) for i, net in enumerate(networks)]
        totals: list[list[float]] = [[] for _ in networks]
        for number in range(rounds):
            if told is not None:
                told(number, rounds)
            for i, net in enumerate(networks):
                totals[i].append(visit(plain[i], net.feed))
                for _ in range(VISIT):
                    watched[i].run(None, net.feed)
        logs = [json.loads(Path(one.end_profiling()).read_text()) for one in watched]
    out = []
    for net, log, total in zip(networks, logs, totals, strict=True):
        nodes, total_us = node_times(log), float(np.median(total))
        share = total_us / max(sum(node.us for node in nodes), 1e-9)
        out.append(Case(net.operators, net.pixels, matched(net.operators, nodes, share), total_us))
    return out


def session(onnx: bytes, threads: int, log: str = "") -> Any:
    """A session of ONNX Runtime on the CPU; log: where its profile goes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_profiling = bool(log)
    if log:
        options.profile_file_prefix = log
    return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


def visit(opened: Any, feed: Feed) -> float:
    """Median microseconds of processor time of a few runs. With several threads: wall time, which is what they save."""
    clock = time.thread_time_ns if opened.get_session_options().intra_op_num_threads == 1 else time.perf_counter_ns
    spent = []
    for _ in range(VISIT):
        begun = clock()
        opened.run(None, feed)
        spent.append(clock() - begun)
    return float(np.median(spent[UNSEEN:])) / 1e3


@dataclass(frozen=True)
class Node:
    """A node of the log: its type, the shapes that went in and came out, and its microseconds."""

    op: str
    inputs: tuple[tuple[int, ...], ...]
    output: tuple[int, ...]
    us: float


def node_times(log: Iterable[Mapping[str, Any]]) -> list[Node]:
    """The nodes of a profile. A node's time is the lower quartile of all warm runs: the log has wall time, in which
    other processes are.
    """
    seen: dict[tuple[str, str], tuple[Mapping[str, Any], list[float]]] = {}
    for event in log:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith(KERNEL):
            args = event["args"]
            seen.setdefault((str(args.get("node_index")), name), (args, []))[1].append(float(event["dur"]))
    out = []
    for args, durations in seen.values():
        runs = np.array(durations[: len(durations) // VISIT * VISIT]).reshape(-1, VISIT)[:, UNSEEN:]
        if runs.size:
            us = float(np.percentile(runs, 25)) + HALF_TICK_US
            shapes = tuple(tuple(next(iter(s.values()))) for s in args.get("input_type_shape") or () if s)
            made = [tuple(next(iter(s.values()))) for s in args.get("output_type_shape") or () if s]
            out.append(Node(str(args.get("op_name")), shapes, made[0] if made else (), us))
    return out


def matched(
    operators: Iterable[Operator], nodes: Iterable[Node], share: float = 1.0
) -> tuple[tuple[Operator, float], ...]:
    """Each convolution and linear layer of the log with the operator of the same sizes and share times its time; one
    that has none is left out.
    """
    waiting: dict[tuple[object, ...], list[Operator]] = defaultdict(list)
    for op in operators:
        if op.kind == "conv":
            shape = (_up(op.c_in), _up(op.c_out), op.height, op.width)
            waiting[(op.kernel, op.groups > 1 and _up(op.c_in) > BLOCK, *shape)].append(op)
        elif op.kind == "linear":
            waiting["linear", op.c_in, op.c_out].append(op)
    found = []
    for node in nodes:
        key: tuple[object, ...] = ()
        if node.op in CONVS and len(node.inputs) > 1 and len(node.output) == len(node.inputs[1]) == 4:
            (c_in, weight), (_, c_out, height, width) = (node.inputs[0][1], node.inputs[1]), node.output
            grouped = _up(weight[1]) != _up(c_in)
            key = (weight[2], grouped, _up(c_in), _up(c_out), height, width)
        elif node.op in LINEARS and len(node.output) == 2 and node.inputs:
            key = ("linear", node.inputs[0][-1], node.output[-1])
        if waiting.get(key):
            found.append((waiting[key].pop(), share * node.us))
    return tuple(found)


def _up(channels: int) -> int:
    return -(-channels // BLOCK) * BLOCK
