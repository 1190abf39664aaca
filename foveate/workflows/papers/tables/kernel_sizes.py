"""Kernels of depthwise convolutions, by the size of the maps."""

from foveate.config import replace
from foveate.workflows.papers.table import Arm, Contrast, Published, Table, Trainings, versus
from foveate.zoo.families.mobilenet.blocks import MobileNetConfig, Stage
from foveate.zoo.families.mobilenet.variants import separable

SOURCE = "arXiv:1907.09595, figure 1"
ROWS = ((16, 1, 1), (32, 2, 2), (64, 2, 2), (128, 2, 2))


def net(kernel: int, large: bool) -> MobileNetConfig:
    """MobileNetV1 of quarter width and 7 blocks; large maps: 32, 32, 16, 8 pixels a side in place of 32, 16, 8, 4."""
    stages = []
    for i, (width, depth, stride) in enumerate(ROWS):
        stage = separable(width, depth, 1 if large and i == 1 else stride)
        stages.append(Stage(tuple(replace(block, kernel=kernel) for block in stage.blocks)))
    return MobileNetConfig(tuple(stages), stem=8, stem_stride=1, head=None, dropout=0.0, num_classes=10, resolution=32)


def arm(kernel: int, large: bool) -> Arm:
    """A kernel at a size of the maps."""
    return Arm(f"{kernel}x{kernel}, {'large' if large else 'small'} maps", network=net(kernel, large))


TABLE = Table(
    name="kernel_sizes",
    seed_page="002",
    paper="MixConv: Mixed Depthwise Convolutional Kernels",
    arxiv="1907.09595",
    claim="Larger depthwise kernels are better up to a point, which lies higher where maps are larger.",
    scale="ImageNet, MobileNetV1 and V2, 3x3 to 11x11: best at 7x7 to 9x9 (figures not retrieved)",
    contrasts=(
        versus("5x5, large maps", "3x3, large maps", Published(None, "a curve", SOURCE), effect=1.0),
        versus("9x9, small maps", "5x5, small maps", Published(None, "a curve", SOURCE), "less", effect=1.0),
        Contrast(
            "gain of 9x9 over 3x3: large maps - small maps",
            Published(None, "the paper's reason, not its figure", SOURCE),
            ("9x9, large maps", "3x3, small maps"),
            ("3x3, large maps", "9x9, small maps"),
            effect=1.0,
        ),
    ),
    study=Trainings(
        net(3, False),
        (Arm("3x3, small maps"), *(arm(k, False) for k in (5, 9)), *(arm(k, True) for k in (3, 5, 9))),
        epochs=15,
        sd=0.6,
        changes=("batch=64", "optim.lr=0.1", "schedule.warmup=@0.05"),
    ),
    minutes=180.0,
    critique="a kernel as large as its map is a dense layer: the paper's own reason for the fall",
)
