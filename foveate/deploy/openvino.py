"""OpenVINO, the optional runtime: an exported ONNX classifier as an OpenVINO model, compiled, run, saved and opened.

Its ONNX reader takes Resize with antialias and then resizes without (2026.4, processors): pictures that are not of the
right size already would give other logits. So the preprocessing's Resize is put in anew, in OpenVINO's Pillow mode,
whose bytes equal Pillow's or differ by a level, rarely.
"""

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import io
import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.config import from_json, parse_json, to_dict
from foveate.data.preprocess import Preprocess, framed, sized
from foveate.deploy.graph import INPUT, OPSET, PIXELS, preprocess_graph
from foveate.deploy.openvino_xml import check_sizes, checked_xml
from foveate.deploy.processor import HOLDS, KEY, Bits, bits_here, warn_of
from foveate.deploy.runtime import MAX_BYTES, Session, first_line, inspect, read_file, read_trust
from foveate.deploy.trust_graph import FEATURES, LOGITS, PROBABILITIES, STRANGENESS, trust_graph, trust_metadata
from foveate.errors import ConfigError, FoveateError, WeightsError
from foveate.train.trusted import Known, Trust

if TYPE_CHECKING:
    from onnx import GraphProto

EXTRA = 'pip install "foveate[openvino]"'
HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}  # what floating-point operations run in
RESIZE = "image/resize"
FACTS = "foveate"  # our part of the model's rt_info
MAX_XML_BYTES = 64 * 2**20
ANSWERS = (PROBABILITIES, LOGITS, STRANGENESS, FEATURES)  # names that outputs have
KNOWN_BATCHES = 3  # sizes of batch that are compiled for, each


def missing(precision: str = "fp32") -> str | None:
    """Why OpenVINO can not run here in this precision, and what to do; None where it can."""
    if importlib.util.find_spec("openvino") is None:
        return f"OpenVINO is not installed: {EXTRA}"
    if precision == "int8" and importlib.util.find_spec("nncf") is None:
        return f"NNCF is not installed: {EXTRA}"
    if precision == "bf16" and "BF16" not in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return "this processor has no bf16 arithmetic"
    return None


def require(precision: str = "fp32") -> None:
    """ConfigError with the extra to install where OpenVINO can not run here."""
    if (reason := missing(precision)) is not None:
        raise ConfigError(reason)


def version() -> str:
    """ "openvino 2026.4.1"."""
    from importlib.metadata import version as installed

    return f"openvino {installed('openvino')}"


def convert(onnx: bytes) -> Any:
    """The openvino.Model of a file that export_onnx wrote: the same input and output, any batch and size of picture.

    Names of classes, preprocessing and the other metadata go along (rt_info "foveate"). ConfigError without OpenVINO.
    """
    return whole(network(onnx), onnx)


def network(onnx: bytes) -> Any:
    """The openvino.Model of the network alone: "pixels" float32 (N, 3, R, R), normalised -> "logits"."""
    require()
    _, _, preprocess = inspect(onnx)
    return _read_graph(_without_preprocessing(onnx, preprocess))


def quantised(
    onnx: bytes, pictures: Sequence[np.ndarray], excluded: Sequence[str] = (), bits: Bits | None = None
) -> Any:
    """network() in int8 by NNCF (post-training, mixed preset, bias correction): weights per channel.

    pictures: decoded uint8 (H, W, 3), for calibration; they go through our own preprocessing. excluded: names of ONNX
    nodes that stay float. bits: of weights, as in quantise(); with 8, NNCF gives the first layer 7.
    ConfigError without NNCF; DataError without pictures.
    """
    from foveate.deploy.quantise import checked, ready

    require("int8")
    _, _, preprocess = inspect(onnx)
    items = [ready(picture, preprocess) for picture in checked(pictures)]
    net, bits = network(onnx), bits or bits_here()
    with _silent() as nncf:
        known = {op.get_friendly_name() for op in net.get_ops()}
        kept = [name for one in excluded for name in (one, f"{one}/WithoutBiases") if name in known]
        reduced = nncf.OverflowFix.ENABLE if bits == 7 else nncf.OverflowFix.FIRST_LAYER
        made = nncf.quantize(
            net,
            nncf.Dataset(items),
            subset_size=len(items),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=kept) if kept else None,
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=reduced),
        )
    made.set_rt_info(HOLDS[bits], [FACTS, KEY])
    return made


def whole(net: Any, onnx: bytes) -> Any:
    """Preprocessing + network() or quantised() as one model, with the metadata of the ONNX file."""
    openvino, net = library(), net.clone()
    opset11 = importlib.import_module("openvino.opset11")
    metadata, _, preprocess = inspect(onnx)
    if net.has_rt_info([FACTS, KEY]):
        metadata[KEY] = str(net.get_rt_info([FACTS, KEY]).astype(str))
    first = _read_graph(preprocess_graph(preprocess))
    resize = next(op for op in first.get_ops() if op.get_type_name() == "Interpolate")
    resize.output(0).replace(_pillow(resize, preprocess.kernel))
    side = preprocess.resolution
    shape = opset11.constant(np.array([-1, preprocess.channels, side, side], np.int64))
    pixels = opset11.reshape(first.get_results()[0].input_value(0), shape, special_zero=False)
    net.get_parameters()[0].output(0).replace(pixels.output(0))
    made = openvino.Model(net.get_results(), first.get_parameters(), "classifier")
    for key, value in metadata.items():
        made.set_rt_info(value, [FACTS, key])
    made.set_rt_info(json.dumps(to_dict(preprocess)), [FACTS, "preprocess"])
    return made


def session(model: Any, threads: int = 1, precision: str = "fp32", *, resize_inside: bool = False) -> Session:
    """A model of convert() or whole() for the processor with that many threads.

    Pictures are resized by Pillow before they go in, which gives the same bytes as the model's own resize:
    OpenVINO's Pillow mode takes half a second for every new size of picture, and then ten times as long as Pillow.
    resize_inside: let the model do it.
    """
    if threads < 1:
        raise ConfigError(f"threads = {threads}: at least 1")
    require(precision)
    facts = {str(k): str(v.astype(str)) for k, v in model.get_rt_info([FACTS]).astype(dict).items()}
    classes, preprocess = _facts(facts)
    warn_of(facts | {"precision": precision}, "OpenVINO model")
    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "ENABLE_CPU_PINNING": False,
    }
    weights = sum(op.get_data().nbytes for op in model.get_ops() if op.get_type_name() == "Constant")
    runner = _Runner(model, settings, None if resize_inside else preprocess)
    runner.request(1)  # so that a model that can not be compiled is refused here
    outputs = tuple(name for output in model.outputs for name in sorted(output.get_names()) if name in ANSWERS)
    trust = read_trust(facts, len(classes))
    return Session(classes, preprocess, facts, threads, weights, runner, outputs, trust)


class _Runner:
    """Compiled models behind the one call of an onnxruntime session that Session makes. A model is compiled for each
    batch when it is first met: with a known size it is faster.
    """

    def __init__(self, model: Any, settings: dict[str, Any], preprocess: Preprocess | None):
        self.model, self.settings, self.preprocess = model.clone(), settings, preprocess
        self.side = -1 if preprocess is None else sized(preprocess)
        self.requests: dict[int, Any] = {}
        if preprocess is not None:
            resize = next(op for op in self.model.get_ops() if op.get_friendly_name() == RESIZE)
            resize.output(0).replace(resize.input_value(0))

    def run(self, names: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        pictures = feeds[INPUT]
        if self.preprocess is not None and pictures.shape[1:3] != (self.side, self.side):
            pictures = np.stack([framed(picture, self.preprocess) for picture in pictures])
        answer = self.request(len(pictures)).infer({INPUT: np.ascontiguousarray(pictures)})
        return [answer[name].copy() for name in names]

    def request(self, batch: int) -> Any:
        """Compiled for a batch; past a few different ones, for any."""
        key = batch if batch in self.requests or len(self.requests) < KNOWN_BATCHES else -1
        if key not in self.requests:
            model = self.model.clone()
            model.reshape({INPUT: library().PartialShape([key, self.side, self.side, 3])})
            check_sizes(model.get_ops(), max(1, key))
            try:
                compiled = _core().compile_model(model, "CPU", self.settings)
            except Exception as error:
                raise FoveateError(f"OpenVINO can not compile the model: {first_line(error)}") from error
            self.requests[key] = compiled.create_infer_request()
        return self.requests[key]


def trusted(model: Any, trust: Trust, known: Known | None) -> Any:
    """A model with the outputs "logits" and "features" as one that answers probabilities and strangeness, too."""
    net = model.clone()
    classes = net.output(LOGITS).get_partial_shape()[1].get_length()
    behind = _read_graph(trust_graph(trust, known, classes))
    for parameter in behind.get_parameters():
        source = net.output(parameter.get_friendly_name()).get_node().input_value(0)
        parameter.output(0).replace(source)
    logits = next(r for r in net.get_results() if LOGITS in r.output(0).get_names())
    probabilities, *rest = behind.get_results()
    made = library().Model([probabilities, logits, *rest], net.get_parameters(), "classifier")
    facts = {str(k): str(v.astype(str)) for k, v in model.get_rt_info([FACTS]).astype(dict).items()}
    for key, value in (facts | trust_metadata(trust, known)).items():
        made.set_rt_info(value, [FACTS, key])
    return made


def trusted_files(graph: bytes, weights: bytes, trust: Trust, known: Known | None) -> tuple[bytes, bytes]:
    """(.xml, .bin) of trusted() for files of a model that was just made here."""
    model = _core().read_model(
        checked_xml(graph, len(weights)), library().Tensor(np.frombuffer(weights, np.uint8).copy())
    )
    precision = str(model.get_rt_info([FACTS, "precision"]).astype(str))
    return model_files(trusted(model, trust, known), precision)


def model_files(model: Any, precision: str = "fp32") -> tuple[bytes, bytes]:
    """(.xml, .bin) of a model: the graph, with the checksum of the weights in it, and the weights."""
    openvino = library()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        weights = path.with_suffix(".bin").read_bytes()
        model.set_rt_info(hashlib.sha256(weights).hexdigest(), [FACTS, "weights_sha256"])
        model.set_rt_info(precision, [FACTS, "precision"])
        openvino.save_model(model, path, compress_to_fp16=False)
        if path.with_suffix(".bin").read_bytes() != weights:
            raise FoveateError("OpenVINO wrote other weights the second time; nothing is kept")
        return path.read_bytes(), weights


def open_openvino(path: str | Path, threads: int = 1) -> Session:
    """Open a .xml that foveate exported, with the .bin beside it, in the precision that was exported.

    WeightsError where either is missing, too large or damaged, or the weights are not those that the graph names.
    What OpenVINO gets is XML that was checked (openvino_xml.py), written anew: standard operators, no loops, constants
    inside the .bin, sizes that a classifier may have. Not ruled out: a graph that takes much time when it runs.
    """
    require()
    path = Path(path)
    graph = read_file(path, "an OpenVINO .xml", MAX_XML_BYTES)
    weights = read_file(path.with_suffix(".bin"), "the weights of an OpenVINO .xml", MAX_BYTES)
    return opened(graph, weights, threads, str(path))


def opened(
    graph: bytes, weights: bytes, threads: int = 1, name: str = "OpenVINO model", *, resize_inside: bool = False
) -> Session:
    """The same from the bytes of both files. resize_inside: as in session()."""
    require()
    try:
        checked = checked_xml(graph, len(weights))
    except WeightsError as error:
        raise WeightsError(f"{name}: {error}") from None
    try:
        held = library().Tensor(np.frombuffer(weights, np.uint8).copy())
        model = _core().read_model(checked, held)
        facts = {key: str(model.get_rt_info([FACTS, key]).astype(str)) for key in ("weights_sha256", "precision")}
    except Exception as error:
        raise WeightsError(f"{name}: not a classifier that foveate exported, or damaged: {first_line(error)}") from None
    if facts["weights_sha256"] != hashlib.sha256(weights).hexdigest() or facts["precision"] not in HINTS:
        raise WeightsError(f"{name}: the weights beside it are of another export; export it again")
    return session(model, threads, facts["precision"], resize_inside=resize_inside)


@functools.cache
def _core() -> Any:
    """The one engine of the process. It gives the thread that first uses it a stack for signals and frees that with
    itself: the next Ctrl-C would then end the process without a word (SIGSEGV), so it has to stay.
    """
    return library().Core()


def _facts(metadata: dict[str, str]) -> tuple[tuple[str, ...], Preprocess]:
    try:
        names = parse_json(metadata.get("classes", ""), "classes")
        preprocess: Preprocess = from_json(Preprocess, metadata.get("preprocess", ""), "preprocess")
    except ConfigError as error:
        raise WeightsError(f"not a classifier that foveate exported ({error})") from None
    return tuple(map(str, names)), preprocess


def _read_graph(graph: "GraphProto") -> Any:
    """An ONNX graph as openvino.Model."""
    from onnx import helper

    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    try:
        return _core().read_model(made.SerializeToString())
    except Exception as error:
        raise FoveateError(f"OpenVINO can not read the model: {first_line(error)}") from error


def _without_preprocessing(onnx: bytes, p: Preprocess) -> "GraphProto":
    """The graph from the normalised pixels on. Its side is known, so that OpenVINO folds all that depends on it."""
    from onnx import TensorProto, helper, load_from_string

    graph = load_from_string(onnx).graph
    nodes = [node for node in graph.node if not node.name.startswith("image/")]
    used = {name for node in nodes for name in node.input}
    batch = graph.input[0].type.tensor_type.shape.dim[0]
    n: Any = batch.dim_value or "N"
    pixels = helper.make_tensor_value_info(PIXELS, TensorProto.FLOAT, [n, p.channels, p.resolution, p.resolution])
    stored = [tensor for tensor in graph.initializer if tensor.name in used]
    return helper.make_graph(nodes, "network", [pixels], list(graph.output), stored)


def _pillow(resize: Any, kernel: str) -> Any:
    """The output of a resize to the same size in Pillow's arithmetic."""
    opset11 = importlib.import_module("openvino.opset11")
    rows_columns = opset11.constant(np.array([2, 3], np.int64))
    sizes = opset11.gather(resize.input_value(1), rows_columns, opset11.constant(np.array(0, np.int64)))
    made = opset11.interpolate(
        resize.input_value(0),
        sizes.output(0),
        mode=f"{kernel}_pillow",
        shape_calculation_mode="sizes",
        pads_begin=[0, 0, 0, 0],
        pads_end=[0, 0, 0, 0],
        antialias=False,
        cube_coeff=-0.5,
        axes=rows_columns,
    )
    made.set_friendly_name(RESIZE)
    return made.output(0)


def library(name: str = "openvino") -> Any:
    """openvino or nncf, imported with their usage statistics off: both would write a client number into the home
    folder and call their maker. They look at these variables once, while they are imported."""
    if name in sys.modules:
        return sys.modules[name]
    off, disabled = {"CI": "true", "NNCF_CI": "1"}, logging.root.manager.disable
    before = {key: os.environ.get(key) for key in off}
    os.environ.update(off)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            return importlib.import_module(name)
    finally:
        logging.disable(disabled)
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


@contextlib.contextmanager
def _silent() -> Iterator[Any]:
    """NNCF without its progress bars, log lines and warnings; what matters comes as an exception."""
    nncf, disabled = library("nncf"), logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield nncf
    finally:
        logging.disable(disabled)
