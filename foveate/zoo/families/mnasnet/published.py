"""What is published of the MnasNets: accuracies and weights, and how the weights want pictures.

The official form has no public weights in a PyTorch library; its accuracies are those of the official README.
"""

from typing import Literal

from foveate.zoo.family import Published

TITLE, ARXIV = "MnasNet: Platform-Aware Neural Architecture Search for Mobile", "1807.11626"


def _net(
    top1: float | None = None,
    source: str = "",
    weights: str = "",
    resize: int = 256,
    interpolation: Literal["bilinear", "bicubic"] = "bicubic",
) -> Published:
    """A net at 224 pixels."""
    return Published(TITLE, ARXIV, top1, source, weights, resize, 224, interpolation)


def _timm(name: str, top1: float) -> Published:
    return _net(top1, "timm results-imagenet.csv", f"timm {name}")


def _torchvision(name: str, top1: float, resize: int = 256) -> Published:
    return _net(top1, "torchvision IMAGENET1K_V1", f"torchvision {name}_Weights.IMAGENET1K_V1", resize, "bilinear")


PUBLISHED = {
    "mnasnet_a1": _net(75.2, "official README"),
    "mnasnet_a1_035": _net(64.1, "official README"),
    "mnasnet_a1_050": _net(68.9, "official README"),
    "mnasnet_a1_075": _net(73.3, "official README"),
    "mnasnet_a1_140": _net(77.2, "official README"),
    "mnasnet_b1": _net(),
    "mnasnet_d1": Published("MnasFPN: Learning Latency-aware Pyramid Architecture for Mobile Devices", "1912.01106"),
    "mnasnet_small": _net(),  # timm's mnasnet_small.lamb_in1k is symmetric(mnasnet_small), another function
    "mnasnet_050": _net(),
    "mnasnet_075": _net(),
    "mnasnet_100": _timm("mnasnet_100.rmsp_in1k", 74.672),
    "mnasnet_140": _net(),
    "semnasnet_050": _net(),
    "semnasnet_075": _timm("semnasnet_075.rmsp_in1k", 73.0),
    "semnasnet_100": _timm("semnasnet_100.rmsp_in1k", 75.452),
    "semnasnet_140": _net(),
    "mnasnet0_5": _torchvision("MNASNet0_5", 67.734),
    "mnasnet0_75": _torchvision("MNASNet0_75", 71.18, 232),
    "mnasnet1_0": _torchvision("MNASNet1_0", 73.456),
    "mnasnet1_3": _torchvision("MNASNet1_3", 76.506, 232),
}
