"""Depth, width and resolution scaled alone, or all three together."""

from typing import cast

from foveate.config import replace
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus
from foveate.zoo import variant
from foveate.zoo.families.efficientnet.network import EfficientNetConfig, scale

SOURCE = "arXiv:1905.11946, table 7"
SETTING = "ImageNet, EfficientNet-B0 x 4"
SIDE = 48


def small(depth: float, width: float, side: int) -> EfficientNetConfig:
    """B0 at a third of its width."""
    base = replace(cast(EfficientNetConfig, variant("efficientnet_b0")), dropout=0.0, drop_path=0.0, head=256)
    return replace(scale(base, depth, 0.34 * width), num_classes=10, resolution=side)


TABLE = Table(
    name="compound_scaling",
    seed_page="000, 004",
    paper="EfficientNet: Rethinking Model Scaling",
    arxiv="1905.11946",
    claim="For four times the multiply-adds it is better to scale depth, width and resolution together than one alone.",
    scale="ImageNet, B0 77.3: depth 79.0, width 78.9, resolution 79.1, compound 81.1",
    contrasts=(
        versus("compound", "depth", Published(2.1, SETTING, SOURCE, "read")),
        versus("compound", "width", Published(2.2, SETTING, SOURCE, "read")),
        versus("compound", "resolution", Published(2.0, SETTING, SOURCE, "read")),
        versus("compound", "base", Published(3.8, SETTING, SOURCE, "read"), main=False),
    ),
    study=Trainings(
        small(1.0, 1.0, SIDE),
        (
            Arm("base"),
            Arm("depth", network=small(4.0, 1.0, SIDE)),
            Arm("width", network=small(1.0, 2.0, SIDE)),
            Arm("resolution", network=small(1.0, 1.0, 2 * SIDE)),
            Arm("compound", network=small(1.4, 1.2, round(1.3 * SIDE))),
        ),
        epochs=20,
        sd=0.8,
        changes=("batch=64", "optim.lr=0.05", "schedule.warmup=@0.1"),
        resolution=96,
    ),
    minutes=180.0,
    critique=(
        "CIFAR-10 and digits have no more pixels to give: the resolution arm is honest only on photographs; one recipe"
        " for all arms favours small nets; on latency width wins, arXiv:2103.06877 (m)"
    ),
)
