"""What a model folder knows of its answers, as plain ONNX operators behind the network: probabilities of the scaled
logits, and how strange a picture is. The same arithmetic as foveate.train.trusted, in float32.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.config import to_dict
from foveate.errors import FoveateError
from foveate.train.familiarity import NEIGHBOURS, TINY
from foveate.train.trusted import Known, Trust

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto

LOGITS, FEATURES, PROBABILITIES, STRANGENESS = "logits", "features", "probabilities", "strangeness"
OUTPUTS = (PROBABILITIES, LOGITS, STRANGENESS)  # of a file, in this order; the last one where features are known
TRUST = "trust"  # the key of the metadata; nodes are named "trust/..."


class _Nodes:
    """Nodes and constants in the making."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def node(self, op: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        from onnx import helper

        name = f"trust/{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [out or name], name=name, **attributes))
        return out or name

    def array(self, value: Any, kind: Any = np.float32) -> str:
        from onnx import numpy_helper

        name = f"trust/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def stored(self, value: np.ndarray) -> str:
        """A large constant in 16 bits, used in 32."""
        from onnx import TensorProto

        return self.node("Cast", self.array(value, np.float16), to=TensorProto.FLOAT)

    def unit(self, x: str) -> str:
        """Rows of length 1."""
        length = self.node("ReduceL2", x, self.array([1], np.int64), keepdims=1)
        return self.node("Div", x, self.node("Max", length, self.array([TINY])))

    def rank(self, usual: np.ndarray, x: str) -> str:
        """(N, 1) -> (N, 1): Familiarity's rank among ascending numbers (n,), n at least 2."""
        from onnx import TensorProto

        values, n = self.array(usual), len(usual)
        below = self.node("Cast", self.node("GreaterOrEqual", x, values), to=TensorProto.FLOAT)
        count = self.node("ReduceSum", below, self.array([1], np.int64), keepdims=1)
        place = self.node("Sub", count, self.array([1.0]))
        place = self.node("Min", self.node("Max", place, self.array([0.0])), self.array([n - 2.0]))
        at = self.node("Cast", place, to=TensorProto.INT64)
        low = self.node("Gather", values, at, axis=0)
        high = self.node("Gather", values, self.node("Add", at, self.array([1], np.int64)), axis=0)
        step = self.node("Max", self.node("Sub", high, low), self.array([TINY]))
        part = self.node("Div", self.node("Sub", x, low), step)
        part = self.node("Min", self.node("Max", part, self.array([0.0])), self.array([1.0]))
        inside = self.node("Mul", self.node("Add", place, part), self.array([1 / (n - 1)]))
        over = self.node("Sub", x, self.array([usual[-1]]))
        beyond = self.node("Mul", over, self.array([1 / max(float(usual[-1]), TINY)]))
        reached = self.node("GreaterOrEqual", x, self.array([usual[-1]]))
        return self.node("Where", reached, self.node("Add", beyond, self.array([1.0])), inside)

    def evidence(self, rank: str, n: int) -> str:
        """(N, 1) -> (N, 1): -log of the share of n usual pictures, and the picture itself, that is as far."""
        share = self.node("Mul", self.node("Min", rank, self.array([1.0])), self.array([n / (n + 1)]))
        told = self.node("Neg", self.node("Log", self.node("Sub", self.array([1.0]), share)))
        beyond = self.node("Max", self.node("Sub", rank, self.array([1.0])), self.array([0.0]))
        return self.node("Add", told, beyond)


def attach(graph: "GraphProto", trust: Trust, known: Known | None) -> None:
    """Put the operators behind a graph with the outputs "logits" (N, K) and, where it has it, "features" (N, D).

    Its outputs become "probabilities" (N, K), "logits" and, with known features, "strangeness" (N,).
    """
    from onnx import TensorProto, helper

    by_name = {value.name: value for value in graph.output}
    if LOGITS not in by_name or (known is not None and FEATURES not in by_name):
        raise FoveateError(f"a graph with outputs {sorted(by_name)}: expected logits and features")
    dims = by_name[LOGITS].type.tensor_type.shape.dim
    n, k = dims[0].dim_param or dims[0].dim_value or "N", dims[1].dim_value
    nodes = trust_nodes(trust, known)
    graph.node.extend(nodes.nodes)
    graph.initializer.extend(nodes.constants)
    kept = [helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, [n, k]), by_name[LOGITS]]
    if known is not None:
        kept.append(helper.make_tensor_value_info(STRANGENESS, TensorProto.FLOAT, [n]))
    del graph.output[:]
    graph.output.extend(kept)


def trust_nodes(trust: Trust, known: Known | None) -> _Nodes:
    """The operators from "logits" and "features" to "probabilities" and "strangeness"."""
    g = _Nodes()
    scaled = g.node("Mul", LOGITS, g.array(trust.scale))
    if any(trust.shift):
        scaled = g.node("Add", scaled, g.array(trust.shift))
    g.node("Softmax", scaled, out=PROBABILITIES, axis=1)
    if known is None:
        return g
    first = g.array([1], np.int64)
    confidence = g.node("ReduceMax", PROBABILITIES, first, keepdims=1)
    doubt = g.node("Sub", g.array([1.0]), confidence)
    projected = g.node("MatMul", g.unit(FEATURES), g.stored(known.axes))
    length = np.linalg.norm(known.features.astype(np.float32), axis=1)
    near = g.node("MatMul", projected, g.stored(known.features.T))
    near = g.node(
        "Mul", near, g.array(1 / np.maximum(length, TINY))
    )  # stored in 16 bits they are not quite of length 1
    k = min(NEIGHBOURS, len(known.features))
    values = f"trust/nearest_{len(g.nodes)}"
    g.nodes.append(_top(near, g.array([k], np.int64), values))
    last = g.node("Slice", values, g.array([k - 1], np.int64), g.array([k], np.int64), first)
    distance = g.node("Sub", g.array([1.0]), last)
    distance = g.node("Where", g.node("IsNaN", distance), g.array([2.0]), distance)  # as far as can be
    ranks = (g.rank(known.distances, distance), g.rank(known.doubts, doubt))
    if known.sums is None:
        strange = g.node("Max", *ranks)
    else:
        both = zip(ranks, (len(known.distances), len(known.doubts)), strict=True)
        strange = g.rank(known.sums, g.node("Add", *(g.evidence(rank, n) for rank, n in both)))
    g.node("Squeeze", strange, first, out=STRANGENESS)
    return g


def _top(x: str, k: str, values: str) -> "NodeProto":
    from onnx import helper

    return helper.make_node("TopK", [x, k], [values, f"{values}_at"], name=values, axis=1, largest=1, sorted=1)


def trust_graph(trust: Trust, known: Known | None, classes: int) -> "GraphProto":
    """The operators alone, as a graph: "logits" and, with known features, "features" in."""
    from onnx import TensorProto, helper

    nodes = trust_nodes(trust, known)
    inputs = [helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, ["N", classes])]
    outputs = [helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, ["N", classes])]
    if known is not None:
        inputs.append(helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["N", len(known.axes)]))
        outputs.append(helper.make_tensor_value_info(STRANGENESS, TensorProto.FLOAT, ["N"]))
    return helper.make_graph(nodes.nodes, "trust", inputs, outputs, nodes.constants)


def with_trust(onnx: bytes, trust: Trust, known: Known | None) -> bytes:
    """A file of export_onnx or quantise whose outputs are "logits" and "features", with the operators behind them."""
    import onnx as library
    from onnx import helper

    model = library.ModelProto.FromString(onnx)
    attach(model.graph, trust, known)
    facts = {item.key: item.value for item in model.metadata_props} | trust_metadata(trust, known)
    del model.metadata_props[:]
    helper.set_model_props(model, facts)
    library.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def trust_metadata(trust: Trust, known: Known | None) -> dict[str, str]:
    """The metadata of a file: the record, without what its graph can not answer."""
    kept: Sequence[Any] = trust.keep if known is not None else ()
    trust = dataclasses.replace(trust, keep=tuple(kept), features_sha256=None)
    return {TRUST: json.dumps(to_dict(trust))}
