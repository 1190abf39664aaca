"""Depthwise kernels mixed within a layer, equal or exponential in their channels, dilated or not."""

from foveate.layers import Layers
from foveate.layers.mix_conv import Split
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus
from foveate.zoo.families.mixnet import Block, MixNetConfig, Stage

SOURCE = "arXiv:1907.09595, figure 4"
ROWS = ((16, 0, 1), (24, 64, 2), (24, 96, 1), (40, 96, 2), (40, 160, 1))


def net(kernels: tuple[int, ...], split: Split = "equal", dilated: bool = False) -> MixNetConfig:
    """Five inverted bottlenecks for 32 px, whose maps are 16, 8 and 4 pixels a side."""
    blocks = tuple(
        Stage((Block(width, mid, kernels, stride, split=split, dilated=dilated and stride == 1),))
        for width, mid, stride in ROWS
    )
    return MixNetConfig(
        blocks,
        stem=16,
        head=128,
        dropout=0.0,
        padding="symmetric",
        layers=Layers("batch_norm"),
        num_classes=10,
        resolution=32,
    )


TABLE = Table(
    name="mixconv",
    seed_page="002",
    paper="MixConv: Mixed Depthwise Convolutional Kernels",
    arxiv="1907.09595",
    claim="Kernels mixed within a layer are better than one kernel of equal cost; dilation is worse for large ones.",
    scale="ImageNet, MobileNetV1 and V2 with mixed kernels (figures not retrieved)",
    contrasts=(
        versus("3, 5, 7", "5", Published(None, "a curve", SOURCE), effect=0.5),
        versus("3, 5, 7", "3", Published(None, "a curve", SOURCE), effect=0.5),
        versus("3, 5, 7 exponential", "3, 5, 7", Published(0.0, "about equal", SOURCE), "same", margin=0.5, main=False),
        versus("3, 5, 7 dilated", "3, 5, 7", Published(None, "worse", SOURCE), "less", effect=0.5, main=False),
    ),
    study=Trainings(
        net((3,)),
        (
            Arm("3"),
            Arm("5", network=net((5,))),
            Arm("3, 5, 7", network=net((3, 5, 7))),
            Arm("3, 5, 7 exponential", network=net((3, 5, 7), "exponential")),
            Arm("3, 5, 7 dilated", network=net((3, 5, 7), dilated=True)),
        ),
        epochs=15,
        sd=0.6,
        changes=("batch=64", "optim.lr=0.1", "schedule.warmup=@0.05"),
    ),
    minutes=240.0,
    critique="an effect of 0.3 to 0.7 needs more seeds than this; on a processor mixing takes 16 times as long",
)
