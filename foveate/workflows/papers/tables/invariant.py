"""Layers that do not feel the scale of their weights, at large rates."""

from foveate.workflows.papers.hosts import RESNET_TINY, TINY, TINY_SD
from foveate.workflows.papers.table import Arm, Contrast, Published, Table, Trainings, versus

SOURCE = "arXiv:2103.16634"
NORM, HIGH = "model.layers.norm=invariant_norm", "optim.lr=0.5"

TABLE = Table(
    name="invariant",
    seed_page="003",
    paper="Scale-invariant normalisation",
    arxiv="2103.16634",
    claim="Invariant norms train better than batch norm, and bear a larger rate.",
    scale="not retrieved",
    contrasts=(
        versus("invariant", "BN", Published(None, "not retrieved", SOURCE), effect=2.0),
        Contrast(
            "what BN loses at 10 times the rate - what invariant loses",
            Published(None, "not retrieved", SOURCE),
            ("BN", "invariant, rate x 10"),
            ("BN, rate x 10", "invariant"),
            effect=2.0,
        ),
    ),
    study=Trainings(
        RESNET_TINY,
        (
            Arm("BN"),
            Arm("invariant", (NORM,)),
            Arm("BN, rate x 10", (HIGH,)),
            Arm("invariant, rate x 10", (NORM, HIGH)),
        ),
        epochs=6,
        sd=TINY_SD,
        changes=TINY,
        own_batch=True,
    ),
    minutes=90.0,
    critique="+3.2 and +1.9 points here (docs/benchmarks.md) at 24 times the time of the layer",
)
