"""What an ONNX classifier will ask for when it runs: the size of every tensor and the arithmetic, before it is run.

A few bytes can stand for a terabyte (ConstantOfShape, Expand, Tile, Range, Resize, two vectors added crosswise) or for
a day of arithmetic. So every size is worked out by onnx's shape inference for one picture; a graph of which one size
can not be known, or is larger than any classifier needs, is refused.
"""

import math
from typing import TYPE_CHECKING

from foveate.data.preprocess import Preprocess
from foveate.deploy.graph import INPUT, PIXELS, preprocess_graph
from foveate.deploy.sizes import SMALL, infer_sizes
from foveate.errors import WeightsError

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

Shape = tuple[int, ...]

# for one picture: EfficientNet-L2 at 800 pixels has 0.5 GB at a time and 0.5 * 10^12 multiply-adds
MAX_LIVE_NUMBERS = 2**28
MAX_WORK = 10**13  # numbers read, written, multiplied
ANY_SIDE = 2048  # of a picture, where the network sees the picture itself and not what our preprocessing made of it
# loops over time, chance, texts: no image classifier has them, and their cost is not known here
REFUSED_OPS = {"RNN", "LSTM", "GRU", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
REFUSED_OPS |= {"Multinomial", "Bernoulli", "ImageDecoder", "StringNormalizer", "TfIdfVectorizer", "RegexFullMatch"}
REFUSED_OPS |= {"NonMaxSuppression", "STFT", "Det", "StringSplit", "StringConcat"}


def check_bounds(model: "ModelProto", preprocess: Preprocess, file_bytes: int) -> None:
    """WeightsError where running the graph once would take more memory or time than any classifier does."""
    try:
        _check_stored(model.graph, file_bytes)
        _check_sizes(model, preprocess)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, NotImplementedError) as error:
        # names that are no text, numbers that are not there, types that onnx does not know
        raise WeightsError(f"damaged ({(str(error) or type(error).__name__).splitlines()[0][:100]})") from None


def _check_sizes(model: "ModelProto", preprocess: Preprocess) -> None:
    """The sizes of all tensors and the arithmetic, node by node."""
    graph = model.graph
    defined = {"", *(t.name for t in graph.initializer), *(v.name for v in graph.input)}
    defined |= {name for node in graph.node for name in node.output}
    if any(name not in defined for node in graph.node for name in node.input):
        return  # no graph at all, which onnxruntime says before it runs anything
    ours = preprocess_graph(preprocess, graph.input[0].type.tensor_type.shape.dim[0].dim_value or None)
    nodes = _behind(graph, ours)
    batch = max(1, graph.input[0].type.tensor_type.shape.dim[0].dim_value)
    side = preprocess.resolution if len(nodes) < len(graph.node) else max(preprocess.resolution, ANY_SIDE)
    shapes = _shapes(model, nodes, side, batch)
    last = {name: at for at, node in enumerate(nodes) for name in node.input}
    live = work = 0
    held: dict[int, list[str]] = {}
    for at, node in enumerate(nodes):
        if node.op_type in REFUSED_OPS:
            raise WeightsError(f"operator {node.op_type}; no image classifier has it, and it is not run")
        for name in node.output:
            if name:
                live += math.prod(shapes[name])
                held.setdefault(last.get(name, at), []).append(name)
        work += _work(node, shapes)
        if live > MAX_LIVE_NUMBERS * batch or work > MAX_WORK * batch:
            raise WeightsError(
                f"operator {node.op_type} would make {live:,} numbers at a time, {work:.0e} operations; a classifier "
                f"needs at most {MAX_LIVE_NUMBERS:,} and {MAX_WORK:.0e} for a picture"
            )
        for name in held.pop(at, ()):
            live -= math.prod(shapes[name])


def _check_stored(graph: "GraphProto", file_bytes: int) -> None:
    """Nothing stored is larger than the file, sparse, or there twice."""
    names = [t.name for t in graph.initializer] + [name for node in graph.node for name in node.output if name]
    names += [v.name for v in graph.input if v.name not in {t.name for t in graph.initializer}]
    if len(set(names)) != len(names):
        raise WeightsError("two of its tensors have one name; which counts is not clear")
    if graph.sparse_initializer:
        raise WeightsError("it holds sparse weights; a classifier needs none")
    tensors = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs:
                raise WeightsError(f"operator {node.op_type} holds a graph; loops and branches are not run")
            if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                raise WeightsError("it holds sparse weights; a classifier needs none")
            tensors += [attribute.t] if attribute.HasField("t") else []
            tensors += attribute.tensors
    for tensor in tensors:
        if any(n < 0 for n in tensor.dims) or math.prod(tensor.dims) > 8 * file_bytes:
            raise WeightsError(f'the weights "{tensor.name[:60]}" are said to be larger than the file')


def _behind(graph: "GraphProto", ours: "GraphProto") -> "list[NodeProto]":
    """The nodes behind our own preprocessing, where the graph begins with exactly that; all nodes where it does not.

    How our preprocessing resizes depends on the picture, so its sizes can not be known; what comes out is R x R.
    """
    names, stored = {node.name for node in ours.node}, {t.name: t for t in graph.initializer}
    first = sorted(_said(node) for node in graph.node if node.name in names)
    same = first == sorted(_said(node) for node in ours.node)
    same = same and all(t.name in stored and _numbers(stored[t.name]) == _numbers(t) for t in ours.initializer)
    return [node for node in graph.node if node.name not in names] if same else list(graph.node)


def _said(node: "NodeProto") -> tuple[str, tuple[str, ...], tuple[str, ...], tuple[bytes, ...]]:
    """What a node does: operator, tensors without absent ones at the end, attributes."""
    inputs = list(node.input)
    while inputs and not inputs[-1]:
        inputs.pop()
    attributes = sorted(a.SerializeToString(deterministic=True) for a in node.attribute)
    return node.op_type, tuple(inputs), tuple(node.output), tuple(attributes)


def _numbers(tensor: "TensorProto") -> tuple[object, ...]:
    from onnx import numpy_helper

    return tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes()


def _shapes(model: "ModelProto", nodes: "list[NodeProto]", side: int, batch: int) -> dict[str, Shape]:
    """The shape of every tensor for square pictures; WeightsError where one is not known."""
    import onnx
    from onnx import helper

    image = helper.make_tensor_value_info(INPUT, onnx.TensorProto.UINT8, [batch, side, side, 3])
    pixels = helper.make_tensor_value_info(PIXELS, onnx.TensorProto.FLOAT, [batch, 3, side, side])
    made = {name for node in nodes for name in node.output}
    inputs = [image] if PIXELS in made else [image, pixels]
    small: list[TensorProto] = []  # of larger ones the shape alone is looked at
    shapes: dict[str, Shape] = {INPUT: (batch, side, side, 3), PIXELS: (batch, 3, side, side)}
    for tensor in model.graph.initializer:
        shapes[tensor.name] = tuple(tensor.dims)
        if math.prod(tensor.dims) <= SMALL:
            small.append(tensor)
        else:
            inputs.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    skeleton = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    skeleton.graph.CopyFrom(helper.make_graph(nodes, "sizes", inputs, [], small))
    try:
        shapes |= infer_sizes(skeleton)
    except (RuntimeError, ValueError, TypeError, onnx.shape_inference.InferenceError) as error:
        raise WeightsError(f"its sizes can not be worked out ({type(error).__name__}); export it again") from None
    if unknown := _unknown(nodes, shapes):
        raise WeightsError(f"operator {unknown}: its size is not known before it runs; export it again")
    return shapes


def _unknown(nodes: "list[NodeProto]", shapes: dict[str, Shape]) -> str:
    """The first operator with an output of unknown shape; "" where there is none."""
    return next((n.op_type for n in nodes if any(name and name not in shapes for name in n.output)), "")


def _indices(node: "NodeProto", ins: "list[Shape]") -> int:
    """Multiplications of an Einsum: the product of the sizes of all its indices."""
    equation = next((a.s.decode("ascii", "replace") for a in node.attribute if a.name == "equation"), "")
    sizes: dict[str, int] = {}
    for term, shape in zip(equation.partition("->")[0].replace(" ", "").split(","), ins, strict=False):
        if "." in term or len(term) != len(shape):
            return MAX_WORK + 1  # a form that none of our networks has
        for letter, size in zip(term, shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    return math.prod(sizes.values()) * max(1, len(ins) - 1)


def _work(node: "NodeProto", shapes: dict[str, Shape]) -> int:
    """About how many numbers a node reads, writes and multiplies; the kernel counts where there is one."""
    ins = [shapes.get(name, ()) for name in node.input if name]
    out = sum(math.prod(shapes[name]) for name in node.output if name)
    read = sum(map(math.prod, ins))
    match node.op_type:
        case "Conv" | "ConvInteger" | "QLinearConv" | "ConvTranspose" | "DeformConv":
            kernels = max(ins[1:], key=math.prod, default=())
            positions = out if node.op_type != "ConvTranspose" else math.prod(ins[0])
            return read + positions * math.prod(kernels[1:])
        case "MatMul" | "Gemm" | "MatMulInteger" | "QLinearMatMul":
            return read + out * max((max(shape, default=1) for shape in ins[:2]), default=1)
        case "Einsum":
            return read + out + _indices(node, [shapes.get(name, ()) for name in node.input])
        case "DFT":
            return (read + out) * max((max(shape, default=1) for shape in ins), default=1)
    steps = [a for a in node.attribute if a.name in ("kernel_shape", "size")]
    return read + out * max([1, *(abs(math.prod(a.ints or [a.i])) for a in steps)])
