"""Attention residual learning against a plain product with the mask, and the three kinds of masks."""

from foveate.config import replace
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus
from foveate.zoo import variant

ATTENTION = variant("attention56_cifar")
FULL = "CIFAR-10, Attention-56, 160,000 steps"

TABLE = Table(
    name="attention_residual",
    seed_page="000, 003",
    paper="Residual Attention Network",
    arxiv="1704.06904",
    claim="(1 + M) T learns better than M T, and mixed masks better than channel or spatial ones.",
    scale="CIFAR-10: residual/naive 5.52/5.89 at 56, 4.31/7.18 at 164 layers; masks 5.52, 6.24, 6.33 % error",
    contrasts=(
        versus("residual", "naive", Published(0.37, FULL, "arXiv:1704.06904, table 2", "memory")),
        versus("residual", "channel masks", Published(0.72, FULL, "arXiv:1704.06904, table 1", "memory"), main=False),
        versus("residual", "spatial masks", Published(0.81, FULL, "arXiv:1704.06904, table 1", "memory"), main=False),
    ),
    study=Trainings(
        replace(ATTENTION, stem_width=16),
        (
            Arm("residual"),
            Arm("naive", ("model.learning=naive",)),
            Arm("channel masks", ("model.mask=channel",)),
            Arm("spatial masks", ("model.mask=spatial",)),
        ),
        epochs=10,
        sd=0.7,
        changes=("batch=64", "schedule.warmup=@0.1"),
        resolution=32,
    ),
    minutes=300.0,
    critique="a course project found 16.6/18.0 at 56 and masks 16.6, 19.2, 15.4: spatial best, one seed",
)
