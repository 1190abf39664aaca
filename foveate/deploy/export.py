"""A classifier as one ONNX file: preprocessing, network, weights and class names inside, nothing beside it."""

import contextlib
import copy
import io
import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

import foveate
from foveate.config import to_dict
from foveate.data.preprocess import Preprocess
from foveate.deploy.graph import OPSET, PIXELS, preprocess_graph
from foveate.deploy.trust_graph import FEATURES, LOGITS, with_trust
from foveate.errors import ConfigError, FoveateError
from foveate.train.trusted import PLAIN, Known, Trust
from foveate.zoo.fuse import fuse_whitening

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

OUTPUT = LOGITS
IR_VERSION = 10  # read by every onnxruntime that we support
MAX_WEIGHT_BYTES = 1_900_000_000  # one protobuf message holds less than 2 GiB


class WithFeatures(nn.Module):
    """A network that also answers the mean over positions of its last map, by which strangers are told."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # (N, c, H, W) -> (N, K), (N, D)
        maps: torch.Tensor = self.model.forward_features(x)  # type: ignore[operator]  # every zoo module has both
        logits: torch.Tensor = self.model.forward_head(maps)  # type: ignore[operator]
        return logits, maps.mean((2, 3))


def has_features(model: nn.Module) -> bool:
    """Whether WithFeatures can be made of it."""
    return hasattr(model, "forward_features") and hasattr(model, "forward_head")


def export_trusted(
    model: nn.Module,
    preprocess: Preprocess,
    classes: Sequence[str],
    trust: Trust | None = None,
    known: Known | None = None,
    *,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """export_onnx with what the model folder knows of its answers inside: outputs "probabilities" (N, K) of the scaled
    logits, "logits" and, with known features, "strangeness" (N,)."""
    known = known if trust is not None and has_features(model) else None
    raw = export_onnx(model, preprocess, classes, metadata=metadata, features=known is not None)
    return with_trust(raw, trust or PLAIN, known)


def export_onnx(
    model: nn.Module,
    preprocess: Preprocess,
    classes: Sequence[str],
    *,
    metadata: Mapping[str, str] | None = None,
    features: bool = False,
) -> bytes:
    """The bytes of an ONNX file: "image" uint8 (N, H, W, 3), any N, H and W -> "logits" float32 (N, K).

    features: also "features" float32 (N, D), the means of the last map.

    The model is exported in eval mode and float32 from a copy, in which IterNorms are part of convolutions where they
    can be. Metadata keys of the file: "classes", "preprocess" and "architecture" (JSON), "foveate_version", and those
    given. Takes seconds: most of it is torch.export.
    ConfigError where classes and outputs differ in number; FoveateError where the model can not be exported.
    """
    frozen, facts = _frozen(model), dict(metadata or {})
    if (outputs := _outputs(frozen, preprocess)) != len(classes):
        raise ConfigError(f"{len(classes):,} classes, but the model has {outputs:,} outputs; give one name an output")
    fuse_whitening(frozen, _pixels(preprocess))
    facts |= {
        "classes": json.dumps(list(classes)),  # ASCII: any name survives, even one that is not UTF-8
        "preprocess": json.dumps(to_dict(preprocess)),
        "architecture": json.dumps(to_dict(getattr(model, "config", None))),
        "foveate_version": foveate.__version__,
    }
    net = WithFeatures(frozen).eval() if features else frozen
    return _assemble(preprocess_graph(preprocess), _by_dynamo(net, preprocess), facts)


def export_for_timing(model: nn.Module, preprocess: Preprocess, batch: int = 1) -> bytes:
    """The same for a fixed batch by torch's older exporter: five to ten times faster to make, equally fast to run.

    Only for measuring: the older exporter is deprecated. Falls back to the other where it is gone or fails.
    """
    frozen = _frozen(model)
    classes = [str(i) for i in range(_outputs(frozen, preprocess))]
    fuse_whitening(frozen, _pixels(preprocess))
    try:
        net = _by_script(frozen, preprocess, batch)
    except Exception:
        return export_onnx(frozen, preprocess, classes)
    facts = {"classes": json.dumps(classes), "preprocess": json.dumps(to_dict(preprocess))}
    return _assemble(preprocess_graph(preprocess, batch), net, facts)


def _frozen(model: nn.Module) -> nn.Module:
    """A float32 copy in eval mode. In-place activations are off: they double the export's time and change nothing."""
    made = copy.deepcopy(model).to("cpu", torch.float32).eval()
    size_bytes = sum(t.numel() * 4 for t in made.state_dict().values())
    if size_bytes > MAX_WEIGHT_BYTES:
        raise FoveateError(f"{size_bytes:,} bytes of weights: one ONNX file holds at most {MAX_WEIGHT_BYTES:,}")
    for module in made.modules():
        if getattr(module, "inplace", None) is True:
            setattr(module, "inplace", False)  # noqa: B010  # nn.Module's own stub knows no bool attributes
    return made


def _by_dynamo(model: nn.Module, preprocess: Preprocess) -> "GraphProto":
    """The network alone, any batch size."""
    pixels = _pixels(preprocess)
    try:
        with _quiet():
            program = torch.onnx.export(
                model,
                (pixels,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
                input_names=["pixels"],
                output_names=[OUTPUT, FEATURES] if isinstance(model, WithFeatures) else [OUTPUT],
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as error:
        model = model.model if isinstance(model, WithFeatures) else model
        raise FoveateError(f"{type(model).__name__} can not be exported to ONNX: {_reason(error)}") from error
    assert program is not None
    return program.model_proto.graph


def _by_script(model: nn.Module, preprocess: Preprocess, batch: int) -> "GraphProto":
    """The network alone, one batch size."""
    import onnx
    import onnxruntime

    pixels = torch.zeros(batch, preprocess.channels, preprocess.resolution, preprocess.resolution)
    file = io.BytesIO()
    with _quiet(), _no_dump():
        torch.onnx.export(
            model,
            (pixels,),
            file,  # type: ignore[arg-type]  # the older exporter takes a file object
            dynamo=False,
            input_names=["pixels"],
            output_names=[OUTPUT],
            opset_version=OPSET,
        )
    # It writes the arithmetic on sizes (SAME padding) as nodes, which would be run and timed. With a fixed input
    # onnxruntime computes them away, but not behind a preprocessing of any picture size: so here, the network alone.
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC  # standard operators only
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "net.onnx")
        onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath).graph


def _pixels(preprocess: Preprocess) -> torch.Tensor:
    return torch.zeros(2, preprocess.channels, preprocess.resolution, preprocess.resolution)


def _outputs(model: nn.Module, preprocess: Preprocess) -> int:
    """Logits a picture, by running it; FoveateError for a network that does not give one row of numbers a picture."""
    size = preprocess.resolution
    try:
        with torch.no_grad():
            out = model(_pixels(preprocess))
    except Exception as error:
        raise FoveateError(
            f"{type(model).__name__} does not run on {preprocess.channels} x {size} x {size}: {_reason(error)}"
        ) from error
    if not isinstance(out, torch.Tensor) or out.ndim != 2 or len(out) != 2:
        shape = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
        raise FoveateError(f"{type(model).__name__} gives {shape} for 2 pictures: expected (2, classes)")
    return int(out.shape[1])


def _assemble(first: "GraphProto", net: "GraphProto", metadata: Mapping[str, str]) -> bytes:
    """Preprocessing + network + metadata, checked."""
    from onnx import compose, helper

    graph = compose.merge_graphs(first, net, io_map=[(PIXELS, "pixels")], name="classifier")
    _strip(graph)
    for output in graph.output:
        output.type.tensor_type.shape.dim[0].CopyFrom(graph.input[0].type.tensor_type.shape.dim[0])  # "N"
    made = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="foveate",
        producer_version=foveate.__version__,
    )
    helper.set_model_props(made, {k: v.encode("utf-8", "backslashreplace").decode() for k, v in metadata.items()})
    return _checked(made)


def _strip(graph: "GraphProto") -> None:
    """Take out what the exporter notes beside the network: stack traces with this machine's paths. And empty inputs at
    the end of nodes, for which onnxruntime would not fuse a Pad into its Conv."""
    graph.ClearField("metadata_props")
    for node in graph.node:
        while node.input and not node.input[-1]:
            node.input.pop()
    for item in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")


def _checked(made: "ModelProto") -> bytes:
    import onnx

    try:
        onnx.checker.check_model(made)
    except onnx.checker.ValidationError as error:
        raise FoveateError(f"the exported graph is not valid ONNX: {_reason(error)}") from error
    return made.SerializeToString(deterministic=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings and no log lines from the exporters; what matters comes as an exception."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _no_dump() -> Iterator[None]:
    """The older exporter writes its whole graph to the process's standard output before it fails, from C++: results
    belong there, and nothing else.
    """
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _reason(error: BaseException) -> str:
    """The last cause's first line: the exporter wraps it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
