"""Adaptive gradient clipping in a net without norms."""

from foveate.config import replace
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus
from foveate.zoo.families.nfnet.network import nf_resnet
from foveate.zoo.families.nfnet.network import stages as nf_stages

SOURCE = "arXiv:2102.06171, figure 2"
HOST = replace(
    nf_resnet((1, 1, 1, 1), 32),
    stages=nf_stages((1, 1, 1), (64, 128, 256), squeeze=2),
    stem_widths=(32,),
    num_classes=10,
)
HIGH = "optim.lr=0.8"

TABLE = Table(
    name="nfnet",
    seed_page="000",
    paper="High-Performance Large-Scale Image Recognition Without Normalization",
    arxiv="2102.06171",
    claim="Clipping gradients by unit lets a net without norms train at rates where it otherwise fails.",
    scale="ImageNet, NF-ResNet-50: falls off above batch 2,048 without clipping, holds with it",
    contrasts=(
        versus("high rate, 0.04", "high rate", Published(None, "a curve, not read as numbers", SOURCE), effect=10.0),
        versus("0.04", "none", Published(None, "a curve, not read as numbers", SOURCE), "same", margin=1.0, main=False),
        versus("high rate, 0.01", "high rate", Published(None, "a curve", SOURCE), effect=10.0, main=False),
    ),
    study=Trainings(
        HOST,
        (
            Arm("none", ("optim.agc=0",)),
            Arm("0.04", ("optim.agc=0.04",)),
            Arm("high rate", (HIGH, "optim.agc=0")),
            Arm("high rate, 0.04", (HIGH, "optim.agc=0.04")),
            Arm("high rate, 0.01", (HIGH, "optim.agc=0.01")),
        ),
        epochs=5,
        sd=1.5,
        changes=("batch=64", "optim.lr=0.05", "schedule.warmup=@0.1"),
        own_batch=True,
        resolution=32,
    ),
    minutes=80.0,
    critique="timm#498: an NFNet on CIFAR-10 stuck at 69 % without augmentation; thresholds are for SGD, not Adam",
)
