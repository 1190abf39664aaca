"""Attention under wrong labels, beside a residual net of equal cost."""

from foveate.workflows.papers.table import Arm, Contrast, Published, Table, Trainings, versus
from foveate.zoo import variant

SOURCE = "arXiv:1704.06904, table 5"
RESNET, ATTENTION = variant("resnet56_cifar"), variant("attention56_cifar")
NOISE = ("loss.label_noise=0.4",)

TABLE = Table(
    name="attention_noise",
    seed_page="000, 003",
    paper="Residual Attention Network",
    arxiv="1704.06904",
    claim="Attention loses less accuracy to wrong labels than a residual net of equal cost.",
    scale="CIFAR-10, Attention-92 and ResNet-164, 160,000 steps, 10, 30, 50, 70 % wrong labels",
    contrasts=(
        Contrast(
            "what ResNet loses to 40 % noise - what attention loses",
            Published(0.6, "50 % noise: 8.35 - 5.93 against 7.27 - 5.15", SOURCE, "memory"),
            ("ResNet", "attention, noise"),
            ("ResNet, noise", "attention"),
        ),
        versus("attention", "ResNet", Published(0.8, "10 % noise: 5.15 against 5.93", SOURCE, "memory"), main=False),
    ),
    study=Trainings(
        RESNET,
        (
            Arm("ResNet"),
            Arm("attention", network=ATTENTION),
            Arm("ResNet, noise", NOISE),
            Arm("attention, noise", NOISE, ATTENTION),
        ),
        epochs=10,
        sd=1.0,
        seeds=8,
        measure="last_epoch",
        changes=("batch=64", "schedule.warmup=@0.1"),
        resolution=32,
    ),
    minutes=320.0,
    critique=(
        "no replication has a ResNet beside it (one course project: 20.6 to 54.8 % error); plain nets hold against"
        " symmetric noise too, arXiv:1705.10694 (m); robustness is the difference of differences, at the last epoch"
    ),
)
