"""Groups against width at equal multiply-adds."""

from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus
from foveate.zoo.families.resnet.network import cifar_bottleneck

SOURCE = "arXiv:1611.05431, table 3"
SETTING = "ImageNet, 50 layers"


def net(groups: int, width: int) -> Arm:
    """Bottlenecks whose 3x3 has so many groups of so many channels in the first stage."""
    mids = tuple(groups * width * 2**i for i in range(3))
    return Arm(f"{groups}x{width}d", network=cifar_bottleneck(1, mids, groups, stem=16))


TABLE = Table(
    name="cardinality",
    seed_page="004",
    paper="Aggregated Residual Transformations",
    arxiv="1611.05431",
    claim="At equal multiply-adds more groups of fewer channels are better.",
    scale="ImageNet, 50 layers: 1x64d 23.9, 2x40d 23.0, 4x24d 22.6, 8x14d 22.3, 32x4d 22.2 % error",
    contrasts=(
        versus("8x3d", "1x16d", Published(1.6, SETTING, SOURCE, "memory")),
        versus("2x10d", "1x16d", Published(0.9, SETTING, SOURCE, "memory"), main=False),
        versus("4x6d", "1x16d", Published(1.3, SETTING, SOURCE, "memory"), main=False),
    ),
    study=Trainings(
        cifar_bottleneck(1, (16, 32, 64), stem=16),
        (Arm("1x16d"), net(2, 10), net(4, 6), net(8, 3)),
        sd=0.5,
        changes=("schedule.warmup=@0.05",),
    ),
    minutes=150.0,
    critique="expect about 0.3 here; grouped convolutions take longer a multiply-add on processors",
)
