"""Grouped 1x1 convolutions at equal multiply-adds, with the shuffle."""

from foveate.config import replace
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus
from foveate.zoo.families.shufflenet import ShuffleNetConfig, shufflenet

SOURCE = "arXiv:1707.01083, table 2"
SETTING = "ImageNet, 0.25x (13 M MACs)"


def net(groups: int) -> ShuffleNetConfig:
    """0.25x for 32 px."""
    made: ShuffleNetConfig = replace(shufflenet(groups, 0.25), num_classes=10, resolution=32)
    return made


TABLE = Table(
    name="shufflenet_groups",
    seed_page="000",
    paper="ShuffleNet",
    arxiv="1707.01083",
    claim="At equal multiply-adds more groups with more channels are better, most in small nets.",
    scale="ImageNet, 0.25x: 57.1, 56.8, 55.0, 54.2, 52.7 % error for 1, 2, 3, 4, 8 groups; 1x: 33.6 to 32.4",
    contrasts=(
        versus("8 groups", "1 group", Published(4.4, SETTING, SOURCE, "read")),
        versus("3 groups", "1 group", Published(2.1, SETTING, SOURCE, "read"), main=False),
    ),
    study=Trainings(
        net(1),
        (Arm("1 group"), Arm("3 groups", network=net(3)), Arm("8 groups", network=net(8))),
        sd=0.7,
        changes=("batch=64", "optim.lr=0.1", "optim.weight_decay=4e-5", "schedule.kind=linear", "schedule.warmup=0"),
        resolution=32,
    ),
    minutes=80.0,
    critique="at 32 px the five strides leave one pixel: groups are compared, not the net; the shuffle stays on",
)
