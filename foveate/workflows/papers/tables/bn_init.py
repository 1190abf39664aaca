"""Batch-norm gains that start small and learn slowly."""

from foveate.workflows.papers.hosts import RESNET_SMALL, SMALL, SMALL_SD
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus

SOURCE = "arXiv:2110.13989"


def small(scale: float, divisor: float) -> tuple[str, ...]:
    """Gains from this, their rate divided by that."""
    return (f"model.layers.norm=bn_small_init(scale={scale}, lr_divisor={divisor})",)


TABLE = Table(
    name="bn_init",
    seed_page="003",
    paper="Batch-norm scales that start at 0.1",
    arxiv="2110.13989",
    claim="Gains that start at 0.1 and learn at a hundredth of the rate end better.",
    scale="CIFAR, 180 epochs, batch 128, rate 0.1 cosine, 15 seeds, one-sided paired t; effects of a few tenths",
    contrasts=(
        versus("0.1, rate / 100", "1, rate / 1", Published(0.3, "CIFAR-10, a few tenths", SOURCE, "memory")),
        versus("0.1, rate / 1", "1, rate / 1", Published(None, "not retrieved", SOURCE), main=False),
        versus("0.5, rate / 100", "1, rate / 1", Published(None, "not retrieved", SOURCE), main=False),
    ),
    study=Trainings(
        RESNET_SMALL,
        (
            Arm("1, rate / 1"),
            Arm("0.1, rate / 1", small(0.1, 1.0)),
            Arm("0.5, rate / 100", small(0.5, 100.0)),
            Arm("0.1, rate / 100", small(0.1, 100.0)),
        ),
        epochs=60,
        sd=SMALL_SD,
        seeds=8,
        changes=SMALL,
    ),
    minutes=360.0,
    critique="after 3 epochs it costs 15 to 24 points here (docs/benchmarks.md): the curves have to cross later",
)
