"""Degradation: plain nets get worse with depth, residual ones do not."""

from foveate.config import replace
from foveate.workflows.papers.table import Arm, Contrast, Published, Table, Trainings, versus
from foveate.zoo.families.resnet.network import ResNetConfig
from foveate.zoo.families.resnet.network import cifar as cifar_resnet

SOURCE = "arXiv:1512.03385, figure 6"
CURVE = Published(None, "a curve", SOURCE, "read", "nats")
SHALLOW, DEEP = "resnet20_cifar", "resnet56_cifar"


def plain(blocks: int) -> ResNetConfig:
    """Three stages of so many blocks of two convolutions, without shortcuts."""
    return replace(cifar_resnet(blocks), shortcut="none")


TABLE = Table(
    name="degradation",
    seed_page="004",
    paper="Deep Residual Learning for Image Recognition",
    arxiv="1512.03385",
    claim="A plain net's training loss gets worse with depth, a residual net's does not.",
    scale="CIFAR-10, 64,000 steps of 128, rate 0.1: residual 20, 56: 8.75, 6.97 % error; plain nets as curves",
    contrasts=(
        versus("plain 56", "plain 20", CURVE, effect=0.2),
        versus(
            "residual 56",
            "residual 20",
            CURVE,
            "less",
            effect=0.05,
            main=False,
        ),
        Contrast(
            "what depth costs the plain net - the residual net",
            Published(None, "the claim", SOURCE, "read", "nats"),
            ("plain 56", "residual 20"),
            ("plain 20", "residual 56"),
            effect=0.2,
        ),
    ),
    study=Trainings(
        plain(3),
        (
            Arm("plain 20"),
            Arm("plain 56", network=plain(9)),
            Arm("residual 20", network=SHALLOW),
            Arm("residual 56", network=DEEP),
        ),
        epochs=5,
        sd=0.05,
        seeds=3,
        measure="train_loss",
        changes=("batch=64", "schedule.warmup=@0.1"),
    ),
    minutes=47.0,
    critique="plain nets of 10,000 layers train from other starts, arXiv:1806.05393 (m): a fact about the start",
)
