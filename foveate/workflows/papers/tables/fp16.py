"""16-bit arithmetic: no loss of accuracy."""

from foveate.workflows.papers.hosts import RESNET_SMALL, SMALL
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus

TRICKS = Published(-0.01, "ImageNet, ResNet-50, batch 256", "arXiv:1812.01187, table 3", "memory")

TABLE = Table(
    name="fp16",
    seed_page="001",
    paper="Mixed Precision Training; Bag of Tricks",
    arxiv="1710.03740",
    claim="Half precision with float32 weights and a scaled loss loses nothing (within 0.3 points).",
    scale="ImageNet, ResNet-50: 76.16 to 76.15 at batch 256, 76.03 to 76.21 at 1,024; 2 to 3 times as fast on V100",
    contrasts=(
        versus("bf16", "fp32", TRICKS, "same"),
        versus("fp16", "fp32", TRICKS, "same"),
    ),
    study=Trainings(
        RESNET_SMALL,
        (
            Arm("fp32", ("precision=fp32",)),
            Arm("bf16", ("precision=bf16",)),
            Arm("fp16", ("precision=fp16",)),
        ),
        pictures=0,
        epochs=10,
        sd=0.2,
        changes=SMALL,
    ),
    minutes=135.0,
    critique="on a processor fp16 is slower, not faster: the table says nothing of speed",
)
