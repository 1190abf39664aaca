"""The four steps from Inception-v2 to v3, one on top of the other."""

from typing import Any

from foveate.compress.explicit import assign, widths
from foveate.config import replace
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus
from foveate.zoo import variant

SOURCE = "arXiv:1512.00567, table 3"
SETTING = "ImageNet, single crop"
RMSPROP = ("optim.name=rmsprop_tf(alpha=0.9, eps=1.0)", "optim.lr=0.09", "optim.weight_decay=4e-5")
SMOOTHED = (*RMSPROP, "loss.smoothing=0.1")


def quarter(name: str, aux_norm: bool) -> Any:
    """An Inception of a quarter of its channels for 75 px, with its auxiliary head."""
    config = variant(name)
    small = assign(config, {path: max(8, width // 4) for path, width in widths(config).items()})
    return replace(small, num_classes=10, resolution=107, dropout=0.2, aux=True, aux_norm=aux_norm)


TABLE = Table(
    name="inception_v2_to_v3",
    seed_page="004",
    paper="Rethinking the Inception Architecture for Computer Vision",
    arxiv="1512.00567",
    claim="RMSProp, smoothing, a factorised 7x7 and a norm in the auxiliary head each lower the error.",
    scale="ImageNet: v2 23.4, RMSProp 23.1, smoothing 22.8, factorised 7x7 21.6, BN-auxiliary 21.2 % error",
    contrasts=(
        versus("+ RMSProp", "v2", Published(0.3, SETTING, SOURCE, "read"), main=False),
        versus("+ smoothing", "+ RMSProp", Published(0.3, SETTING, SOURCE, "read"), main=False),
        versus("+ 7x7", "+ smoothing", Published(1.2, SETTING, SOURCE, "read")),
        versus("+ BN-auxiliary", "+ 7x7", Published(0.4, SETTING, SOURCE, "read"), main=False),
    ),
    study=Trainings(
        quarter("inception_v2", False),
        (
            Arm("v2"),
            Arm("+ RMSProp", RMSPROP),
            Arm("+ smoothing", SMOOTHED),
            Arm("+ 7x7", SMOOTHED, quarter("inception_v3", False)),
            Arm("+ BN-auxiliary", SMOOTHED, quarter("inception_v3", True)),
        ),
        epochs=10,
        sd=0.5,
        seeds=3,
        changes=("batch=64", "optim.lr=0.05", "schedule.warmup=@0.1"),
        own_batch=True,
        resolution=107,
    ),
    minutes=120.0,
    critique=(
        "in the paper the factorised 7x7 is the stem's, made of three 3x3, not the 1x7 and 7x1 of the 17x17 maps; the"
        " step also costs 1 G multiply-adds; the rate of RMSProp is not tuned"
    ),
)
