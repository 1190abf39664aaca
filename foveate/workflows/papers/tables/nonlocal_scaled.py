"""Non-local blocks with a fixed factor in place of the softmax."""

from foveate.workflows.papers.hosts import RESNET_TINY, TINY, TINY_SD
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus

SOURCE = "arXiv:2207.13423"
AT = "model.stages.1.before_last="

TABLE = Table(
    name="nonlocal",
    seed_page="003",
    paper="Scaled non-local blocks",
    arxiv="2207.13423",
    claim="A fixed factor in place of the softmax is as good or better, and a non-local block helps.",
    scale="CIFAR and Tiny-ImageNet, WRN with one block; the table was not retrieved",
    contrasts=(
        versus("scaled", "softmax", Published(None, "not retrieved", SOURCE), effect=0.5),
        versus("scaled", "none", Published(None, "not retrieved", SOURCE), effect=0.5),
        versus("scaled, 4 heads", "scaled", Published(None, "not retrieved", SOURCE), "same", margin=1.0, main=False),
    ),
    study=Trainings(
        RESNET_TINY,
        (
            Arm("none"),
            Arm("softmax", (f"{AT}nonlocal",)),
            Arm("scaled", (f"{AT}nonlocal_scaled",)),
            Arm("scaled, 4 heads", (f"{AT}nonlocal_scaled(heads=4)",)),
        ),
        epochs=6,
        sd=TINY_SD,
        changes=TINY,
    ),
    minutes=90.0,
    critique="the softmax takes 20 times as long as the net (docs/benchmarks.md); an effect of 0.3 can not be seen",
)
