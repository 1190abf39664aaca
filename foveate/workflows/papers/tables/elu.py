"""ELU against ReLU, with norms and without."""

from foveate.layers import Layers
from foveate.workflows.papers.hosts import vgg
from foveate.workflows.papers.table import Arm, Contrast, Published, Table, Trainings, versus

SOURCE = "arXiv:1511.07289, section 4.2"
WIDTHS = (16, 32, 64, 64)
PLAIN = vgg(WIDTHS, Layers(norm="none", conv="conv2d_bias"))
NORMED = vgg(WIDTHS)
ELU, LEAKY = "model.layers.act=elu", "model.layers.act=leaky_relu"

TABLE = Table(
    name="elu",
    seed_page="003",
    paper="Fast and Accurate Deep Network Learning by Exponential Linear Units",
    arxiv="1511.07289",
    claim="Without norms ELU is better than ReLU; with batch norm it gains nothing.",
    scale="CIFAR-100, 11 layers without norms: ELU 28.8, ReLU 31.6 % error",
    contrasts=(
        versus("ELU", "ReLU", Published(2.8, "CIFAR-100, 11 layers", SOURCE, "memory")),
        versus("leaky", "ReLU", Published(None, "the direction", SOURCE), main=False),
        versus("ELU, BN", "ReLU, BN", Published(0.0, "batch norm adds nothing", SOURCE, "memory"), "same", margin=1.0),
        Contrast(
            "gain without norms - gain with",
            Published(None, "the direction", SOURCE),
            ("ELU", "ReLU, BN"),
            ("ReLU", "ELU, BN"),
            effect=2.0,
            main=False,
        ),
    ),
    study=Trainings(
        PLAIN,
        (
            Arm("ReLU"),
            Arm("ELU", (ELU,)),
            Arm("leaky", (LEAKY,)),
            Arm("ReLU, BN", network=NORMED),
            Arm("ELU, BN", (ELU,), NORMED),
        ),
        epochs=10,
        sd=0.7,
        changes=("batch=64", "optim.lr=0.02", "schedule.warmup=@0.1", "init=kaiming"),
    ),
    minutes=60.0,
    critique="one rate for all arms, that of ReLU; on a processor the step takes as long, ELU alone 4 times as long",
)
