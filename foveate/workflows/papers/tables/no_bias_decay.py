"""No weight decay on biases and gains: an equivalence, for the paper's own table shows no gain alone."""

from foveate.workflows.papers.hosts import FAST, FAST_SD
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus

TABLE = Table(
    name="no_bias_decay",
    seed_page="001",
    paper="Bag of Tricks; Highly Scalable Deep Learning Training System",
    arxiv="1812.01187",
    claim="Leaving biases and gains out of weight decay costs nothing (within 0.3 points).",
    scale="ImageNet, ResNet-50, batch 256 (-0.03) and 1,024 (-0.34), one run each",
    contrasts=(
        versus(
            "no bias decay",
            "decay all",
            Published(-0.03, "ImageNet, ResNet-50, batch 256", "arXiv:1812.01187, table 4", "memory"),
            "same",
        ),
    ),
    study=Trainings(
        FAST,
        (Arm("decay all", ("optim.decay_all=true",)), Arm("no bias decay", ("optim.decay_all=false",))),
        pictures=0,
        epochs=5,
        sd=FAST_SD,
        recipe="cifar_fast",
        resolution=32,
    ),
    minutes=45.0,
    critique="arXiv:1807.11205 argues for it; weiaicunzai's CIFAR-100 ladder found nothing",
)
