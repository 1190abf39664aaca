"""Maximum, mean or stride between the stages of a plain net."""

from foveate.workflows.papers.hosts import SMALL, VGG_SMALL
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus

SOURCE = "arXiv:1412.6806, table 3"

TABLE = Table(
    name="pooling",
    seed_page="004",
    paper="Striving for Simplicity: The All Convolutional Net",
    arxiv="1412.6806",
    claim="A maximum between stages is better than a mean, and a stride as good as a maximum.",
    scale="CIFAR-10: stride in place of the maximum 9.08 against 9.74 % error",
    contrasts=(
        versus("max", "avg", Published(0.7, "a plain net at this size", "-", "expected")),
        versus("stride", "max", Published(0.66, "CIFAR-10, All-CNN", SOURCE), main=False),
    ),
    study=Trainings(
        VGG_SMALL,
        (Arm("max"), Arm("avg", ("model.pool=avg",)), Arm("stride", ("model.pool=stride",))),
        pictures=0,
        epochs=5,
        sd=0.2,
        changes=SMALL,
    ),
    minutes=68.0,
    critique="the mission's page says that a maximum is usually better, for it adds non-linearity",
)
