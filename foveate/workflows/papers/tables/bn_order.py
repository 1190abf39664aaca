"""Batch norm in front of the activation or behind it."""

from foveate.workflows.papers.hosts import RESNET_SMALL, SMALL, SMALL_SD, VGG_SMALL
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus

CAFFENET = "caffenet-benchmark of ducha-aiki, batch norm"

TABLE = Table(
    name="bn_order",
    seed_page="004",
    paper="Batch Normalization; its placement",
    arxiv="1502.03167",
    claim="The norm belongs in front of the activation; a public benchmark found it better behind.",
    scale="ImageNet at 128 px, CaffeNet: before 47.4, before with gain 47.8, after 49.9, none 47.1; one run each",
    contrasts=(
        versus("VGG, behind", "VGG, in front", Published(2.5, "ImageNet 128 px, CaffeNet", CAFFENET, "read")),
        versus(
            "ResNet, behind",
            "ResNet, in front",
            Published(0.3, "a residual net at this size", "-", "expected"),
            main=False,
        ),
    ),
    study=Trainings(
        VGG_SMALL,
        (
            Arm("VGG, in front"),
            Arm("VGG, behind", ("model.order=white",)),
            Arm("ResNet, in front", network=RESNET_SMALL),
            Arm("ResNet, behind", ("model.order=white",), RESNET_SMALL),
        ),
        sd=SMALL_SD,
        changes=SMALL,
    ),
    minutes=60.0,
    critique="GoogLeNet at 128 px in the same benchmark: none 61.9, before 60.3 to 60.7: there the norm did not help",
)
