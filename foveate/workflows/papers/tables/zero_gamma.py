"""Residual branches that start at zero, by depth."""

from foveate.workflows.papers.table import Arm, Contrast, Published, Table, Trainings, versus
from foveate.zoo import variant

SETTING = "ImageNet, ResNet-50, batch 1,024"
ZERO = ("model.zero_gamma=true",)

TABLE = Table(
    name="zero_gamma",
    seed_page="001",
    paper="Accurate, Large Minibatch SGD; Bag of Tricks",
    arxiv="1706.02677",
    claim="Residual branches whose last gain starts at zero train better, the more so the deeper the net.",
    scale="ImageNet, ResNet-50, batch 256 (+0.16) and 1,024 (+0.44)",
    contrasts=(
        versus("56, zero", "56", Published(0.44, SETTING, "arXiv:1812.01187, table 4", "memory")),
        Contrast(
            "gain at 56 - gain at 20",
            Published(None, "no figure: the direction", "arXiv:1706.02677, section 5.1"),
            ("56, zero", "20"),
            ("56", "20, zero"),
            main=False,
        ),
    ),
    study=Trainings(
        variant("resnet20_cifar_conv"),
        (
            Arm("20"),
            Arm("20, zero", ZERO),
            Arm("56", network=variant("resnet56_cifar_conv")),
            Arm("56, zero", ZERO, variant("resnet56_cifar_conv")),
        ),
        epochs=10,
        sd=0.7,
        changes=("batch=512", "optim.lr=0.4", "schedule.warmup=@0.1"),
    ),
    minutes=120.0,
    critique="branches begin late, so a short training loses (docs/benchmarks.md); the sign turns with the steps",
)
