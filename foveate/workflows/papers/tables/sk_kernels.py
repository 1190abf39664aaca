"""Selective kernels against a gate and against one kernel."""

from foveate.workflows.papers.hosts import RESNET_SMALL, SMALL, SMALL_SD
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus

SOURCE = "arXiv:1903.06586, table 1"
SETTING = "ImageNet, ResNeXt-50"

TABLE = Table(
    name="sk_kernels",
    seed_page="003",
    paper="Selective Kernel Networks",
    arxiv="1903.06586",
    claim="Choosing between kernels by the picture is better than one kernel, and better than a gate alone.",
    scale="ImageNet, ResNeXt-50 22.23, with SE 21.12, SKNet-50 (two paths) 20.79 % error",
    contrasts=(
        versus("sk, 2 paths", "3x3", Published(1.44, SETTING, SOURCE, "memory")),
        versus("sk, 2 paths", "se", Published(0.33, SETTING, SOURCE, "memory")),
    ),
    study=Trainings(
        RESNET_SMALL,
        (
            Arm("3x3"),
            Arm("se", ("model.layers.attn=se",)),
            Arm("sk, 2 paths", ("model.layers.conv=sk",)),
        ),
        sd=SMALL_SD,
        changes=SMALL,
    ),
    minutes=110.0,
    critique="here every 3x3 is replaced; the paper's replaces the grouped one of a bottleneck",
)
