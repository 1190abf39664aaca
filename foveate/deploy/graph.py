"""Preprocessing as an ONNX graph: a picture uint8 (N, H, W, 3) of any size in, float32 (N, 3, R, R) out
(one channel where the preprocessing is grey).

The same integer arithmetic as foveate.data.preprocess, and Resize with antialias, which onnxruntime took from Pillow.
It resizes the width first, then the height; the bytes equal Pillow's in that order or differ by a level, rarely.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.data.preprocess import LUMINANCE, Preprocess

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto

OPSET = 18  # the first whose Resize can antialias
INPUT, PIXELS = "image", "image/pixels"


@dataclass
class _Graph:
    """Nodes and constants in the making. Names start with "image/", so that they never meet those of a network."""

    nodes: list["NodeProto"] = field(default_factory=list)
    constants: list["TensorProto"] = field(default_factory=list)

    def node(self, op: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        from onnx import helper

        out = out or f"image/{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [out], name=out, **attributes))
        return out

    def constant(self, *values: int) -> str:
        """An int64 vector."""
        return self.array(np.array(values, np.int64))

    def array(self, value: np.ndarray) -> str:
        """A constant of any type."""
        from onnx import numpy_helper

        name = f"image/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def half(self, n: str) -> str:
        """n / 2 of integers from 0 up, half to even: preprocess.crop_box needs it so."""
        two = self.constant(2)
        quotient = self.node("Div", n, two)
        return self.node("Add", quotient, self.node("Mod", self.node("Mul", quotient, n), two))


def preprocess_graph(p: Preprocess, batch: int | None = None) -> "GraphProto":
    """The graph of a Preprocess from decoded RGB pixels on. Opset 18. batch: pictures at a time; None: any number."""
    from onnx import TensorProto, helper

    g = _Graph()
    x = g.node("Transpose", INPUT, perm=[0, 3, 1, 2])  # uint8 (N, 3, H, W)
    size = _resized_size(g, x, p)
    x = _resize(g, x, size, p)
    if p.fit == "crop":
        start = g.half(g.node("Sub", size, g.constant(p.resolution)))
        end = g.node("Add", start, g.constant(p.resolution))
        x = g.node("Slice", x, start, end, g.constant(2, 3))
    elif p.fit == "letterbox":
        x = _letterbox(g, x, size, p)
    x = g.node("Cast", x, to=TensorProto.FLOAT)
    if p.channels == 1:
        weights = g.array(np.array(LUMINANCE, np.float32).reshape(1, 3, 1, 1))
        x = g.node("ReduceSum", g.node("Mul", x, weights), g.constant(1), keepdims=1)
    mean, std = (np.array(v, np.float64).reshape(1, -1, 1, 1) for v in (p.mean, p.std))
    x = g.node("Mul", x, g.array((1 / (255 * std)).astype(np.float32)))
    g.node("Add", x, g.array((-mean / std).astype(np.float32)), out=PIXELS)
    image = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [batch or "N", "H", "W", 3])
    pixels = helper.make_tensor_value_info(
        PIXELS, TensorProto.FLOAT, [batch or "N", p.channels, p.resolution, p.resolution]
    )
    return helper.make_graph(g.nodes, "preprocess", [image], [pixels], g.constants)


def _resized_size(g: _Graph, x: str, p: Preprocess) -> str:
    """int64 [height, width] after the resize; preprocess.resized_size says the same in Python."""
    if p.fit == "squash":
        return g.constant(p.resolution, p.resolution)
    sides = g.node("Shape", x, start=2, end=4)
    if p.fit == "crop":
        return g.node("Div", g.node("Mul", sides, g.constant(p.resize)), g.node("ReduceMin", sides, keepdims=1))
    size = g.node("Div", g.node("Mul", sides, g.constant(p.resolution)), g.node("ReduceMax", sides, keepdims=1))
    return g.node("Max", size, g.constant(1))


def _resize(g: _Graph, x: str, size: str, p: Preprocess) -> str:
    sizes = g.node("Concat", g.node("Shape", x, start=0, end=2), size, axis=0)
    cubic: dict[str, Any] = {"cubic_coeff_a": -0.5} if p.kernel == "bicubic" else {}  # Pillow's; the default is -0.75
    return g.node(
        "Resize",
        x,
        "",
        "",
        sizes,
        mode="cubic" if p.kernel == "bicubic" else "linear",
        antialias=1,
        exclude_outside=1,  # at the border Pillow leaves the missing taps out and makes the rest sum to one
        coordinate_transformation_mode="half_pixel",
        **cubic,
    )


def _letterbox(g: _Graph, x: str, size: str, p: Preprocess) -> str:
    bars = g.node("Sub", g.constant(p.resolution), size)  # rows, columns
    before = g.half(bars)
    none = g.constant(0, 0)
    pads = g.node("Concat", none, before, none, g.node("Sub", bars, before), axis=0)
    return g.node("Pad", x, pads, g.array(np.array(p.fill, np.uint8)), mode="constant")
