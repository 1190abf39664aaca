"""Wide and shallow against thin and deep, at about equal parameters."""

from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus
from foveate.zoo import variant
from foveate.zoo.families.resnet.network import wide

TABLE = Table(
    name="width_depth",
    seed_page="003",
    paper="Wide Residual Networks",
    arxiv="1605.07146",
    claim="A wide shallow residual net beats a thin deep one of as many parameters.",
    scale="CIFAR-10, WRN-28-10 4.00 % against pre-activation ResNet-1001 4.92 %, 200 epochs",
    contrasts=(
        versus(
            "16 deep, 2 wide",
            "40 deep, 1 wide",
            Published(0.92, "CIFAR-10, WRN-28-10 against ResNet-1001", "arXiv:1605.07146, table 5", "memory"),
        ),
        versus(
            "16 deep, 2 wide, dropout",
            "16 deep, 2 wide",
            Published(0.11, "CIFAR-10, WRN-28-10", "arXiv:1605.07146, table 6", "memory"),
            main=False,
        ),
    ),
    study=Trainings(
        variant("wrn40_1_cifar"),
        (
            Arm("40 deep, 1 wide"),
            Arm("16 deep, 2 wide", network=wide(16, 2)),
            Arm("16 deep, 2 wide, dropout", ("model.dropout=0.3",), wide(16, 2)),
        ),
        sd=0.5,
        changes=("schedule.warmup=@0.05",),
    ),
    minutes=180.0,
    critique="0.69 M against 0.56 M parameters; per multiply-add the wide net is 1.4 times as fast on a processor",
)
