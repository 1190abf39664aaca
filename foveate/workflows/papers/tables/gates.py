"""Gates compared: SE, ECA, CBAM, coordinate attention."""

from foveate.workflows.papers.hosts import RESNET_TINY, TINY, TINY_SD
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus

SETTING = "ImageNet, ResNet-50"

TABLE = Table(
    name="gates",
    seed_page="000, 004",
    paper="ECA-Net, CBAM, Coordinate Attention beside SE",
    arxiv="1910.03151",
    claim="Later gates are better than squeeze and excitation.",
    scale="ImageNet, ResNet-50: SE 76.71, ECA 77.48, CBAM 77.34 (in the ECA paper's table)",
    contrasts=(
        versus("eca", "se", Published(0.77, SETTING, "arXiv:1910.03151, table 3", "memory")),
        versus("cbam", "se", Published(0.63, SETTING, "arXiv:1910.03151, table 3", "memory"), main=False),
        versus("coord", "se", Published(None, "MobileNetV2", "arXiv:2103.02907"), effect=0.8, main=False),
    ),
    study=Trainings(
        RESNET_TINY,
        tuple(Arm(name, (f"model.layers.attn={name}",)) for name in ("se", "eca", "cbam", "coord")),
        epochs=6,
        sd=TINY_SD,
        changes=TINY,
    ),
    minutes=50.0,
)
