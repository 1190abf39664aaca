"""A cell that was searched for against random cells, with the same training."""

import random

from foveate.config import replace
from foveate.layers import Layers
from foveate.workflows.papers.table import Arm, Contrast, Published, Table, Trainings
from foveate.zoo.families.nasnet.blocks import Block, CellWidths, Genotype, Op
from foveate.zoo.families.nasnet.network import NASNetConfig, Stage

SOURCE = "arXiv:1707.07012, section 4.4"
OPS: tuple[Op, ...] = ("identity", "sep_3x3", "sep_5x5", "sep_7x7", "max_3x3", "avg_3x3", "conv_1x1", "conv_3x3")
RANDOM = 4


def random_cell(seed: int) -> Genotype:
    """Five blocks, each of two states and two operations drawn evenly."""
    draw = random.Random(seed)
    blocks = []
    for i in range(5):
        left, right = draw.randrange(i + 2), draw.randrange(i + 2)
        blocks.append(Block(left, draw.choice(OPS), right, draw.choice(OPS)))
    return Genotype(tuple(blocks))


def net(seed: int | None) -> NASNetConfig:
    """A cell a stage of 12, 24 and 48 filters for 32 px; None: NASNet-A."""
    stages = (Stage((CellWidths(12),)), *(Stage((CellWidths(filters),) * 2) for filters in (24, 48)))
    base = NASNetConfig(
        stages,
        stem="cifar",
        stem_width=24,
        padding="symmetric",
        dropout=0.0,
        layers=Layers("batch_norm"),
        num_classes=10,
        resolution=32,
    )
    if seed is None:
        return base
    made: NASNetConfig = replace(base, normal=random_cell(seed), reduction=random_cell(100 + seed))
    return made


NAMES = tuple(f"random {i}" for i in range(RANDOM))

TABLE = Table(
    name="nasnet_cells",
    seed_page="002",
    paper="Learning Transferable Architectures for Scalable Image Recognition",
    arxiv="1707.07012",
    claim="A cell found by search is better than random cells with the same training.",
    scale="CIFAR-10, the best 25 by reinforcement against the best 25 random: about 1 point",
    contrasts=(
        Contrast(
            "NASNet-A - mean of 4 random cells",
            Published(1.0, "CIFAR-10, mean of the best 25", SOURCE, "memory"),
            ("NASNet-A",) * RANDOM,
            NAMES,
            times=1 / RANDOM,
        ),
    ),
    study=Trainings(
        net(None),
        (Arm("NASNet-A"), *(Arm(name, network=net(i)) for i, name in enumerate(NAMES))),
        epochs=10,
        sd=0.7,
        changes=("batch=64", "optim.lr=0.05", "schedule.warmup=@0.1"),
    ),
    minutes=150.0,
    critique="the cells differ in cost; arXiv:1902.07638 and 1912.12522: random with the same training is close",
)
