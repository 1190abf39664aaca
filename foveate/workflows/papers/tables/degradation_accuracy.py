"""Degradation in accuracy, beside that in the training loss, with an identity start as a control."""

from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus
from foveate.workflows.papers.tables.degradation import SHALLOW, SOURCE, plain

TABLE = Table(
    name="degradation_accuracy",
    seed_page="004",
    paper="Deep Residual Learning for Image Recognition",
    arxiv="1512.03385",
    claim="A plain net of 56 layers is less accurate than one of 20; a start as the identity mends it.",
    scale="CIFAR-10, 64,000 steps of 128, plain nets as curves",
    contrasts=(
        versus("plain 56", "plain 20", Published(None, "a curve", SOURCE, "read"), "less", effect=5.0),
        versus(
            "plain 56, dirac",
            "plain 56",
            Published(None, "a control", "arXiv:1806.05393", "expected"),
            effect=5.0,
            main=False,
        ),
        versus("residual 20", "plain 20", Published(0.5, "ImageNet, 18 layers 0.06", SOURCE, "expected"), main=False),
    ),
    study=Trainings(
        plain(3),
        (
            Arm("plain 20"),
            Arm("plain 56", network=plain(9)),
            Arm("plain 56, dirac", ("init=dirac",), plain(9)),
            Arm("residual 20", network=SHALLOW),
        ),
        epochs=5,
        sd=1.0,
        seeds=3,
        changes=("batch=64", "schedule.warmup=@0.1"),
    ),
    minutes=50.0,
)
