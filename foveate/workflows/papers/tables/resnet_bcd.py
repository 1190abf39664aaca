"""The tweaks of ResNet: where a bottleneck strides, and how its shortcut shrinks a map."""

from foveate.config import replace
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus
from foveate.zoo.families.resnet.network import cifar_bottleneck

SOURCE = "arXiv:1812.01187, table 5"
HOST = replace(cifar_bottleneck(2), stride_on="1x1")

TABLE = Table(
    name="resnet_bcd",
    seed_page="001",
    paper="Bag of Tricks for Image Classification with CNNs",
    arxiv="1812.01187",
    claim="A stride on the 3x3 (B) and a mean in the shortcut (D) each raise the accuracy.",
    scale="ImageNet, ResNet-50: 76.21, B 76.66, C 76.87, D 77.16, cumulative, one run each",
    contrasts=(
        versus("B", "A", Published(0.45, "ImageNet, ResNet-50-B", SOURCE, "read")),
        versus("B + D", "B", Published(0.50, "ImageNet, ResNet-50-D less ResNet-50-B (C in between)", SOURCE, "read")),
    ),
    study=Trainings(
        HOST,
        (
            Arm("A"),
            Arm("B", ("model.stride_on=3x3",)),
            Arm("B + D", ("model.stride_on=3x3", "model.shortcut=avg")),
        ),
        pictures=0,
        epochs=6,
        sd=0.2,
        seeds=8,
        changes=("schedule.warmup=@0.1",),
    ),
    minutes=240.0,
    critique="C, the deep stem, does not exist at 32 px; D costs 3 to 11 % of the speed of an A100",
)
