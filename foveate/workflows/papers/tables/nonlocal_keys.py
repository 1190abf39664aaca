"""Softmax attention whose keys have a length of one: does attention follow the length of the keys?"""

from foveate.workflows.papers.hosts import RESNET_TINY, TINY, TINY_SD
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus

SOURCE = "arXiv:2207.13423"
AT = "model.stages.1.before_last="

TABLE = Table(
    name="nonlocal_keys",
    seed_page="003",
    paper="Scaled non-local blocks",
    arxiv="2207.13423",
    claim="Softmax attention follows the length of the keys; without it the block is better.",
    scale="CIFAR and Tiny-ImageNet, WRN with one block; the table was not retrieved",
    contrasts=(versus("keys of length one", "softmax", Published(None, "a control of the claim", SOURCE), effect=0.5),),
    study=Trainings(
        RESNET_TINY,
        (Arm("softmax", (f"{AT}nonlocal",)), Arm("keys of length one", (f"{AT}nonlocal(unit_keys=True)",))),
        epochs=6,
        sd=TINY_SD,
        changes=TINY,
    ),
    minutes=60.0,
)
