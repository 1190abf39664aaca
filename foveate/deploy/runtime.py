"""Opening an ONNX classifier safely: our own checks before onnxruntime sees a byte, then one session on the CPU."""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.config import from_json, parse_json
from foveate.data.preprocess import Preprocess
from foveate.deploy.bounds import check_bounds
from foveate.deploy.processor import warn_of
from foveate.deploy.trust_graph import FEATURES, LOGITS, OUTPUTS, STRANGENESS, TRUST
from foveate.errors import ConfigError, DataError, FoveateError, WeightsError
from foveate.train.trusted import PLAIN, Trust, check_trust

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, ValueInfoProto

MAX_BYTES = 2**31 - 1  # of a file: what protobuf can hold
MAX_STRUCTURE_BYTES = 16 * 2**20  # of a file without its weights; EfficientNet-Lite0 has 21 kB
MAX_ENTRIES = 100_000  # nodes, weights and shapes
_GRAPH, _WEIGHTS = 7, 5  # protobuf field numbers: ModelProto.graph, GraphProto.initializer
DOMAINS = ("", "ai.onnx")  # the standard operators; anything else may be somebody's native code
ORT_FORMAT = b"ORTM"  # at byte 4: onnxruntime's own format, which it would open without looking at it as ONNX
REFUSED_OPS = ("If", "Loop", "Scan", "SequenceMap")  # a classifier needs none; a loop can run for ever


@dataclass(frozen=True)
class Session:
    """An opened classifier."""

    classes: tuple[str, ...]
    preprocess: Preprocess
    metadata: Mapping[str, str]
    threads: int
    size_bytes: int
    _session: Any = field(repr=False)
    outputs: tuple[str, ...] = (LOGITS,)
    trust: Trust = PLAIN  # what the file knows of its answers

    def run(self, images: np.ndarray) -> np.ndarray:
        """Logits float32 (N, K) of pictures uint8 (N, H, W, 3), RGB, upright, any size. DataError for anything else."""
        return self.answer(images, (LOGITS,))[LOGITS]

    def answer(self, images: np.ndarray, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """The same for all outputs, or those named: "logits" and what else the file has (outputs)."""
        names = list(names or self.outputs)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape:
            raise DataError(f"images {images.dtype} {images.shape}: expected uint8 (N, H, W, 3), none of them 0")
        try:
            found = self._session.run(names, {"image": images})
        except Exception as error:  # onnxruntime's own classes, and MemoryError
            raise FoveateError(f"the model failed on pictures {images.shape}: {first_line(error)}") from error
        return dict(zip(names, found, strict=True))


def open_session(source: bytes | str | Path, threads: int = 1) -> Session:
    """Open an ONNX file that export_onnx wrote, or its bytes, on the CPU with that many threads.

    WeightsError, before onnxruntime sees the file, for: not a regular file, too large, not ONNX, data outside the file,
    operators that are not standard, loops and branches, functions, too many nodes, tensors or arithmetic that no
    classifier needs (bounds.py), or not a classifier of foveate. What onnxruntime gets is what was checked, written
    anew from it, never the file or its bytes.
    A warning where it is int8 that this processor would compute wrongly.
    """
    if threads < 1:
        raise ConfigError(f"threads = {threads}: at least 1")
    name = "ONNX bytes" if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else read_file(Path(source))
    try:
        model, metadata, classes, preprocess = checked_model(data)
        rewritten = written(model)
    except WeightsError as error:
        raise WeightsError(f"{name}: {error}") from error.__cause__
    warn_of(metadata, name)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors come as exceptions
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        session = onnxruntime.InferenceSession(rewritten, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise WeightsError(f"{name}: onnxruntime can not load it: {first_line(error)}") from error
    outputs, trust = tuple(value.name for value in model.graph.output), read_trust(metadata, len(classes))
    return Session(classes, preprocess, metadata, threads, len(data), session, outputs, trust)


def inspect(data: bytes) -> tuple[dict[str, str], tuple[str, ...], Preprocess]:
    """(metadata, classes, preprocessing) of an ONNX classifier after all checks; WeightsError where one fails."""
    return checked_model(data)[1:]


def written(model: "ModelProto") -> bytes:
    """A checked model as bytes that no runtime can take for another format."""
    data = model.SerializeToString(deterministic=True)
    if data[4:8] == ORT_FORMAT:
        raise WeightsError("it is made to be taken for a file of onnxruntime's own format")
    return data


def checked_model(data: bytes) -> tuple["ModelProto", dict[str, str], tuple[str, ...], Preprocess]:
    """The model itself, too, with nothing in it that the checks do not know."""
    import onnx
    from google.protobuf.message import DecodeError

    if len(data) > MAX_BYTES:
        raise WeightsError(f"{len(data):,} bytes; at most {MAX_BYTES:,}")
    if data[4:8] == ORT_FORMAT:
        raise WeightsError("a file of onnxruntime's own format (ORTM), not ONNX; export the model to ONNX")
    _check_amount(data)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, RuntimeError, ValueError) as error:
        raise WeightsError("not an ONNX file, or damaged") from error
    model.DiscardUnknownFields()
    if not model.graph.node:
        raise WeightsError("not an ONNX file: it holds no graph")
    _check_structure(model)
    metadata = {item.key: item.value for item in model.metadata_props}
    try:
        names = parse_json(metadata.get("classes", ""), "classes")
        preprocess: Preprocess = from_json(Preprocess, metadata.get("preprocess", ""), "preprocess")
    except ConfigError as error:
        raise WeightsError(f"not a classifier that foveate exported ({error})") from None
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise WeightsError("not a classifier that foveate exported (classes: expected a list of texts)")
    _check_interface(model.graph, len(names))
    check_bounds(model, preprocess, len(data))
    return model, metadata, tuple(names), preprocess


def read_trust(metadata: Mapping[str, str], classes: int) -> Trust:
    """What an exported file knows of its answers; PLAIN where it says nothing. WeightsError where it is damaged."""
    if TRUST not in metadata:
        return PLAIN
    try:
        trust: Trust = from_json(Trust, metadata[TRUST], TRUST)
        check_trust(trust, classes, "metadata")
    except ConfigError as error:
        raise WeightsError(f"not a classifier that foveate exported ({error})") from None
    return trust


def read_file(path: Path, what: str = "an ONNX file", at_most: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file that is not too large. A pipe or a device is never read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:
            info = os.fstat(descriptor)
            if not stat.S_ISREG(info.st_mode):
                raise WeightsError(f"{path}: not a regular file; expected {what}")
            if info.st_size > at_most:
                raise WeightsError(f"{path}: {info.st_size:,} bytes; at most {at_most:,}")
            return file.read(at_most + 1)
    except OSError as error:
        raise WeightsError(f"{path}: {(error.strerror or str(error)).lower()}; expected {what}") from None


def _check_amount(data: bytes) -> None:
    """Not too much beside the weights. Read off the bytes, for protobuf would make an object of each two of them."""
    entries = structure_bytes = 0
    for number, start, end in _fields(data, 0, len(data)):
        if number != _GRAPH:
            structure_bytes += end - start
        else:
            for inner, first, last in _fields(data, start, end):
                entries += 1
                structure_bytes += last - first if inner != _WEIGHTS else 0
                if entries > MAX_ENTRIES:
                    raise WeightsError(f"over {MAX_ENTRIES:,} nodes and weights; no classifier has so many")
        if structure_bytes > MAX_STRUCTURE_BYTES:
            raise WeightsError(f"over {MAX_STRUCTURE_BYTES:,} bytes beside the weights; no classifier has so many")


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(field number, start, end) of each field of a protobuf message; WeightsError where it is not one."""
    while at < end:
        key, at = _varint(data, at, end)
        match key & 7:
            case 0:
                _, stop = _varint(data, at, end)
            case 1:
                stop = at + 8
            case 2:
                length, at = _varint(data, at, end)
                stop = at + length
            case 5:
                stop = at + 4
            case _:
                raise WeightsError("not an ONNX file, or damaged")
        if stop > end:
            raise WeightsError("not an ONNX file, or damaged: it ends too early")
        yield key >> 3, at, stop
        at = stop


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """(value, where it ends): seven bits a byte, lowest first."""
    value = 0
    for i, byte in enumerate(data[at : min(at + 10, end)]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, at + i + 1
    raise WeightsError("not an ONNX file, or damaged")


def _check_structure(model: "ModelProto") -> None:
    """No data outside the file, only standard operators, no loops; in graphs inside graphs, too."""
    if model.functions or model.training_info:
        raise WeightsError("it holds functions or training graphs; a classifier needs none")
    for opset in model.opset_import:
        if opset.domain not in DOMAINS:
            raise WeightsError(f'operators of "{opset.domain}"; only standard ONNX operators are run')
    if len(model.opset_import) != 1:
        raise WeightsError(
            f"{len(model.opset_import)} sets of operators; expected one, so that it is clear which counts"
        )
    for graph in _graphs(model.graph):
        for tensor in _tensors(graph):
            if tensor.external_data or tensor.data_location != tensor.DEFAULT:
                raise WeightsError(
                    f'the weights "{tensor.name}" are outside the file; export it with its weights inside'
                )
        for node in graph.node:
            if node.domain not in DOMAINS:
                raise WeightsError(f'operator {node.op_type} of "{node.domain}"; only standard ONNX operators are run')
            if node.op_type in REFUSED_OPS:
                raise WeightsError(f"operator {node.op_type}; loops and branches are not run")


def _graphs(graph: "GraphProto") -> Iterator["GraphProto"]:
    """A graph and all graphs inside its nodes. Protobuf itself ends nesting at 100 levels."""
    yield graph
    for attribute in _attributes(graph):
        if attribute.HasField("g"):
            yield from _graphs(attribute.g)
        for inner in attribute.graphs:
            yield from _graphs(inner)


def _attributes(graph: "GraphProto") -> Iterator["AttributeProto"]:
    for node in graph.node:
        yield from node.attribute


def _tensors(graph: "GraphProto") -> Iterator["TensorProto"]:
    """All tensors stored in a graph itself."""
    yield from graph.initializer
    sparse = list(graph.sparse_initializer)
    for attribute in _attributes(graph):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        if attribute.HasField("sparse_tensor"):
            sparse.append(attribute.sparse_tensor)
        sparse.extend(attribute.sparse_tensors)
    for tensor in sparse:
        yield tensor.values
        yield tensor.indices


def _check_interface(graph: "GraphProto", classes: int) -> None:
    """One picture input, one row of logits a picture out, as many as there are class names."""
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [_shape(v) for v in graph.input if v.name not in stored]
    outputs = [_shape(v) for v in graph.output]
    if len(inputs) != 1 or inputs[0][:2] != ("image", 2) or len(inputs[0][2]) != 4 or inputs[0][2][3] != 3:
        raise WeightsError(f"inputs {inputs}: expected one, image uint8 (N, H, W, 3)")
    kinds = {name: (kind, len(shape)) for name, kind, shape in outputs}
    known = {name: (1, 1 if name == STRANGENESS else 2) for name in (*OUTPUTS, FEATURES)}
    rows = [shape[1:] for name, _, shape in outputs if name in OUTPUTS[:2]]
    fine = len(kinds) == len(outputs) and all(known.get(name) == kind for name, kind in kinds.items())
    if not fine or LOGITS not in kinds or any(row != (classes,) for row in rows):
        beside = "beside it at most probabilities, strangeness and features"
        raise WeightsError(f"outputs {outputs}: expected one, logits float32 (N, {classes}), a name a class; {beside}")


def _shape(value: "ValueInfoProto") -> tuple[str, int, tuple[int, ...]]:
    """(name, element type, shape with 0 for what is free)."""
    tensor = value.type.tensor_type
    return value.name, tensor.elem_type, tuple(d.dim_value for d in tensor.shape.dim)


def first_line(error: BaseException) -> str:
    """What an error of another library says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
