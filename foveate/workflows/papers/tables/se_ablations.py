"""Squeeze and excitation: the ratio of the squeeze, and whether a gate helps at all."""

from foveate.workflows.papers.hosts import RESNET_SMALL, SMALL
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus

SOURCE = "arXiv:1709.01507, table 10"
SETTING = "ImageNet, ResNet-50"

TABLE = Table(
    name="se_ablations",
    seed_page="004",
    paper="Squeeze-and-Excitation Networks",
    arxiv="1709.01507",
    claim="A gate by channel raises the accuracy, and the ratio of its squeeze hardly matters from 2 to 16.",
    scale="ImageNet, ResNet-50, about 300 epochs: none 23.30, r 2 22.29, 4 22.25, 8 22.26, 16 22.28, 32 22.72 % error",
    contrasts=(
        versus("r = 16", "none", Published(1.02, SETTING, SOURCE, "read")),
        versus("r = 4", "none", Published(1.05, SETTING, SOURCE, "read"), main=False),
        versus("r = 16", "r = 4", Published(-0.03, SETTING, SOURCE, "read"), "same"),
    ),
    study=Trainings(
        RESNET_SMALL,
        (
            Arm("none"),
            Arm("r = 4", ("model.layers.attn=se(ratio=0.25)",)),
            Arm("r = 16", ("model.layers.attn=se(ratio=0.0625)",)),
        ),
        pictures=0,
        epochs=10,
        sd=0.2,
        changes=SMALL,
    ),
    minutes=135.0,
    critique="gates start at one half, so short trainings lose (docs/benchmarks.md); Ootzk/SsENet: ResNet-50 -0.82",
)
