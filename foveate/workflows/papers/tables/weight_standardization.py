"""Standardised weights beside group norm."""

from foveate.workflows.papers.hosts import RESNET_TINY, TINY, TINY_SD
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus

GN = "model.layers.norm=group_norm(groups=4)"

TABLE = Table(
    name="weight_standardization",
    seed_page="000",
    paper="Micro-Batch Training with Batch-Channel Normalization and Weight Standardization",
    arxiv="1903.10520",
    claim="Standardised weights lift group norm to batch norm and above.",
    scale="ImageNet, ResNet-50, GN 24.0, GN with WS 23.3, BN 23.7 % error",
    contrasts=(
        versus("GN, WS", "GN", Published(0.7, "ImageNet, ResNet-50", "arXiv:1903.10520", "memory")),
        versus("GN, WS", "BN", Published(0.4, "ImageNet, ResNet-50", "arXiv:1903.10520", "memory"), main=False),
    ),
    study=Trainings(
        RESNET_TINY,
        (Arm("BN"), Arm("GN", (GN,)), Arm("GN, WS", (GN, "model.layers.conv=ws_conv"))),
        epochs=6,
        sd=TINY_SD,
        changes=TINY,
    ),
    minutes=40.0,
)
