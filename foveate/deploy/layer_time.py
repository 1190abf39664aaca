"""The clock of low rank: one convolution, or a pair, alone in ONNX Runtime, as it will be run."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import nn

from foveate.cost.latency import measure
from foveate.layers.low_rank import LowRank


def layer_timer(threads: int = 1) -> Callable[[nn.Module, tuple[int, ...]], float]:
    """The clock of a race: a convolution, or a pair, alone in ONNX Runtime, float32."""
    import onnxruntime

    def time_ms(module: nn.Module, shape: tuple[int, ...]) -> float:
        convs = [module.first, module.second] if isinstance(module, LowRank) else [module]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        session = onnxruntime.InferenceSession(layers_onnx(convs, shape), options, ["CPUExecutionProvider"])
        x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        return measure(lambda: session.run(None, {"x0": x}), repeats=50, min_s=0.1).median_ms

    return time_ms


def layers_onnx(convs: Sequence[Any], shape: tuple[int, ...]) -> bytes:
    """An ONNX file of convolutions, one after the other; shape: of the first one's input."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights = [], []
    for i, conv in enumerate(convs):
        names = [f"{key}{i}" for key, _ in conv.named_parameters()]
        tensors = [t.detach().float().cpu().numpy() for t in conv.parameters()]
        weights += [numpy_helper.from_array(t, name) for t, name in zip(tensors, names, strict=True)]
        pads = [*conv.padding, *conv.padding]
        nodes.append(helper.make_node("Conv", [f"x{i}", *names], [f"x{i + 1}"], strides=conv.stride, pads=pads))
    ends = [
        helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, size)
        for i, size in ((0, shape), (len(convs), ["n", "c", "h", "w"]))
    ]
    graph = helper.make_graph(nodes, "layers", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data
