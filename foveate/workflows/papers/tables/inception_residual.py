"""Shortcuts around Inception blocks, and their scale."""

from foveate.layers import Layers
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus
from foveate.zoo.families.inception.blocks import Branch, Mixed, Stage, Unit
from foveate.zoo.families.inception.network import InceptionConfig

SOURCE = "arXiv:1602.07261, section 3.3"


def block(scale: float | None) -> Mixed:
    """Inception-A of 64 channels: 1x1; 1x1, 3x3; 1x1, 3x3, 3x3; mean, 1x1."""
    return Mixed(
        (
            Branch((Unit(16),)),
            Branch((Unit(12), Unit(16, 3))),
            Branch((Unit(12), Unit(16, 3), Unit(16, 3))),
            Branch((Unit(16),), "avg"),
        ),
        scale,
    )


def net(scale: float | None) -> InceptionConfig:
    """A stem, and two stages of three blocks, the second of half the resolution."""
    stem = Mixed((Branch((Unit(64, 3),)),))
    down = Mixed((Branch((Unit(64, 3, 2),)),))
    stages = (Stage((stem, down, *(block(scale),) * 3)), Stage((down, *(block(scale),) * 3)))
    return InceptionConfig(stages, dropout=0.0, layers=Layers("batch_norm"), num_classes=10, resolution=32)


TABLE = Table(
    name="inception_residual",
    seed_page="004",
    paper="Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning",
    arxiv="1602.07261",
    claim="Shortcuts make Inception train faster; the end is about the same.",
    scale="ImageNet, Inception-v4 20.0/5.0, Inception-ResNet-v2 19.9/4.9 % error; scales 0.1 to 0.3",
    contrasts=(
        versus(
            "scale 1",
            "none",
            Published(None, "faster: the training loss at equal epochs", SOURCE, "memory", "nats"),
            "less",
            effect=0.1,
        ),
        versus("scale 0.1", "none", Published(None, "the direction", SOURCE, "memory", "nats"), "less", main=False),
        versus("scale 0.3", "none", Published(None, "the direction", SOURCE, "memory", "nats"), "less", main=False),
    ),
    study=Trainings(
        net(None),
        (
            Arm("none"),
            Arm("scale 0.1", network=net(0.1)),
            Arm("scale 0.3", network=net(0.3)),
            Arm("scale 1", network=net(1.0)),
        ),
        epochs=10,
        sd=0.05,
        measure="train_loss",
        changes=("batch=64", "optim.lr=0.05", "schedule.warmup=@0.1"),
    ),
    minutes=60.0,
    critique="with a shortcut a block has a 1x1 more; nets that die unscaled have over 1,000 filters, not these",
)
