"""Learned scales of the starting weights."""

from foveate.layers import Layers
from foveate.workflows.papers.hosts import vgg
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus

WIDTHS = (16, 32, 64, 64)
PLAIN = vgg(WIDTHS, Layers(norm="none", conv="conv2d_bias"))
SOURCE = "arXiv:2102.08098, table of the first epoch"

TABLE = Table(
    name="gradinit",
    seed_page="003",
    paper="GradInit: Learning to Initialize Neural Networks",
    arxiv="2102.08098",
    claim="Learned scales of the first weights make the first epoch of a net without norms far better.",
    scale="CIFAR-10, VGG-19 and ResNet-110 without norms; first epoch +10 to +20, final 0 to +1.5",
    contrasts=(
        versus("gradinit", "kaiming", Published(10.0, "CIFAR-10, first epoch, no norms", SOURCE, "memory")),
        versus("gradinit", "xavier", Published(10.0, "CIFAR-10, first epoch, no norms", SOURCE, "memory")),
        versus("gradinit, BN", "kaiming, BN", Published(None, "the direction", SOURCE), main=False),
    ),
    study=Trainings(
        PLAIN,
        (
            Arm("kaiming", ("init=kaiming",)),
            Arm("xavier", ("init=xavier",)),
            Arm("gradinit", ("init=gradinit",)),
            Arm("kaiming, BN", ("init=kaiming",), vgg(WIDTHS)),
            Arm("gradinit, BN", ("init=gradinit",), vgg(WIDTHS)),
        ),
        epochs=10,
        sd=1.5,
        measure="first_epoch",
        changes=("batch=64", "optim.lr=0.05", "schedule.warmup=0"),
    ),
    minutes=50.0,
    critique="on CIFAR-10 little was gained here (docs/benchmarks.md), on digits Xavier 26 to 93.3 %",
)
