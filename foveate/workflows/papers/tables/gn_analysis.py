"""Group norm against batch norm, by batch."""

from foveate.workflows.papers.hosts import RESNET_TINY, TINY_SD
from foveate.workflows.papers.table import Arm, Contrast, Published, Table, Trainings, versus

SOURCE = "arXiv:1803.08494, table 2"
GN, PLUS = "model.layers.norm=group_norm(groups=4)", "model.layers.norm=gn_plus(groups=4)"
FEW = ("batch=4", "optim.lr=0.003")
MANY = ("batch=64", "optim.lr=0.05")

TABLE = Table(
    name="gn_analysis",
    seed_page="003",
    paper="Group Normalization; an analysis of it",
    arxiv="1803.08494",
    claim="Group norm loses to batch norm at large batches and does not fall with them; batch norm does.",
    scale="ImageNet, ResNet-50, batch a worker 32, 16, 8, 4, 2: BN 23.6 to 34.7, GN 24.1 to 24.2 % error",
    contrasts=(
        versus("GN, 64", "BN, 64", Published(-0.5, "ImageNet, ResNet-50, batch 32", SOURCE, "memory"), "less"),
        Contrast(
            "what BN loses at batch 4 - what GN loses",
            Published(3.6, "ImageNet, ResNet-50, batch 32 to 4", SOURCE, "memory"),
            ("BN, 64", "GN, 4"),
            ("BN, 4", "GN, 64"),
        ),
        versus("GN+, 64", "GN, 64", Published(None, "not retrieved", "arXiv:2207.01972"), effect=1.0, main=False),
    ),
    study=Trainings(
        RESNET_TINY,
        (
            Arm("BN, 64", MANY),
            Arm("GN, 64", (*MANY, GN)),
            Arm("GN+, 64", (*MANY, PLUS)),
            Arm("BN, 4", FEW),
            Arm("GN, 4", (*FEW, GN)),
        ),
        epochs=6,
        sd=TINY_SD,
        changes=("schedule.warmup=@0.15",),
        own_batch=True,
        resolution=32,
    ),
    minutes=90.0,
    critique=(
        "a batch of 4 still gives batch norm 256 values a channel at 8x8: the collapse of ImageNet's last maps is not"
        " to be expected; gn_plus sees the test batch"
    ),
)
