"""Mixed pairs: where a net learns its pictures by heart, where it does not, and under wrong labels."""

from foveate.workflows.papers.hosts import RESNET_SMALL, SMALL, SMALL_SD
from foveate.workflows.papers.table import Arm, Contrast, Published, Table, Trainings, versus

CIFAR = "arXiv:1710.09412, table of CIFAR-10"
NOISE = ("loss.label_noise=0.4",)

TABLE = Table(
    name="mixup",
    seed_page="001",
    paper="mixup: Beyond Empirical Risk Minimization",
    arxiv="1710.09412",
    claim="Training on mixed pairs raises the accuracy, most under wrong labels.",
    scale="CIFAR-10, PreAct ResNet-18, WRN-28-10, 200 epochs, alpha 1",
    contrasts=(
        versus("alpha 1", "none", Published(1.4, "CIFAR-10, PreAct ResNet-18, 200 epochs", CIFAR, "memory")),
        versus("alpha 0.2", "none", Published(0.2, "ImageNet, ResNet-50, 90 epochs", CIFAR, "memory"), main=False),
        Contrast(
            "gain under 40 % wrong labels - gain without",
            Published(None, "the direction", "arXiv:1710.09412, section 3.4"),
            ("alpha 1, noise", "none"),
            ("none, noise", "alpha 1"),
        ),
    ),
    study=Trainings(
        RESNET_SMALL,
        (
            Arm("none"),
            Arm("alpha 0.2", ("mix.mixup=0.2",)),
            Arm("alpha 1", ("mix.mixup=1.0",)),
            Arm("none, noise", NOISE),
            Arm("alpha 1, noise", ("mix.mixup=1.0", *NOISE)),
        ),
        pictures=2_000,
        epochs=150,
        sd=SMALL_SD,
        changes=SMALL,
    ),
    minutes=165.0,
    critique="the gain grows with the epochs: 0.2 at 90 and 1.4 at 200 epochs of ImageNet (m); in a few it is negative",
)
