"""Half of the features made by cheap operations, against a net that is simply narrower."""

from foveate.workflows.papers.hosts import vgg
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus

SOURCE = "arXiv:1911.11907, tables 3 and 4"
SETTING = "CIFAR-10, VGG-16"
FULL, NARROW = vgg((32, 64, 128, 128)), vgg((23, 45, 91, 91))

TABLE = Table(
    name="ghost",
    seed_page="003",
    paper="GhostNet: More Features from Cheap Operations",
    arxiv="1911.11907",
    claim="Ghost modules halve the multiply-adds without loss, and are better than a narrower net.",
    scale="CIFAR-10, VGG-16: 93.6; ghost ratio 2, 3, 4, 5: 93.7, 93.4, 93.0, 92.9",
    contrasts=(
        versus("ratio 2", "full", Published(0.1, SETTING, SOURCE, "memory"), "same"),
        versus("ratio 2", "narrow", Published(None, "a control that the paper lacks", "-", "expected"), effect=0.5),
        versus("ratio 4", "ratio 2", Published(-0.7, SETTING, SOURCE, "memory"), "less", main=False),
        versus(
            "ratio 2, 1x1",
            "ratio 2",
            Published(-0.2, f"{SETTING}, cheap kernel 1 against 3", SOURCE, "memory"),
            "less",
            main=False,
        ),
    ),
    study=Trainings(
        FULL,
        (
            Arm("full"),
            Arm("narrow", network=NARROW),
            Arm("ratio 2", ("model.layers.conv=ghost(ratio=2)",)),
            Arm("ratio 4", ("model.layers.conv=ghost(ratio=4)",)),
            Arm("ratio 2, 1x1", ("model.layers.conv=ghost(ratio=2, cheap_kernel=1)",)),
        ),
        pictures=0,
        epochs=5,
        sd=0.3,
        changes=("schedule.warmup=@0.1",),
    ),
    minutes=75.0,
    critique="the narrower net of equal multiply-adds is missing in the paper",
)
