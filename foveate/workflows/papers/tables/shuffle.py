"""Grouped 1x1 convolutions with and without the shuffle between them."""

from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus
from foveate.workflows.papers.tables.shufflenet_groups import net

TABLE = Table(
    name="shuffle",
    seed_page="000",
    paper="ShuffleNet",
    arxiv="1707.01083",
    claim="Without the shuffle between them groups lose accuracy, the more the more groups there are.",
    scale="ImageNet, 0.25x: 3 groups 55.0 and 56.3, 8 groups 52.7 and 56.5 % error with and without",
    contrasts=(
        versus("8 groups", "8, unshuffled", Published(3.8, "ImageNet, 0.25x", "arXiv:1707.01083, table 3")),
        versus("3 groups", "3, unshuffled", Published(1.3, "ImageNet, 0.25x", "arXiv:1707.01083, table 3"), main=False),
    ),
    study=Trainings(
        net(8),
        (
            Arm("8 groups"),
            Arm("8, unshuffled", ("model.shuffle=false",)),
            Arm("3 groups", network=net(3)),
            Arm("3, unshuffled", ("model.shuffle=false",), net(3)),
        ),
        sd=0.7,
        changes=("batch=64", "optim.lr=0.1", "optim.weight_decay=4e-5", "schedule.kind=linear", "schedule.warmup=0"),
        resolution=32,
    ),
    minutes=80.0,
    critique="the figures without the shuffle are half remembered",
)
