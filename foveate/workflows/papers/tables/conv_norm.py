"""Convolutions normalised as operators, with clean and with wrong labels."""

from foveate.workflows.papers.hosts import RESNET_TINY, TINY, TINY_SD
from foveate.workflows.papers.table import Arm, Contrast, Published, Table, Trainings, versus

NORMED, NOISE = "model.layers.conv=conv_norm", "loss.label_noise=0.4"

TABLE = Table(
    name="conv_norm",
    seed_page="003",
    paper="Convolutional Normalization",
    arxiv="2103.00673",
    claim="Convolutions normalised by their spectrum train better, and hold better against wrong labels.",
    scale="CIFAR-10, ResNet-18; under attack (FGSM, adversarially trained) 51.72 to 52.87, 4 seeds",
    contrasts=(
        versus("conv_norm", "conv", Published(None, "not retrieved", "arXiv:2103.00673"), effect=1.0),
        Contrast(
            "gain under 40 % wrong labels - gain without",
            Published(None, "not retrieved", "arXiv:2103.00673"),
            ("conv_norm, noise", "conv"),
            ("conv, noise", "conv_norm"),
            effect=1.0,
        ),
    ),
    study=Trainings(
        RESNET_TINY,
        (
            Arm("conv"),
            Arm("conv_norm", (NORMED,)),
            Arm("conv, noise", (NOISE,)),
            Arm("conv_norm, noise", (NORMED, NOISE)),
        ),
        epochs=6,
        sd=TINY_SD,
        changes=TINY,
    ),
    minutes=70.0,
    critique="+5.3 points in 3 epochs here (docs/benchmarks.md); whether it lasts is the question; 5 times the time",
)
