"""The .xml of an OpenVINO model, looked at before OpenVINO does: one parser, limits, and the text written anew."""

import io
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from typing import Any

from foveate.deploy.bounds import MAX_LIVE_NUMBERS
from foveate.errors import WeightsError

MAX_ELEMENTS = 400_000  # layers, ports and sizes; a network of 1,000 layers has 60,000
MAX_DEPTH = 40
# loops and branches, loops over time, chance, memory between pictures: no image classifier has them
REFUSED_LAYERS = {"Loop", "TensorIterator", "If", "LSTMSequence", "GRUSequence", "RNNSequence", "AUGRUSequence"}
REFUSED_LAYERS |= {"Einsum", "RandomUniform", "Multinomial", "ReadValue", "Assign"}


def checked_xml(graph: bytes, weights_bytes: int) -> bytes:
    """The same graph as other bytes, which no reader can take for another format; WeightsError where a check fails.

    OpenVINO looks at a file's content and opens ONNX, TensorFlow and more; what it gets here is XML and nothing else.
    """
    if b"<!" in re.sub(rb"<!--.*?-->", b"", graph, flags=re.DOTALL) or b"\0" in graph:
        raise WeightsError("it declares entities or a document type, or is no UTF-8; a model of OpenVINO has none")
    try:
        root = _parsed(graph)
    except (ET.ParseError, UnicodeDecodeError, LookupError, ValueError) as error:
        raise WeightsError(f"not the .xml of an OpenVINO model, or damaged ({error})") from None
    if root.tag != "net":
        raise WeightsError(f"not the .xml of an OpenVINO model: <{root.tag[:40]}>, expected <net>")
    for layer in root.iter("layer"):
        kind, version = layer.get("type", ""), layer.get("version", "")
        if kind in REFUSED_LAYERS or layer.find("body") is not None or layer.find("then_body") is not None:
            raise WeightsError(f"operator {kind[:40]}; loops and branches are not run")
        if not re.fullmatch(r"opset\d{1,2}", version):
            raise WeightsError(f'operator {kind[:40]} of "{version[:40]}"; only standard operators are run')
        if kind == "Const":
            _check_constant(layer, weights_bytes)
        for port in layer.iterfind("output/port"):
            _check_size(kind, [_whole(dim.text) for dim in port.iterfind("dim")])
    return ET.tostring(root, encoding="utf-8", xml_declaration=True)


def check_sizes(operations: Iterable[Any], batch: int) -> None:
    """WeightsError where an operator of a model of fixed size makes more numbers than any classifier does."""
    for operation in operations:
        for output in operation.outputs():
            shape = output.get_partial_shape()
            if shape.is_static:
                _check_size(operation.get_type_name(), list(shape.to_shape()), batch)


def _parsed(graph: bytes) -> ET.Element:
    depth = elements = 0
    root = None
    for event, element in ET.iterparse(io.BytesIO(graph), events=("start", "end")):
        depth += 1 if event == "start" else -1
        elements += event == "start"
        root = element if root is None else root
        if depth > MAX_DEPTH or elements > MAX_ELEMENTS:
            raise WeightsError(
                f"over {MAX_ELEMENTS:,} elements or {MAX_DEPTH} in each other; no classifier has so many"
            )
    assert root is not None  # an empty text is a ParseError
    return root


def _check_constant(layer: ET.Element, weights_bytes: int) -> None:
    """A constant lies inside the .bin."""
    data = layer.find("data")
    start, size = (_whole(data.get(key) if data is not None else None) for key in ("offset", "size"))
    if start < 0 or size < 0 or start + size > weights_bytes:
        raise WeightsError(
            f"the constant {layer.get('name', '')[:60]!r} lies outside the {weights_bytes:,} bytes beside it"
        )


def _check_size(kind: str, sizes: list[int], batch: int = 1) -> None:
    if math.prod(abs(n) for n in sizes) > MAX_LIVE_NUMBERS * batch:
        raise WeightsError(f"operator {kind[:40]} would make {sizes} numbers; a classifier needs {MAX_LIVE_NUMBERS:,}")


def _whole(text: str | None) -> int:
    if text is None or not re.fullmatch(r"\s*-?\d{1,19}\s*", text):
        raise WeightsError(f"not the .xml of an OpenVINO model: {str(text)[:40]!r} where a number is expected")
    return int(text)
