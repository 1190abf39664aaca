"""The shape of every tensor of an ONNX graph, where sizes are computed from sizes, without running anything large.

onnx's shape inference does not follow numbers, or follows them whatever they cost. So it is asked in turns with a
folding of what is small and known: the Shape of a tensor whose shape is known, and arithmetic on such vectors.
"""

import contextlib
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Shape = tuple[int, ...]
SMALL = 1024  # numbers of a vector that may be sizes
TURNS = 64  # of inference and folding: each begins where the one before stopped
FOLDED = {"Abs", "Add", "And", "Cast", "Ceil", "Concat", "Constant", "Div", "Equal", "Floor", "Gather", "Greater"}
FOLDED |= {"Identity", "Less", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "ReduceMax", "ReduceMin", "ReduceProd"}
FOLDED |= {"Reshape", "Round", "Shape", "Size", "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze"}
FOLDED |= {"Where"}
MADE = {"ConstantOfShape", "Range", "Expand", "Tile"}  # folded where what they are asked for is small


def infer_sizes(model: "ModelProto") -> dict[str, Shape]:
    """Name -> shape, of all tensors whose shape can be known. model: its inputs have known sizes."""
    from onnx import numpy_helper, shape_inference

    known = dict[str, np.ndarray]()
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= SMALL:
            with contextlib.suppress(ValueError, TypeError):  # fewer numbers than it says: onnxruntime refuses it
                known[tensor.name] = numpy_helper.to_array(tensor)
    shapes: dict[str, Shape] = {v.name: _sizes(v) or () for v in model.graph.input}
    for _ in range(TURNS):
        inferred = shape_inference.infer_shapes(model)
        found = {v.name: s for v in inferred.graph.value_info if (s := _sizes(v)) is not None}
        shapes |= found
        if all(name in shapes for node in model.graph.node for name in node.output if name):
            break
        folded = _fold(model, known, shapes)
        if not folded:
            break
        rest = [node for node in model.graph.node if not set(node.output) <= folded.keys()]
        del model.graph.node[:]
        model.graph.node.extend(rest)
        model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in folded.items())
        shapes |= {name: value.shape for name, value in folded.items()}
    return shapes


def _sizes(value: object) -> Shape | None:
    """The shape that a value has; None where one side is open."""
    kind = value.type.tensor_type  # type: ignore[attr-defined]
    if not kind.HasField("shape") or not all(d.HasField("dim_value") and d.dim_value >= 0 for d in kind.shape.dim):
        return None
    return tuple(d.dim_value for d in kind.shape.dim)


def _fold(model: "ModelProto", known: dict[str, np.ndarray], shapes: dict[str, Shape]) -> dict[str, np.ndarray]:
    """Numbers that follow from known ones, added to `known` too: what one pass over the nodes, in order, gives."""
    new: dict[str, np.ndarray] = {}
    for node in model.graph.node:
        if node.op_type not in FOLDED | MADE or not node.output[0] or node.output[0] in known:
            continue
        value = _value(node, known, shapes)
        if value is not None:
            new[node.output[0]] = known[node.output[0]] = value
    return new


def _value(node: "NodeProto", known: dict[str, np.ndarray], shapes: dict[str, Shape]) -> np.ndarray | None:
    """The one output of a node, computed where its inputs are known and it is small."""
    from onnx.reference import ReferenceEvaluator

    if len(node.output) != 1:
        return None
    if node.op_type in ("Shape", "Size") and node.input[0] in shapes and node.input[0] not in known:
        sizes = shapes[node.input[0]]
        if node.op_type == "Size":
            return np.array(math.prod(sizes), np.int64)
        ends = {a.name: a.i for a in node.attribute}
        return np.array(sizes[ends.get("start", 0) : ends.get("end")], np.int64)
    inputs = {name: known[name] for name in node.input if name in known}
    if len(inputs) != len({name for name in node.input if name}) or _asked(node, inputs) > SMALL:
        return None
    try:
        (value,) = ReferenceEvaluator(node).run(None, inputs)
    except Exception:  # whatever a node of a stranger's file makes of odd numbers: it stays unknown
        return None
    made = np.asarray(value)
    return made if made.size <= SMALL else None


def _asked(node: "NodeProto", inputs: dict[str, np.ndarray]) -> float:
    """How many numbers a node will make at most, before it is computed."""
    first = [inputs[name] for name in node.input if name]
    match node.op_type:
        case "ConstantOfShape":
            return float(np.prod(np.maximum(first[0].astype(np.float64), 0)))
        case "Range":
            start, limit, step = (float(np.ravel(v)[0]) for v in first)
            return abs((limit - start) / step) + 1 if step else math.inf
        case "Expand":
            return float(first[0].size * np.prod(np.maximum(first[1].astype(np.float64), 1)))
        case "Tile":
            return float(first[0].size * np.prod(np.maximum(first[1].astype(np.float64), 0)))
        case "Gather":
            return float(first[0].size * first[1].size)
        case "Constant":
            return 0.0
    if node.op_type in FOLDED and len(first) > 1 and node.op_type not in ("Concat", "Reshape", "Slice", "Unsqueeze"):
        return float(math.prod(v.size for v in first))  # crosswise at most
    return float(sum(v.size for v in first))
