"""Where a squeeze-and-excitation gate stands, and how it squeezes."""

from foveate.workflows.papers.hosts import RESNET_SMALL, SMALL
from foveate.workflows.papers.table import Arm, Published, Table, Trainings, versus

PLACES, SQUEEZES = "arXiv:1709.01507, table 14", "arXiv:1709.01507, table 11"
SETTING = "ImageNet, ResNet-50"
SE = "model.layers.attn=se"

TABLE = Table(
    name="se_placement",
    seed_page="004",
    paper="Squeeze-and-Excitation Networks",
    arxiv="1709.01507",
    claim="A gate before the sum is as good in front of the branch or on the shortcut, and worse behind the sum.",
    scale="ImageNet, ResNet-50: branch 22.28, before 22.23, behind the sum 22.78, shortcut 22.20 % error; max 22.57",
    contrasts=(
        versus("post", "branch", Published(-0.50, SETTING, PLACES, "read"), "less"),
        versus("pre", "branch", Published(0.05, SETTING, PLACES, "read"), "same"),
        versus("identity", "branch", Published(0.08, SETTING, PLACES, "read"), "same"),
        versus("max", "branch", Published(-0.29, SETTING, SQUEEZES, "read"), "less", main=False),
    ),
    study=Trainings(
        RESNET_SMALL,
        (
            Arm("branch", (SE,)),
            *(Arm(place, (SE, f"model.attn_at={place}")) for place in ("pre", "post", "identity")),
            Arm("max", ('model.layers.attn=se(squeeze="max")',)),
        ),
        pictures=0,
        epochs=10,
        sd=0.2,
        changes=SMALL,
    ),
    minutes=225.0,
    critique="differences of 0.05 are inside ImageNet's noise of a run (0.1)",
)
