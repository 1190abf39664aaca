"""Convolutions whose filters are normalised by their mean: alone, in a classifier."""

from foveate.workflows.papers.hosts import RESNET_TINY, TINY, TINY_SD
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus

TABLE = Table(
    name="gconv",
    seed_page="003",
    paper="GConv, made for generators",
    arxiv="2111.15171",
    claim="A layer made for generators helps a classifier too.",
    scale="generators: Tiny-ImageNet, FID 35.13 to 29.76",
    contrasts=(versus("gconv", "conv", Published(None, "no classifier in the paper", "arXiv:2111.15171"), effect=1.0),),
    study=Trainings(
        RESNET_TINY, (Arm("conv"), Arm("gconv", ("model.layers.conv=gconv",))), epochs=6, sd=TINY_SD, changes=TINY
    ),
    minutes=40.0,
    critique="the paper's own claim is about generators; this table only asks whether it does harm elsewhere",
)
