"""Label smoothing: accuracy, and what it does to calibration."""

from foveate.workflows.papers.hosts import FAST, FAST_SD
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus

INCEPTION = Published(0.3, "ImageNet, Inception-v2 with RMSProp", "arXiv:1512.00567, table 3", "read")

NONE, SMOOTHED = Arm("none", ("loss.smoothing=0",)), Arm("0.1", ("loss.smoothing=0.1",))

TABLE = Table(
    name="label_smoothing",
    seed_page="001, 004",
    paper="Rethinking the Inception Architecture; Bag of Tricks",
    arxiv="1512.00567",
    claim="Smoothing the labels by 0.1 raises the accuracy a little.",
    scale="ImageNet, Inception-v2 (23.1 to 22.8 % error), ResNet-50-D (+0.40)",
    contrasts=(
        versus("0.1", "none", INCEPTION),
        versus("0.2", "none", Published(None, "not in the paper", "-", "expected"), effect=0.2, main=False),
        versus("0.1, others", "0.1", Published(0.0, "two ways to share it", "-", "expected"), "same", main=False),
    ),
    study=Trainings(
        FAST,
        (
            NONE,
            SMOOTHED,
            Arm("0.2", ("loss.smoothing=0.2",)),
            Arm("0.1, others", ("loss.smoothing=0.1", "loss.spread=others")),
        ),
        pictures=0,
        epochs=5,
        sd=FAST_SD,
        seeds=8,
        recipe="cifar_fast",
        resolution=32,
    ),
    minutes=144.0,
    critique="arXiv:1906.02629: nothing on CIFAR-10, about 0.6 on CIFAR-100, and a smoothed teacher distils worse (m)",
)
