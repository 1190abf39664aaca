"""Residual branches that start at zero, in nets without norms, by depth."""

from foveate.config import replace
from foveate.layers import Layers
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus
from foveate.zoo import variant

BARE = Layers(norm="none", conv="conv2d_bias")
SHALLOW, DEEP = (replace(variant(f"resnet{d}_cifar_conv"), layers=BARE) for d in (20, 56))
SOURCE = "arXiv:2002.10444, table 1"

TABLE = Table(
    name="skip_init",
    seed_page="000",
    paper="Batch Normalization Biases Residual Blocks Towards the Identity Function",
    arxiv="2002.10444",
    claim="Without norms a deep residual net trains only if its branches start near zero.",
    scale="CIFAR-10, WRN of 16 to 1,000 layers",
    contrasts=(
        versus("56, skip_init", "56", Published(None, "trains against does not", SOURCE), effect=20.0),
        versus("20, skip_init", "20", Published(None, "the direction", SOURCE), main=False),
    ),
    study=Trainings(
        SHALLOW,
        (
            Arm("20"),
            Arm("20, skip_init", ("init=skip_init",)),
            Arm("56", network=DEEP),
            Arm("56, skip_init", ("init=skip_init",), DEEP),
        ),
        epochs=5,
        sd=3.0,
        changes=("batch=128", "optim.lr=0.05", "schedule.warmup=@0.1"),
    ),
    minutes=50.0,
    critique="a training whose loss becomes infinite counts as guessing",
)
