"""Parameters by width of multigrid-in-channels convolutions."""

import torch

from foveate.layers import Layers
from foveate.workflows.papers.small import slope
from foveate.workflows.papers.table import Context, Contrast, Found, Measurement, Published, Table

WIDTHS = (64, 128, 256, 512, 1024)
LINEAR, SAVED = "exponent of its parameters - 1", "exponent of a full convolution - its own"


def measure(context: Context) -> list[Found]:
    """Exact: parameters of one 3x3 layer of each width."""
    exponents = {}
    for conv in ("conv2d", "mgic"):
        with torch.device("meta"):
            layers = [Layers(conv=conv).make_conv(c, c, 3) for c in WIDTHS]
        counts = [sum(p.numel() for p in layer.parameters()) for layer in layers]
        exponents[conv] = slope(WIDTHS, counts)
    linear, saved = exponents["mgic"] - 1, exponents["conv2d"] - exponents["mgic"]
    shown = ", ".join(f"{name} {e:.2f}" for name, e in exponents.items())
    note = f"one layer of {WIDTHS[0]} to {WIDTHS[-1]} channels; exponents: {shown}"
    return [Found(LINEAR, (linear,), linear, linear, note), Found(SAVED, (saved,), saved, saved)]


TABLE = Table(
    name="mgic",
    seed_page="003",
    paper="MGIC: Multigrid-in-Channels Neural Network Architectures",
    arxiv="2011.09128",
    claim="Its parameters grow linearly with the channels, those of a full convolution with their square.",
    scale="ResNet and MobileNetV3 on CIFAR-10 and ImageNet, point clouds",
    contrasts=(
        Contrast(
            LINEAR,
            Published(0.0, "linear", "arXiv:2011.09128, section 3", "memory", "exponent"),
            claim="same",
            margin=0.2,
        ),
        Contrast(SAVED, Published(1.0, "2 against 1", "arXiv:2011.09128, section 3", "memory", "exponent")),
    ),
    study=Measurement(measure, seeds=1),
    minutes=1.0,
    critique="gates between the grids are quadratic unless grouped: whole nets keep the promise only without them",
)
