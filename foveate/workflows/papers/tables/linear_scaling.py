"""The linear scaling rule and warm-up at large batches."""

from foveate.workflows.papers.hosts import RESNET_SMALL, SMALL_SD
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus

GOYAL = "arXiv:1706.02677, table 1"
SETTING = "ImageNet, ResNet-50, batch 8,192 against 256"

TABLE = Table(
    name="linear_scaling",
    seed_page="001",
    paper="Accurate, Large Minibatch SGD",
    arxiv="1706.02677",
    claim="A rate proportional to the batch keeps the accuracy at large batches, if it is warmed up.",
    scale="ImageNet, ResNet-50, batch 256 to 65,536, 90 epochs, 5 runs a row",
    contrasts=(
        versus("1024 scaled, warm-up", "1024 unscaled", Published(None, SETTING, GOYAL), effect=5.0),
        versus("1024 scaled, warm-up", "1024 scaled", Published(1.10, SETTING, GOYAL), main=False),
        versus("1024 scaled, warm-up", "128", Published(-0.14, SETTING, GOYAL), "same", margin=0.5),
    ),
    study=Trainings(
        RESNET_SMALL,
        (
            Arm("128", ("batch=128", "optim.lr=0.05")),
            Arm("1024 unscaled", ("batch=1024", "optim.lr=0.05")),
            Arm("1024 scaled", ("batch=1024", "optim.lr=0.4", "schedule.warmup=0")),
            Arm("1024 scaled, warm-up", ("batch=1024", "optim.lr=0.4", "schedule.warmup=@0.2")),
        ),
        sd=SMALL_SD,
        changes=("schedule.warmup=@0.05",),
        own_batch=True,
    ),
    minutes=75.0,
    critique="arXiv:1811.03600: no scaling rule holds across tasks; where the rate saturates depends on the task",
)
