"""A small net that also learns what a larger one predicts."""

from foveate.config import replace
from foveate.workflows.papers.hosts import RESNET_SMALL, SMALL, SMALL_SD
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus
from foveate.zoo.families.resnet.network import cifar as cifar_resnet

TRICKS = "arXiv:1812.01187, table 6"
TEACHER = replace(cifar_resnet(2, (64, 128, 256)), stem_widths=(64,))
TAUGHT = "loss.teacher={teacher}"

TABLE = Table(
    name="distillation",
    seed_page="001",
    paper="Distilling the Knowledge in a Neural Network; Bag of Tricks",
    arxiv="1503.02531",
    claim="A student that also learns its teacher's predictions is better.",
    scale="ImageNet: ResNet-50-D from ResNet-152-D +0.36, Inception-v3 -0.14, MobileNet -0.96",
    contrasts=(
        versus("T = 4", "alone", Published(0.36, "ImageNet, ResNet-50-D from ResNet-152-D", TRICKS, "memory")),
        versus("T = 20", "alone", Published(0.36, "ImageNet, ResNet-50-D, T = 20", TRICKS, "memory"), main=False),
        versus("T = 1", "alone", Published(None, "the direction", "arXiv:1503.02531"), main=False),
    ),
    study=Trainings(
        RESNET_SMALL,
        (
            Arm("alone"),
            Arm("T = 1", (TAUGHT, "loss.temperature=1")),
            Arm("T = 4", (TAUGHT, "loss.temperature=4")),
            Arm("T = 20", (TAUGHT, "loss.temperature=20")),
        ),
        sd=SMALL_SD,
        changes=SMALL,
        teacher=Arm("teacher", (), TEACHER),
    ),
    minutes=95.0,
    critique=(
        "two of the three rows of Bag of Tricks are negative; here one teacher, trained on the students' own pictures"
        " with the first seed, serves all of them; its seed is not part of the interval"
    ),
)
